"""Logs: one JSON object a line, in rotated files; short lines for a terminal."""

from __future__ import annotations

import json
import logging
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["JsonLines", "ShortLines", "start_log"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message",
}  # fmt: skip
"""Attributes of every record (and uvicorn's coloured copy); all others came by `extra`."""


class JsonLines(logging.Formatter):
    """Formats `{"time", "level", "logger", "event", ...extra}`, times in seconds since 1970."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ShortLines(logging.Formatter):
    """Formats `12:34:56 event key=value ...` for people."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        words = shown_line(" ".join(f"{key}={value}" for key, value in fields.items()))
        event = shown_line(record.getMessage())
        return f"{self.formatTime(record, '%H:%M:%S')} {event:8} {words}"


def start_log(
    path: Path,
    *,
    loggers: Sequence[str | None],
    most_bytes: int,
    kept: int,
    debug: bool = False,
    terminal: bool = False,
) -> None:
    """Send what `loggers` say to the file `path` and nowhere else; replaces an earlier start.

    Args:
        path: the file; its folder exists.
        loggers: names, None is the root; the first is our own: its level follows `debug`, and
            only it is shown at the terminal.
        most_bytes: at this size the file is rotated.
        kept: how many rotated files are kept.
        debug: also log what helps only to find defects.
        terminal: also write short lines to the standard error.
    """
    to_file = RotatingFileHandler(path, maxBytes=most_bytes, backupCount=kept, encoding="utf-8")
    to_file.setFormatter(JsonLines())
    for logger in map(logging.getLogger, loggers):
        logger.propagate = False
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.addHandler(to_file)
    own = logging.getLogger(loggers[0])
    own.setLevel(logging.DEBUG if debug else logging.INFO)
    if terminal:
        to_terminal = logging.StreamHandler()
        to_terminal.setFormatter(ShortLines())
        own.addHandler(to_terminal)
