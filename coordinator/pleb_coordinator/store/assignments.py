"""Assignments, their results and deltas, and verdicts that their hosts have not received yet."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.core.assignment_state import (
    AssignmentEvent,
    AssignmentState,
    next_assignment_state,
)
from pleb_coordinator.core.records import (
    Assignment,
    Host,
    NewAssignment,
    OfferedUnit,
    Purpose,
    Record,
    StoredDelta,
    UnitRow,
)
from pleb_coordinator.core.voices import identifies
from pleb_coordinator.store.beginnings import Beginnings
from pleb_coordinator.store.hosts import ANY_MEMORY
from pleb_coordinator.store.queries import assignments as sql
from pleb_coordinator.store.rows import Rows, TableGroup, version_key
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import Reason  # noqa: TC001 - `Rows` reads the field types

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.store.engine import Connection

__all__ = ["Assignments", "Commitment", "Judgement", "Seeker"]

FREE_TO_ALL_SECONDS: Final = 60.0
"""A first try that has waited so long also goes to hosts for whose memory its chunk must change."""
FORGIVEN_SECONDS: Final = 600.0
"""After this time a host may try a unit again that it gave back."""
_ALWAYS: Final = 1e18
_LEASED: Final = next_assignment_state(AssignmentState.UNSENT, AssignmentEvent.ISSUED)
_CANCELLED: Final = next_assignment_state(AssignmentState.UNSENT, AssignmentEvent.CANCELLED)

_ASSIGNMENT: Final = Rows(Assignment)
_DELTA: Final = Rows(StoredDelta)
_NEW: Final = Rows(NewAssignment)
_UNIT: Final = Rows(UnitRow)
_OFFERED: Final = Rows(OfferedUnit)
_PURPOSES: Final = {purpose.value: purpose for purpose in Purpose}
_COLUMNS: Final = len(Assignment.__struct_fields__)


class Seeker(Record, frozen=True):
    """The host that asks for work, as far as a candidate depends on it."""

    host: int
    account: str
    network: str
    determinism_class: str
    trusted: bool
    now: float
    memory_bytes: int | None = None
    """What a unit may take on it; None: not known."""


class Commitment(Record, frozen=True):
    """What a host's report says of its result."""

    digest: str
    size: int
    loss_first: float | None
    loss_last: float | None
    compute_seconds: float
    reported_at: float


class Judgement(Record, frozen=True):
    """The verdict on a result."""

    verdict: Verdict
    credit: float
    ripe_at: float | None
    reason: Reason


_JUDGEMENT: Final = Rows(Judgement)


class Assignments(TableGroup):
    """Assignments, their deltas, and verdicts that hosts have not received yet."""

    def __init__(self, db: Connection) -> None:
        super().__init__(db)
        self._beginnings = Beginnings()

    def get(self, assignment: int) -> Assignment:
        """Return an assignment. Raises `Refusal` unknown_assignment."""
        row = _ASSIGNMENT.first(self._db.execute(sql.GET_ASSIGNMENT, assignment=assignment))
        if row is None:
            message = "There is no such assignment: drop its result."
            raise Refusal(RefusalCode.UNKNOWN_ASSIGNMENT, message)
        return row

    def of_unit(self, unit: int) -> list[Assignment]:
        """Return all assignments of a unit, oldest first."""
        return _ASSIGNMENT.all(self._db.execute(sql.ASSIGNMENTS_OF_UNIT, unit=unit))

    def copies(self, unit: UnitRow) -> int:
        """Return how many assignments a unit has, of whatever state."""
        return unit.copies if isinstance(unit, OfferedUnit) else len(self.of_unit(unit.id))

    def reported(self, unit: int) -> list[Assignment]:
        """Return the unit's assignments with a result that has no verdict yet."""
        return _ASSIGNMENT.all(self._db.execute(sql.REPORTED, unit=unit))

    def answered(self, unit: int) -> list[Assignment]:
        """Return the unit's assignments with a result that has no verdict or a good one."""
        return _ASSIGNMENT.all(self._db.execute(sql.ANSWERED, unit=unit))

    def unjudged(self, unit: int, host: int) -> bool:
        """Whether the host has reported a result of the unit that has no verdict yet."""
        return self._exists(sql.UNJUDGED, unit=unit, host=host)

    def is_computed(self, unit: int) -> bool:
        """Whether a host computes or uploads the unit, or a result of it is stored."""
        return self._exists(sql.IS_COMPUTED, unit=unit)

    def in_hand(self, host: int) -> list[tuple[Assignment, UnitRow]]:
        """Return what the host computes or uploads, oldest first."""
        return [_pair(row) for row in self._db.execute(sql.IN_HAND, host=host)]

    def candidates(
        self, project: int, purpose: Purpose, seeker: Seeker, limit: int
    ) -> list[tuple[Assignment, UnitRow]]:
        """Return unsent assignments that the seeker may take, oldest first.

        Those that were drawn for one host are not among them: see `drawn_for`. No host gets a
        unit twice, except a trusted one to decide against its own result; a host that is not
        trusted gets none that another host of its account or network has had.
        """
        where = {
            "project": project,
            "purpose": purpose,
            "determinism_class": seeker.determinism_class,
            "forgiven_before": seeker.now - FORGIVEN_SECONDS,
            "memory_bytes": ANY_MEMORY if seeker.memory_bytes is None else seeker.memory_bytes,
            "waiting_since": seeker.now - FREE_TO_ALL_SECONDS,
            "host": seeker.host,
        }
        first = partial(self._beginnings.find, self._db, project, purpose)
        if not seeker.trusted:
            rows = self._db.execute(
                sql.CANDIDATES_FOR_HOST,
                trusted_only=False,
                first=first(trusted_only=False),
                account=seeker.account,
                network=seeker.network if identifies(seeker.network) else "",
                limit=limit,
                **where,
            )
            return [_offer(row) for row in rows]
        found: list[tuple[Assignment, UnitRow]] = []
        for only in (True, False):
            rows = self._db.execute(
                sql.CANDIDATES_FOR_TRUSTED,
                trusted_only=only,
                first=first(trusted_only=only),
                limit=limit - len(found),
                **where,
            )
            found.extend(_offer(row) for row in rows)
        return found

    def drawn_for(self, host: int) -> list[tuple[Assignment, UnitRow]]:
        """Return unsent assignments that only this host may take, oldest first."""
        return [_pair(row) for row in self._db.execute(sql.DRAWN_FOR, host=host)]

    def count_drawn_for(self, host: int) -> int:
        """Return how many unsent assignments only this host may take."""
        return int(self._value(sql.COUNT_DRAWN_FOR, host=host))

    def cancel_drawn_for(self, host: int) -> list[int]:
        """Cancel what only this host may take; return the units."""
        rows = self._db.execute(sql.CANCEL_DRAWN_FOR, host=host, after=_CANCELLED).fetchall()
        return [unit for (unit,) in rows]

    def not_fetched(self, now: float, limit: int) -> list[Assignment]:
        """Return assignments that were drawn for a host which has not asked for them in time."""
        return _ASSIGNMENT.all(self._db.execute(sql.NOT_FETCHED, now=now, limit=limit))

    def next_fetch(self) -> float | None:
        """Return the first time at which `not_fetched` has something; None: never."""
        at: float | None = self._value(sql.NEXT_FETCH)
        return at

    def count_for_trusted(self, project: int, purpose: Purpose) -> int:
        """Return how many unsent assignments of that purpose wait for a trusted host."""
        return int(self._value(sql.FOR_TRUSTED, project=project, purpose=purpose))

    def only_for_trusted(
        self, project: int, purpose: Purpose, beyond: int, limit: int
    ) -> list[Assignment]:
        """Return unsent assignments of that purpose that wait for a trusted host.

        Only those of units that need more memory than `beyond`, in bytes; -1: of all.
        """
        where = {"project": project, "purpose": purpose, "memory_bytes": beyond}
        rows = self._db.execute(sql.ONLY_FOR_TRUSTED, limit=limit, **where)
        return _ASSIGNMENT.all(rows)

    def has_had(self, unit: int, host: Host) -> bool:
        """Whether the host, its account or its network has had a copy of the unit."""
        network = host.network if identifies(host.network) else ""
        return self._exists(
            sql.HAS_HAD, unit=unit, host=host.id, account=host.account, network=network
        )

    def has_part(self, project: int, epoch: int, version: int, account: str) -> bool:
        """Whether an account computes a unit of the round, or has a result that counts in it."""
        key = version_key(project, epoch, version)
        return self._exists(sql.HAS_PART, account=account, **key)

    def exam_hosts(self, unit: int) -> int:
        """Return how many new hosts have had the unit."""
        return int(self._value(sql.COUNT_EXAM_HOSTS, unit=unit))

    def counting_of(
        self, project: int, epoch: int, version: int, host: int
    ) -> list[tuple[Assignment, UnitRow]]:
        """Return the host's results that count for the round and are not in a version yet."""
        rows = self._db.execute(sql.LONE_RESULTS, host=host, **version_key(project, epoch, version))
        return [_pair(row) for row in rows]

    def lone_units(self, project: int, epoch: int, version: int) -> set[int]:
        """Return the round's units that count on a proven author's word alone so far."""
        key = version_key(project, epoch, version)
        return {unit for (unit,) in self._db.execute(sql.LONE_UNITS, **key)}

    def confirmed_units_of(self, host: int, limit: int) -> list[UnitRow]:
        """Return the host's newest units that volunteers confirmed and no trusted host has seen."""
        return _UNIT.all(self._db.execute(sql.CONFIRMED_OF, host=host, limit=limit))

    def unsent_purposes(self, project: int) -> set[Purpose]:
        """Return the purposes of which there are unsent assignments."""
        rows = self._db.execute(sql.UNSENT_PURPOSES, project=project)
        return {_PURPOSES[purpose] for (purpose,) in rows}

    def unsent_for_all(self, project: int) -> bool:
        """Whether there are unsent assignments that no host was drawn for, nor trusted ones."""
        return self._exists(sql.UNSENT_FOR_ALL, project=project)

    def hosts_drawn(self) -> set[int]:
        """Return the hosts that unsent assignments were drawn for, of all projects."""
        return {host for (host,) in self._db.execute(sql.HOSTS_DRAWN)}

    def add(self, new: NewAssignment) -> int:
        """Add an unsent assignment; return its id."""
        return int(self._value(sql.ADD_ASSIGNMENT, **_NEW.parameters(new)))

    def lease(
        self, assignment: Assignment, host: Host, nonce: str, now: float, until: float
    ) -> None:
        """Issue to a host an assignment that this transaction has found unsent."""
        self._db.execute(
            sql.LEASE,
            assignment=assignment.id,
            before=AssignmentState.UNSENT,
            after=_LEASED,
            host=host.id,
            account=host.account,
            network=host.network,
            nonce=nonce,
            now=now,
            until=until,
            out_of_turn=assignment.out_of_turn,
        )

    def commit(
        self, assignment: Assignment, event: AssignmentEvent, commitment: Commitment
    ) -> bool:
        """Store a report with the event that it means. Returns and raises as `move`."""
        return self._move(
            sql.COMMIT_RESULT, assignment, event, **msgspec.structs.asdict(commitment)
        )

    def move(self, assignment: Assignment, event: AssignmentEvent) -> bool:
        """Apply an event to an assignment.

        Returns:
            False: its state is not that of `assignment` any more; nothing has changed.

        Raises:
            KeyError: the event cannot happen in that state.
        """
        return self._move(sql.MOVE_ASSIGNMENT, assignment, event)

    def judge(self, assignment: Assignment, event: AssignmentEvent, judgement: Judgement) -> bool:
        """Store the verdict; the host's next reply has it. Returns and raises as `move`."""
        return self._move(sql.JUDGE, assignment, event, **_JUDGEMENT.parameters(judgement))

    def set_aside(self, assignment: Assignment, why: Reason) -> bool:
        """Judge that a result counts neither for nor against its host, as `judge`."""
        judgement = Judgement(Verdict.LATE, 0.0, None, why)
        return self.judge(assignment, AssignmentEvent.SET_ASIDE, judgement)

    def _move(
        self, update: str, assignment: Assignment, event: AssignmentEvent, **values: object
    ) -> bool:
        return self._changed(
            update,
            assignment=assignment.id,
            before=assignment.state,
            after=next_assignment_state(assignment.state, event),
            **values,
        )

    def extend_lease(self, assignment: int, until: float) -> None:
        """Let a lease last until then, unless it lasts longer."""
        self._db.execute(sql.EXTEND_LEASE, assignment=assignment, until=until)

    def set_norm(self, assignment: int, norm: float) -> None:
        """Store the L2 norm of a decoded delta."""
        self._db.execute(sql.SET_NORM, assignment=assignment, norm=norm)

    def norms(self, project: int, epoch: int, version: int) -> list[float]:
        """Return the norms of the valid results of a round."""
        rows = self._db.execute(sql.NORMS, **version_key(project, epoch, version))
        return [norm for (norm,) in rows]

    def cancel_unsent(self, unit: int, purposes: Collection[Purpose]) -> int:
        """Cancel unsent assignments of a unit; return how many."""
        return sum(
            self._db.execute(
                sql.CANCEL_UNSENT, unit=unit, purpose=purpose, after=_CANCELLED
            ).rowcount
            for purpose in purposes
        )

    def cancel_unsent_before(self, project: int, epoch: int, version: int) -> int:
        """Cancel unsent assignments of versions before `version`, earlier epochs included."""
        place = version_key(project, epoch, version)
        return self._db.execute(sql.CANCEL_UNSENT_BEFORE, after=_CANCELLED, **place).rowcount

    def any_unsent_before(self, project: int, epoch: int, version: int) -> bool:
        """Whether `cancel_unsent_before` has anything to cancel."""
        return self._exists(sql.ANY_UNSENT_BEFORE, **version_key(project, epoch, version))

    def expired(self, now: float, limit: int) -> list[Assignment]:
        """Return assignments whose lease has run out, in the order of their ends."""
        return _ASSIGNMENT.all(self._db.execute(sql.EXPIRED, now=now, limit=limit))

    def end_leases(self, host: int, now: float) -> int:
        """End all leases of the host now; return how many."""
        return self._db.execute(sql.END_LEASES, host=host, now=now).rowcount

    def next_lease_end(self) -> float | None:
        """Return when the next lease runs out; None: there are no leases."""
        end: float | None = self._value(sql.NEXT_LEASE_END)
        return end

    def take_verdicts(self, host: int, limit: int) -> list[Assignment]:
        """Return judged assignments whose verdict the host lacks, and mark them as sent."""
        found = _ASSIGNMENT.all(self._db.execute(sql.UNSENT_VERDICTS, host=host, limit=limit))
        if found:
            self._db.execute_each(
                sql.MARK_VERDICT_SENT, [{"assignment": judged.id} for judged in found]
            )
        return found

    def take_back_credit(self, host: int, now: float) -> float:
        """Set the host's unripe credit to 0; return how much it was."""
        taken = float(self._value(sql.UNRIPE_CREDIT, host=host, now=now))
        if taken:
            self._db.execute(sql.TAKE_BACK, host=host, now=now)
        return taken

    def put_delta(self, delta: StoredDelta) -> None:
        """Store a delta's bytes, or that they are in a file."""
        self._db.execute(sql.PUT_DELTA, **_DELTA.parameters(delta))

    def delta(self, assignment: int) -> StoredDelta | None:
        """Return a stored delta, or None."""
        return _DELTA.first(self._db.execute(sql.GET_DELTA, assignment=assignment))

    def remove_delta(self, assignment: int) -> None:
        """Remove a stored delta; one that is not there is fine."""
        self._db.execute(sql.REMOVE_DELTA, assignment=assignment)

    def deltas_of_round(self, project: int, epoch: int, version: int) -> list[int]:
        """Return assignments of a round whose delta is stored."""
        where = version_key(project, epoch, version)
        return [found for (found,) in self._db.execute(sql.DELTAS_OF_ROUND, **where)]

    def useless_deltas(self, project: int, epoch: int, version: int, limit: int) -> list[int]:
        """Return assignments of a round whose delta is stored and not the one that counts."""
        where = version_key(project, epoch, version)
        return [found for (found,) in self._db.execute(sql.USELESS_DELTAS, limit=limit, **where)]

    def with_delta(self, unit: int, digest: str) -> int | None:
        """Return the assignment of the unit whose stored delta has that digest, or None."""
        assignment: int | None = self._value(sql.WITH_DELTA, unit=unit, digest=digest)
        return assignment


def _pair(row: tuple[Any, ...]) -> tuple[Assignment, UnitRow]:
    return _ASSIGNMENT.record(row[:_COLUMNS]), _UNIT.record(row[_COLUMNS:])


def _offer(row: tuple[Any, ...]) -> tuple[Assignment, UnitRow]:
    return _ASSIGNMENT.record(row[:_COLUMNS]), _OFFERED.record(row[_COLUMNS:])
