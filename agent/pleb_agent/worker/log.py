"""The worker's log: its standard error, in one file of bounded size."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["last_words", "log_file", "open_log"]

_BYTES: Final = 1_000_000
_WORDS_BYTES: Final = 4_000
_WORDS_CHARACTERS: Final = 300


def log_file(work_dir: Path) -> Path:
    """Return the log's place, beside the work directory.

    There the worker cannot replace it by a link, through which the agent would open another file
    for it to write to.
    """
    return work_dir.with_name(work_dir.name + ".log")


def open_log(path: Path) -> IO[bytes]:
    """Return the log, open for a new process; one that has grown long is started again."""
    grown = path.exists() and path.stat().st_size > _BYTES
    return path.open("wb" if grown else "ab")


def last_words(path: Path) -> str:
    """Return the last line of the log, which usually names the error."""
    if not path.exists():
        return "it wrote nothing."
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _WORDS_BYTES))
        tail = file.read(_WORDS_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:_WORDS_CHARACTERS] if lines else "it wrote nothing."
