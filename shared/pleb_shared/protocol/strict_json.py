"""Strict JSON: exact bytes in, a checked struct out, or a typed refusal with a sentence."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS

__all__ = ["decode", "encode", "parse"]

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""Its end may be missing, and nothing is tried twice: else `"\\"\\"...` would cost a search of the
rest for each of its quotes."""
_INNERMOST: Final = re.compile(rb"\[\]|\{\}")
_MINUS_ZERO: Final = re.compile(rb"[:\[,][ \t\r\n]*-0[ \t\r\n]*[,\]}]")
_MAKING: Final = threading.Lock()
_SHOWN_CHARACTERS: Final = 80
_SHOWN_ERROR: Final = 300
"""Of msgspec's sentence, which repeats an unknown field's name whole."""
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def encode(value: object) -> bytes:
    """Return `value` as JSON bytes: these bytes are what is signed, hashed and sent."""
    return _ENCODER.encode(value)


def decode(data: bytes, kind: type[T], *, most_bytes: int = LIMITS.message_bytes) -> T:
    """Return the struct of type `kind` that `data` spells.

    Raises:
        Refusal: `too_large`, or `malformed`: not JSON, a key twice, nested too deep, an
            unknown or missing field, a wrong type, a number out of range.
    """
    _check_form(data, most_bytes)
    decoder = _DECODERS.get(kind) or _decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"The message is not a valid {kind.__name__}: {str(error)[:_SHOWN_ERROR]}."
        raise Refusal(RefusalCode.MALFORMED, message) from error


def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    """Return a new decoder, for all later messages of that kind.

    msgspec notes what it finds out about a struct at the struct itself, before it has all of it:
    another thread that makes a decoder of the same one meanwhile would crash the process.
    """
    with _MAKING:
        return _DECODERS.setdefault(kind, msgspec.json.Decoder(kind))


def parse(data: bytes, *, most_bytes: int = LIMITS.message_bytes) -> Any:
    """Return the lists, tables, texts and numbers that `data` spells, for what has no type yet.

    Raises:
        Refusal: as `decode`.
    """
    _check_form(data, most_bytes)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(RefusalCode.MALFORMED, f"The message is not JSON: {error}.") from error


def _check_form(data: bytes, most_bytes: int) -> None:
    """Refuse what msgspec lets pass: a key given twice, NaN, and nesting out of bounds."""
    if len(data) > most_bytes:
        message = f"The message has {len(data)} bytes; at most {most_bytes} are read."
        raise Refusal(RefusalCode.TOO_LARGE, message)
    if not _shallow(data):
        message = f"The message is nested deeper than {LIMITS.json_depth} levels."
        raise Refusal(RefusalCode.MALFORMED, message)
    if b"-0" in data and _MINUS_ZERO.search(data) and _MINUS_ZERO.search(_STRING.sub(b"", data)):
        message = "The message has a whole number -0: write 0."
        raise Refusal(RefusalCode.MALFORMED, message)
    try:
        _FORM.decode(data.decode("utf-8"))
    except (_FormError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refusal(RefusalCode.MALFORMED, f"The message is not JSON: {error}.") from error
    except ValueError as error:  # `int` reads 4,300 digits at most; msgspec reads 64 bits
        message = "The message has a whole number that is too large."
        raise Refusal(RefusalCode.MALFORMED, message) from error


def _shallow(data: bytes) -> bool:
    """Whether no bracket is nested too deep; each pass removes the innermost ones."""
    if data.count(b"[") + data.count(b"{") <= LIMITS.json_depth:
        return True
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    for _ in range(LIMITS.json_depth):
        brackets = _INNERMOST.sub(b"", brackets)
    return not brackets


class _FormError(ValueError):
    """JSON that Python's parser would take."""


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        counted = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counted.items() if count > 1)
        message = f"the key {twice[:_SHOWN_CHARACTERS]!r} is there twice"
        raise _FormError(message)


def _finite(text: str) -> float:
    if len(text) > LIMITS.number_characters:
        message = f"a number has more than {LIMITS.number_characters} characters"
        raise _FormError(message)
    number = float(text)
    if not math.isfinite(number):
        message = f"the number {text[:_SHOWN_CHARACTERS]} is too large"
        raise _FormError(message)
    return number


def _no_constant(text: str) -> NoReturn:
    message = f"{text} is not a JSON number"
    raise _FormError(message)


_FORM: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)
"""Made once: `json.loads` would make another one for each message."""
