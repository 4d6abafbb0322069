"""JSON lines: an object in each line, in pieces."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_system.reading.source import Position

__all__ = ["json_objects"]

_LINE_BYTES: Final = 16 * 2**20
_CHUNK_BYTES: Final = 4 * 2**20
_CHUNK_ROWS: Final = 4096


def json_objects(
    path: Path, position: Position
) -> Iterator[tuple[list[dict[str, Any]], int, Position]]:
    """Yield some objects, the line before the first one, and where reading goes on."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    offset, line = position
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while True:
                first, size = line, 0
                found: list[dict[str, Any]] = []
                while size < _CHUNK_BYTES and len(found) < _CHUNK_ROWS:
                    text = _line(path, line + 1, file)
                    if not text:
                        break
                    line += 1
                    size += len(text)
                    if text.strip():
                        found.append(_decoded(decoder, text, path, line))
                if found:
                    yield found, first, (file.tell(), line)
                if not size:
                    return
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _line(path: Path, number: int, file: IO[bytes]) -> bytes:
    text = file.readline(_LINE_BYTES + 1)
    if len(text) > _LINE_BYTES:
        raise InputError(
            f"{path}:{number}: the line has more than {_LINE_BYTES} bytes: write one object in a "
            "line."
        )
    return text


def _decoded(decoder: Any, text: bytes, path: Path, line: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}:{line} is not a JSON object: {error}.") from error
    return found
