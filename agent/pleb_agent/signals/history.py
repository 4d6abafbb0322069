"""What signals were, for some days, on this PC: a value for every five minutes.

signal-history.json     {"SIGNAL": {"SLOT": value}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.signal_rules import SLOT_SECONDS
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

__all__ = ["KEPT_SLOTS", "SignalHistory"]

KEPT_SLOTS: Final = 3 * 86_400 // SLOT_SECONDS
_MOST_BYTES: Final = 4 * 2**20
_WRITE_SECONDS: Final = 1800.0


class SignalHistory:
    """Read when it is first needed; written now and then, and by `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, dict[int, float]] | None = None
        self._written_at: float | None = None

    @property
    def values(self) -> Mapping[str, Mapping[int, float]]:
        """Each signal's values by their slots: seconds since 1970 by `SLOT_SECONDS`."""
        return self._loaded()

    def note(self, name: str, value: float, now: float) -> None:
        """Keep a value; of a slot the last one stays."""
        slots = self._loaded().setdefault(name, {})
        slot = int(now // SLOT_SECONDS)
        if slot not in slots:  # once in five minutes
            for old in [one for one in slots if not slot - KEPT_SLOTS < one <= slot]:
                del slots[old]
        slots[slot] = value
        if self._written_at is None:
            self._written_at = now
        elif not 0 <= now - self._written_at < _WRITE_SECONDS:
            self.write()
            self._written_at = now

    def keep_only(self, names: Collection[str]) -> None:
        """Forget signals that there are no more."""
        values = self._loaded()
        gone = [name for name in values if name not in names]
        for name in gone:
            del values[name]
        if gone:
            self.write()

    def write(self) -> None:
        """Write what is known; a disk that is full costs the history only."""
        if self._values:
            text = msgspec.json.encode(self._values)
        elif self._values is not None and self._path.exists():
            text = b"{}"
        else:
            return
        try:
            write_durably(self._path, text, private=True)
        except OSError:
            return

    def _loaded(self) -> dict[str, dict[int, float]]:
        if self._values is None:
            try:
                data = read_regular(self._path, _MOST_BYTES)
                self._values = msgspec.json.decode(data, type=dict[str, dict[int, float]])
            except (OSError, msgspec.DecodeError):
                self._values = {}  # it is only for a preview
        return self._values
