"""The user's pause or boost, which outlives the process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.override import NO_OVERRIDE, Override, OverrideKind
from pleb_agent.program.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.journal.journal import Journal

__all__ = ["Overrides"]

_NAME: Final = "wish"
"""The journal's setting; homes of earlier versions have it."""
_DEVICES: Final = "device_pauses"
_HOOK: Final = "hook_pause"
_LONGEST_BOOST_SECONDS: Final = 31 * 86_400.0


class Overrides:
    """Reads and writes the override in the journal; keeps a copy in memory.

    `clock`: seconds since 1970; `steady`: seconds that setting the clock does not change.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float] = system_clock,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._steady = steady
        text = journal.setting(_NAME)
        self._keep(msgspec.json.decode(text, type=Override) if text else NO_OVERRIDE)
        paused = journal.setting(_DEVICES)
        self._devices = msgspec.json.decode(paused, type=dict[str, Override]) if paused else {}
        hooked = journal.setting(_HOOK)
        self._hook = msgspec.json.decode(hooked, type=Override) if hooked else NO_OVERRIDE

    @property
    def current(self) -> Override:
        """The last override; it may have ended.

        A boost of an hour ends after an hour even if the clock is set back meanwhile: work
        while the PC is in use must not continue for longer than the user allowed.
        """
        if self._override.kind is OverrideKind.BOOST and self._steady() >= self._ends_at:
            return NO_OVERRIDE
        return self._override

    @property
    def in_force(self) -> Override:
        """The override that applies now."""
        found = self.current
        return found if found.is_active(found.kind, self._clock()) else NO_OVERRIDE

    @property
    def device_pauses(self) -> tuple[tuple[str, Override], ...]:
        """The pauses of single devices that have not ended."""
        now = self._clock()
        active = [one for one in self._devices.items() if one[1].is_active(OverrideKind.PAUSE, now)]
        return tuple(sorted(active))

    @property
    def hook(self) -> Override:
        """The pause that another program asked for; it may have ended."""
        return self._hook

    def pause_by_hook(self, until: float | None, reason: str) -> None:
        """Pause because another program asks for it; the user's own pause stays as it is."""
        self._set_hook(Override(OverrideKind.PAUSE, until, reason))

    def resume_by_hook(self) -> None:
        """End the pause that another program asked for, and none of the user's."""
        self._set_hook(NO_OVERRIDE)

    def pause(self, until: float | None, devices: Sequence[str] = ()) -> None:
        """Pause all, or these devices alone, until a time, or until resumed."""
        override = Override(OverrideKind.PAUSE, until)
        if devices:
            self._set_devices(dict(self.device_pauses) | dict.fromkeys(devices, override))
        else:
            self._set(override)

    def boost(self, until: float) -> None:
        """Run now, until a time."""
        self._set(Override(OverrideKind.BOOST, until))

    def finish(self) -> None:
        """Take no new work; pause when what is in hand is done."""
        self._set(Override(OverrideKind.FINISH))

    def resume(self, devices: Sequence[str] = ()) -> None:
        """End a boost; or a pause, those of single devices too; or those of `devices` alone."""
        if devices:
            kept = {name: one for name, one in self.device_pauses if name not in devices}
            self._set_devices(kept)
            return
        if self.in_force.kind is not OverrideKind.BOOST:
            if self._devices:
                self._set_devices({})
            if self._hook is not NO_OVERRIDE:
                self._set_hook(NO_OVERRIDE)
        self._set(NO_OVERRIDE)

    def _set_devices(self, pauses: dict[str, Override]) -> None:
        self._journal.set_setting(_DEVICES, msgspec.json.encode(pauses).decode())
        self._devices = pauses

    def _set_hook(self, override: Override) -> None:
        self._journal.set_setting(_HOOK, msgspec.json.encode(override).decode())
        self._hook = override

    def _set(self, override: Override) -> None:
        self._journal.set_setting(_NAME, msgspec.json.encode(override).decode())
        self._keep(override)

    def _keep(self, override: Override) -> None:
        self._override = override
        left_seconds = 0.0 if override.until is None else override.until - self._clock()
        self._ends_at = self._steady() + min(left_seconds, _LONGEST_BOOST_SECONDS)
