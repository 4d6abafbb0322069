"""Where words go: results to the standard output, progress and errors to the standard error."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_shared.protocol.shown import shown, shown_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_shared.errors import PlebError

__all__ = ["Output", "table"]


@dataclass(frozen=True)
class Output:
    """Prints for people, or one JSON value a command for programs."""

    as_json: bool

    def result(self, value: Any, lines: Iterable[str]) -> None:
        """Print the command's result: `value` as JSON, or `lines`."""
        if self.as_json:
            print(msgspec.json.encode(value).decode(), flush=True)
        else:
            for line in lines:
                print(shown_line(line), flush=True)

    def say(self, sentence: str) -> None:
        """Tell what happens now."""
        print(shown(sentence), file=sys.stderr, flush=True)

    def error(self, error: PlebError) -> None:
        """Tell why it did not work and what to do."""
        if self.as_json:
            name, code = type(error).__name__, error.exit_code
            value = {"error": name, "message": str(error), "exit": code}
            print(msgspec.json.encode(value).decode(), flush=True)
        else:
            print(shown(f"pleb-coordinator: {error}"), file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> list[str]:
    """Return aligned lines, or the sentence `empty` where there are no rows."""
    texts = [[shown_line(str(cell)) for cell in row] for row in rows]
    if not texts:
        return [empty]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in ([*head], *texts)
    ]
