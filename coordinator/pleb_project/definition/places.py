"""Where keys and values are in a TOML text, and the error that shows the place with a caret.

`tomllib` reports no places. `find_places` walks once over a text that it has accepted, statement
by statement, and has to know of values only where strings, brackets and comments end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

__all__ = ["DefinitionError", "Place", "find_places"]

_KEY_PART: Final = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_SHOWN_COLUMNS: Final = 200
"""Of a line that is wrong."""
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PIECE: Final = re.compile(
    r'"{3}(?:[^\\]|\\.)*?"{3,5}'
    r"|'{3}.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]"
    r"|[^\"'#\[\]{}\n]+",
    re.DOTALL,
)
"""A string, a comment, a bracket, an end of line, or anything else."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Line and column, both from 1, and how many characters it has on that line."""

    line: int
    column: int
    length: int = 1


class DefinitionError(InputError):
    """A project file is wrong at `place`; `sentence` says what to write instead."""

    def __init__(self, file: pathlib.Path, text: str, place: Place, sentence: str) -> None:
        self.file, self.place, self.sentence = file, place, sentence
        lines = text.split("\n")
        line = lines[place.line - 1] if place.line <= len(lines) else ""
        cut = max(0, place.column - _SHOWN_COLUMNS // 2) if len(line) > _SHOWN_COLUMNS else 0
        line, column = line[cut : cut + _SHOWN_COLUMNS].rstrip(), place.column - cut
        margin = f"{place.line:>4} | "
        below = f"{' ' * (len(margin) - 2)}| {' ' * (column - 1)}"
        carets = "^" * max(1, min(place.length, len(line) - column + 1))
        super().__init__(
            f"{file}:{place.line}:{place.column}: {sentence}\n"
            f"{margin}{line.expandtabs(1)}\n{below}{carets}"
        )


def find_places(text: str) -> dict[tuple[str, ...], tuple[Place, Place]]:
    """Return the places of the key and of the value of every path in `text`.

    A table has its header in both places. Paths inside inline tables are not distinguished: look
    for the longest prefix that is there.
    """
    places: dict[Path, tuple[Place, Place]] = {}
    table: Path = ()
    for start, header, path, value, end in _statements(text):
        if header:
            table = path
            places.setdefault(path, (_place(text, start, end), _place(text, start, end)))
        else:
            places[table + path] = (_place(text, start, value), _place(text, value, end))
            for length in range(1, len(path)):
                places.setdefault(table + path[:length], places[table + path])
    return places


def _statements(text: str) -> Iterator[tuple[int, bool, Path, int, int]]:
    """Yield (start, is a header, path, start of the value, end)."""
    at = _skip(text, 0)
    while at < len(text):
        start = at
        if text[at] == "[":
            path, at = _key(text, at + (2 if text.startswith("[[", at) else 1))
            end = text.find("\n", at)
            at = len(text) if end == -1 else end
            header = text[start:at].split("#", maxsplit=1)[0].rstrip()
            yield start, True, path, start, start + len(header)
        else:
            path, at = _key(text, at)
            value = _skip(text, at + 1)
            at = _value_end(text, value)
            yield start, False, path, value, at
        at = _skip(text, at)


def _key(text: str, at: int) -> tuple[Path, int]:
    """Return the dotted key at `at`, and where it ends (at `=` or `]`)."""
    parts = []
    while match := _KEY_PART.match(text, at):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _value_end(text: str, at: int) -> int:
    depth, end = 0, at
    while (match := _PIECE.match(text, at)) and not (match[0] == "\n" and depth == 0):
        piece = match[0]
        depth += (piece in "[{") - (piece in "]}")
        at = match.end()
        if not piece.startswith("#") and piece.strip():
            end = match.start() + len(piece.rstrip())
    return end


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _place(text: str, start: int, end: int) -> Place:
    line_start = text.rfind("\n", 0, start) + 1
    shown = text[start:end].split("\n", maxsplit=1)[0].rstrip().removesuffix("=").rstrip()
    return Place(text.count("\n", 0, start) + 1, start - line_start + 1, max(1, len(shown)))
