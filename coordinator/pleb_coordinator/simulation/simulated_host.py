"""A simulated PC: what it has, what it waits for, what it has made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pleb_shared.errors import RefusalCode
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pleb_coordinator.simulation.attacks import Member
    from pleb_coordinator.simulation.hosts import HostPlan
    from pleb_coordinator.simulation.presence import Presence
    from pleb_shared.protocol.messages import Receipt, Runtime
    from pleb_shared.protocol.report import Report

__all__ = ["Made", "SimulatedHost"]


@dataclass(frozen=True)
class Made:
    """A result that a host delivered."""

    assignment: int
    seed: int
    digest: str
    lie: bool
    seconds: float
    """That the host was busy with it."""
    steps: int = 0
    in_window: bool = True
    """Whether it was finished in the hours in which it was begun."""
    had_shards: bool = False
    """Whether the host had the unit's shards from earlier units."""
    finished_at: float = 0.0


@dataclass
class SimulatedHost:
    """A PC under one name."""

    number: int
    plan: HostPlan
    key: str
    joined_at: float
    member: Member | None
    runtime: Runtime
    presence: Presence
    sequence: int = 0
    in_hand: list[int] = field(default_factory=list)
    ready: list[tuple[Report, bytes | None]] = field(default_factory=list)
    """Reports to send with the next request, with their deltas."""
    made: list[Made] = field(default_factory=list)
    ticket: int = 0
    """Of its next event; earlier ones are void."""
    waits: bool = False
    waiting_since: float | None = None
    waiting_for_unit: float = 0.0
    """Seconds up to now, over all requests that got none."""
    waited_seconds: float = 0.0
    waits_for_units: list[float] = field(default_factory=list)
    """Seconds that it waited for each unit that it got, while its PC was on and free."""
    busy_seconds: float = 0.0
    caught_after: int | None = None
    """Results that it had delivered when it was first convicted or banned."""
    banned: bool = False
    bans: int = 0
    proven_at: float | None = None
    failed: int = 0
    unanswered: int = 0
    """Requests in a row that reached no coordinator."""
    refused: set[int] = field(default_factory=set)
    """Assignments whose results were refused because they came too late."""
    undone: int = 0
    """Results that it had delivered, or had in hand, and that a restored coordinator lacks."""
    has_record: bool = False
    """Whether it was given the record that hosts are to start with."""
    shards: set[int] = field(default_factory=set)
    """First shards of the units that it was given; it keeps all."""

    def take_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Note which results were refused."""
        for receipt in receipts:
            if receipt.code == RefusalCode.LEASE_EXPIRED:
                self.refused.add(receipt.assignment)
            elif receipt.code == RefusalCode.UNKNOWN_ASSIGNMENT:
                self.undo([receipt.assignment])

    def learn(self, verdict: Verdict) -> None:
        """Note what became of an earlier result."""
        wrong = verdict == Verdict.INVALID
        if wrong and self.caught_after is None:
            self.caught_after = len(self.made)
        if self.member is not None:
            self.member.valid = 0 if wrong else self.member.valid + 1

    @property
    def fingerprint(self) -> str:
        """By which the coordinator knows it."""
        return fingerprint_of(self.key)

    def undo(self, assignments: Collection[int]) -> None:
        """Forget what it has made of assignments that a restored coordinator does not know."""
        kept = [made for made in self.made if made.assignment not in assignments]
        self.undone += len(self.made) - len(kept)
        self.made = kept

    @property
    def eager(self) -> bool:
        """Whether it asks all the time: a trusted host, and one whose lies take no time."""
        return self.plan.trusted or self.plan.instant
