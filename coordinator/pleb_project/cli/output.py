"""Where words go: progress to the standard error, results to the standard output."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_shared.protocol.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Output"]


@dataclass(frozen=True)
class Output:
    """Prints for people, or one JSON object a command for programs."""

    as_json: bool

    def say(self, sentence: str) -> None:
        """Tell what happens now."""
        print(shown(sentence), file=sys.stderr, flush=True)

    def result(self, value: dict[str, Any], lines: Iterable[str]) -> None:
        """Print the command's result: `value` as JSON, or `lines`."""
        if self.as_json:
            print(msgspec.json.encode(value).decode(), flush=True)
        else:
            for line in lines:
                print(shown(line), flush=True)

    def table(self, rows: Iterable[tuple[str, str]]) -> list[str]:
        """Return two columns as lines."""
        pairs = list(rows)
        width = max((len(name) for name, _ in pairs), default=0)
        return [f"  {name:<{width}}  {value}" for name, value in pairs]
