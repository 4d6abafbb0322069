"""The log: JSON lines, rotated; one event name and its fields on each."""

from __future__ import annotations

import json
import logging
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["start_log"]

_LOG_BYTES: Final = 2 * 2**20
_KEPT_LOGS: Final = 4
_BESIDE: Final = ("asyncio", "uvicorn.error")
"""Others that tell of our defects. Without a handler they would write to standard error, where
nothing bounds what a session keeps of it."""
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """`{"time", "level", "event", ...fields}`, times in seconds since 1970."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ShortLines(logging.Formatter):
    """The same for people at a terminal."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return `event key=value ...`."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        words = shown_line(" ".join(f"{key}={value}" for key, value in fields.items()))
        return f"{self.formatTime(record, '%H:%M:%S')} {record.getMessage():8} {words}"


def start_log(path: Path, *, terminal: bool, debug: bool) -> None:
    """Send the agent's log to `path`, and to the terminal where somebody looks."""
    logger = logging.getLogger("pleb")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    for one in (logger, *map(logging.getLogger, _BESIDE)):
        one.propagate = False
        for handler in list(one.handlers):
            one.removeHandler(handler)
            handler.close()
    to_file = RotatingFileHandler(
        path, maxBytes=_LOG_BYTES, backupCount=_KEPT_LOGS, encoding="utf-8"
    )
    to_file.setFormatter(JsonLines())
    for one in (logger, *map(logging.getLogger, _BESIDE)):
        one.addHandler(to_file)
    if terminal:
        to_terminal = logging.StreamHandler()
        to_terminal.setFormatter(ShortLines())
        logger.addHandler(to_terminal)
