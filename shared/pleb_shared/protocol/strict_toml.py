"""TOML that people write: a text in, tables out, or an error with a sentence and its place.

`tomllib` alone lets pass what no setting means, and fails in its own ways: a whole number of 5,000
digits is a `ValueError` of `int`, deep nesting a `RecursionError`, a dotted key of 50,000 parts a
search of minutes, and 1e999 is infinity.
"""

from __future__ import annotations

import math
import re
import tomllib
from typing import Any, Final

from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS

__all__ = ["TomlError", "parse"]

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY: Final = re.compile(
    rf"(?<![A-Za-z0-9_-]){_PART}(?:\.[ \t]*+{_PART}){{{LIMITS.json_depth}}}"
)
"""More parts between dots than any nesting that is read; a text that looks so is refused too."""
_MOST_INTEGER: Final = 2**63 - 1
_SHOWN_CHARACTERS: Final = 80


class TomlError(InputError):
    """A text is not TOML, or has what is not read.

    `line` and `column` are from 1 and None at the end of the text; `path` names the value, where
    only that is known.
    """

    def __init__(
        self,
        reason: str,
        *,
        line: int | None = None,
        column: int | None = None,
        path: tuple[str, ...] = (),
    ) -> None:
        where = f" (line {line}, column {column})" if line else ""
        where = where or (f" ({'.'.join(path)})" if path else "")
        super().__init__(f"{reason}{where}")
        self.reason, self.line, self.column, self.path = reason, line, column, path


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a text.

    Raises:
        TomlError: it is not TOML, is too long, is nested too deep, or has a number that is not
            finite, has more than 64 bits, or is spelled with too many digits.
    """
    if len(text) > LIMITS.settings_bytes:
        message = f"it has {len(text)} characters; at most {LIMITS.settings_bytes} are read"
        raise TomlError(message, line=1, column=1)
    if match := _LONG_KEY.search(text):
        raise _at(text, match.start(), f"a key has more than {LIMITS.json_depth} parts")
    try:
        found = tomllib.loads(text, parse_float=_number)
    except RecursionError as error:
        raise TomlError(_too_deep(), line=1, column=1) from error
    except _LongNumberError as error:
        digits = f"a number has more than {LIMITS.number_characters} characters"
        raise _at(text, text.find(error.text), digits) from error
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error)) from error
    except ValueError as error:  # `int` reads 4,300 digits at most; or a date that does not exist
        long = re.search(r"\d[\d_]{4000,}", text)
        if long is None:
            raise TomlError(f"a value cannot be read: {error}", line=1, column=1) from error
        raise _at(text, long.start(), "a whole number has more than 64 bits") from error
    _check_values(found)
    return found


class _LongNumberError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text[:_SHOWN_CHARACTERS])
        self.text = text


def _number(text: str) -> float:
    if len(text) > LIMITS.number_characters:
        raise _LongNumberError(text)
    return float(text)


def _check_values(tables: dict[str, Any]) -> None:
    """Refuse numbers and nesting out of bounds, without recursion."""
    rest: list[tuple[tuple[str, ...], Any]] = [((), tables)]
    while rest:
        path, value = rest.pop()
        if isinstance(value, dict | list):
            if len(path) > LIMITS.json_depth:
                raise TomlError(_too_deep(), path=path[:2])
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            rest += [((*path, str(name)), one) for name, one in inner]
        elif isinstance(value, float) and not math.isfinite(value):
            raise TomlError("a number is not finite", path=path)
        elif isinstance(value, int) and not -_MOST_INTEGER - 1 <= value <= _MOST_INTEGER:
            raise TomlError("a whole number has more than 64 bits", path=path)


def _too_deep() -> str:
    return f"it is nested deeper than {LIMITS.json_depth} levels"


def _at(text: str, at: int, reason: str) -> TomlError:
    line = text.count("\n", 0, at) + 1
    return TomlError(reason, line=line, column=at - text.rfind("\n", 0, at))


def _syntax(message: str) -> TomlError:
    match = _PLACE.search(message)
    reason = message[: match.start()] if match else message
    reason = reason[:1].lower() + reason[1:]
    if match is None or match[1] is None:
        return TomlError(reason)
    return TomlError(reason, line=int(match[1]), column=int(match[2]))
