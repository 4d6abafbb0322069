"""What the rules read: readings, preferences, and what is remembered of earlier decisions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import CPU
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.readings import PresenceKind
from pleb_agent.core.schedule import Hours, parse_hours
from pleb_agent.core.signal_rules import row_states

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Gpu, Readings
    from pleb_agent.core.signal_rules import RowState
    from pleb_agent.core.signals import Row

__all__ = ["COOLING_CELSIUS", "LEAST_COOL_PERCENT", "Moment", "PolicyMemory", "WorkerLimits"]

COOLING_CELSIUS: Final = 8
"""So far below its limit a card begins to rest in between."""
LEAST_COOL_PERCENT: Final = 10

_IN_USE_SHARE: Final = 4
_IDLE_SHARE: Final = 2
"""The worker gets one part of this many of all memory, unless the user says otherwise."""


@dataclass(frozen=True)
class WorkerLimits:
    """How much a running worker may take now."""

    share_percent: int = 100
    """Of the time of its device: of its cores, or of its card."""
    memory_bytes: int | None = None
    """None: what it was started with."""


@dataclass(frozen=True)
class PolicyMemory:
    """What the policy remembers from one look to the next. Times are seconds since 1970."""

    override: Override | None = None
    device_pauses: tuple[tuple[str, Override], ...] = ()
    preferences: Preferences | None = None
    """All three as of the last look; None before the first."""
    running: bool = False
    has_run: bool = False
    """Work has begun once: before that there is nothing that could be resumed too soon."""
    objected: frozenset[str] = frozenset()
    """The reasons (`rules.PolicyReason`) of all objections of the last look."""
    rows_held: frozenset[Row] = frozenset()
    """Rows of the rules on signals that did not allow work."""
    unsettled: bool = False
    """One of them was of a kind that comes and goes."""
    settle_until: float = 0.0
    """Nothing runs before, since such an objection has just gone."""
    stops: tuple[float, ...] = ()
    """When such objections stopped work recently."""
    short_bytes: int = 0
    """The worker's memory when the machine ran short of it."""
    card_bytes: int = 0
    """The worker's memory of its card when that ran short."""
    outgrown_bytes: int = 0
    """The worker's memory when it was over its ceiling; holds until `outgrown_until`."""
    outgrown_until: float = 0.0


@dataclass(frozen=True)
class Moment:
    """One look."""

    readings: Readings
    preferences: Preferences
    memory: PolicyMemory = PolicyMemory()
    device: str = CPU
    """For which of the PC's devices this is decided."""

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self.readings.now

    @property
    def is_card(self) -> bool:
        """Whether the device is a card, and not the processor."""
        return self.device != CPU

    @property
    def card(self) -> Gpu | None:
        """What is read of the device; None: it is the processor, or nothing is read of it."""
        return next((gpu for gpu in self.readings.gpus if gpu.device == self.device), None)

    @property
    def boosted(self) -> bool:
        """Whether the user said "run now"."""
        return self.readings.override.is_active(OverrideKind.BOOST, self.now)

    @property
    def someone(self) -> bool:
        """Whether there is a session in which a person may be working."""
        return self.readings.presence.kind is not PresenceKind.NO_SESSION

    @property
    def in_use(self) -> bool:
        """Whether the PC is in use, or may be without our knowing."""
        presence = self.readings.presence
        if presence.kind is PresenceKind.NO_SESSION or presence.locked:
            return False
        return presence.kind is PresenceKind.UNREADABLE or self.idle_left_seconds > 0

    @property
    def idle_left_seconds(self) -> float:
        """Of a readable session: how long it still counts as in use without further input.

        An input in the future (the clock was set back) counts as one of this moment.
        """
        since = max(0.0, self.now - self.readings.presence.last_input_at)
        return self.preferences.idle_minutes * 60 - since

    @property
    def _cool_percent(self) -> int:
        """The share of its time that keeps a card below its limit: less, the nearer it is.

        It needs no rights over clocks or fans. Steps of 10 % for each degree or so, since each
        change wakes the worker.
        """
        card, limit = self.card, self.preferences.gpu_hottest_celsius
        if card is None or card.celsius is None or limit is None:
            return 100
        left = (limit - card.celsius) / COOLING_CELSIUS
        return max(LEAST_COOL_PERCENT, min(100, 10 * round(10 * left)))

    @property
    def beside_user(self) -> bool:
        """Whether the PC is in use and work may continue, with smaller limits."""
        return self.preferences.while_in_use and self.in_use and not self.boosted

    @cached_property
    def row_states(self) -> list[RowState]:
        """What each row of the rules on signals says."""
        readings = self.readings
        if not readings.rules.rows:
            return []
        return row_states(
            readings.rules,
            readings.signals,
            self.memory.rows_held,
            self.now,
            readings.local_time,
        )

    @property
    def hours(self) -> Hours:
        """The hours in which work is allowed."""
        return parse_hours(self.preferences.hours)

    @property
    def memory_ceiling_bytes(self) -> int | None:
        """What the worker may take now; None: not limited, as all memory is not known.

        A worker that the user's input pauses keeps the limit of an idle PC: stopping it would take
        a step and a checkpoint, while a pause acts at once and frees the memory soon.
        """
        total = self.readings.memory_total_bytes
        if self.beside_user:
            chosen, share = self.preferences.memory_bytes_in_use, _IN_USE_SHARE
        else:
            chosen, share = self.preferences.memory_bytes_idle, _IDLE_SHARE
        return chosen if chosen is not None or total is None else total // share

    @property
    def limits(self) -> WorkerLimits:
        """How much a running worker may take; during a boost as much as on an idle PC."""
        in_use, limits = self.beside_user, self.preferences
        if self.is_card:
            share = limits.gpu_percent_in_use if in_use else limits.gpu_percent_idle
        else:
            share = limits.cpu_percent_in_use if in_use else limits.cpu_percent_idle
        share = min(share, limits.device_shares.get(self.device, 100), self._cool_percent)
        return WorkerLimits(
            share_percent=share,
            memory_bytes=self.memory_ceiling_bytes,
        )
