"""Text as bytes: files one after another, or the English text that every CPython ships."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.readers.spool import Rows

__all__ = ["read_builtin_text", "read_text"]

_CHUNK_BYTES: Final = 2**20


def read_text(paths: list[Path]) -> Iterator[tuple[Rows, str]]:
    """Yield the bytes of the files in order as `x` uint8, each chunk with its place.

    Raises:
        InputError: a file cannot be read or is empty.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    raise InputError(f"{path} is empty: name a file with text in it.")
                while data := file.read(_CHUNK_BYTES):
                    yield {"x": np.frombuffer(data, np.uint8)}, str(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def read_builtin_text() -> Iterator[tuple[Rows, str]]:
    """Yield Python's own help texts (`pydoc_data.topics`) in the order of their names."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        text = f"{topics[name].strip()}\n\n".encode()
        yield {"x": np.frombuffer(text, np.uint8)}, f"pydoc_data.topics[{name!r}]"
