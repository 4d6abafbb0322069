"""The user's pause, which outlives the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_agent.journal.journal import Journal

__all__ = ["Wishes"]

_NAME = "paused_until"
_FOREVER = "resumed"


class Wishes:
    """Reads and writes the pause in the journal; keeps a copy in memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._value = journal.setting(_NAME)

    @property
    def paused(self) -> bool:
        """Whether the user paused the agent, perhaps until a time that has passed."""
        return self._value != ""

    @property
    def paused_until(self) -> float | None:
        """When the pause ends, in seconds since 1970; None: when the user says so."""
        return None if self._value in {"", _FOREVER} else float(self._value)

    def pause(self, until: float | None) -> None:
        """Pause until a time, or until resumed."""
        self._set(_FOREVER if until is None else repr(until))

    def resume(self) -> None:
        """End the pause."""
        self._set("")

    def _set(self, value: str) -> None:
        self._journal.set_setting(_NAME, value)
        self._value = value
