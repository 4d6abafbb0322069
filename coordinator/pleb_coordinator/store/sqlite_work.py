"""Units, assignments and shares in SQLite. `store.interface` says what each method does."""
# ruff: noqa: D102

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.core.assignment_state import AssignmentEvent, next_assignment_state
from pleb_coordinator.core.records import (
    Assignment,
    Host,
    NewAssignment,
    NewUnit,
    Purpose,
    UnitRow,
)
from pleb_coordinator.core.unit_state import UnitEvent, UnitState, next_unit_state
from pleb_coordinator.store import sqlite_queries as sql
from pleb_coordinator.store.interface import (
    Commitment,
    Judgement,
    Seeker,
    StoredDelta,
)
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable

__all__ = ["SqliteAssignments", "SqliteShares", "SqliteUnits"]

FORGIVEN_SECONDS: Final = 600.0
"""After this time a host may try a unit again that it gave back."""
_ALWAYS: Final = 1e18
_COLUMNS: Final = len(Assignment.__struct_fields__)


class SqliteUnits:
    """Implements `store.interface.Units`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def plan(
        self,
        project: int,
        epoch: int,
        version: int,
        units: Iterable[NewUnit],
        purpose: Purpose,
        *,
        trusted_only: bool,
        now: float,
    ) -> None:
        kinds: set[str] = set()
        rows = []
        for unit in units:
            kinds.add(unit.kind)
            rows.append((project, epoch, version, *msgspec.structs.astuple(unit), now))
        self._db.executemany(sql.ADD_UNIT, rows)
        for kind in sorted(kinds):
            parameters = (purpose, trusted_only, now, project, epoch, version, kind)
            self._db.execute(sql.FIRST_ASSIGNMENTS, parameters)

    def find(
        self, project: int, epoch: int, version: int, kind: UnitKind, position: int
    ) -> UnitRow | None:
        row = self._db.execute(sql.FIND_UNIT, (project, epoch, version, kind, position)).fetchone()
        return None if row is None else UnitRow(*row)

    def add(self, project: int, epoch: int, version: int, unit: NewUnit, now: float) -> int:
        row = (project, epoch, version, *msgspec.structs.astuple(unit), now)
        return self._db.execute(sql.ADD_UNIT, row).lastrowid or 0

    def get(self, unit: int) -> UnitRow:
        row = self._db.execute(sql.GET_UNIT, (unit,)).fetchone()
        if row is None:
            message = f"There is no unit {unit}."
            raise LookupError(message)
        return UnitRow(*row)

    def of_round(
        self, project: int, epoch: int, version: int, states: Collection[UnitState]
    ) -> list[UnitRow]:
        rows = self._db.execute(sql.UNITS_OF_ROUND, (project, epoch, version))
        return [unit for unit in (UnitRow(*row) for row in rows) if unit.state in states]

    def move(self, unit: UnitRow, event: UnitEvent, now: float, canonical: int | None) -> bool:
        before = UnitState(unit.state)
        after = next_unit_state(before, event)
        parameters = (after, canonical, now, unit.id, before)
        if self._db.execute(sql.MOVE_UNIT, parameters).rowcount != 1:
            return False
        if unit.kind == UnitKind.TRAIN:
            self._count(unit, before, after)
        return True

    def set_canonical(self, unit: int, canonical: int) -> None:
        self._db.execute(sql.SET_CANONICAL, (canonical, unit))

    def new_result(self, unit: int) -> None:
        self._db.execute(sql.NEW_RESULT, (unit,))

    def looked_at(self, unit: int, revision: int) -> bool:
        return self._db.execute(sql.LOOKED_AT, (unit, revision)).rowcount == 1

    def due(self, project: int, limit: int) -> list[UnitRow]:
        return [UnitRow(*row) for row in self._db.execute(sql.DUE_UNITS, (project, limit))]

    def undecided_before(self, project: int, epoch: int, version: int, limit: int) -> list[UnitRow]:
        rows = self._db.execute(sql.UNDECIDED_BEFORE, (project, epoch, version, limit))
        return [UnitRow(*row) for row in rows]

    def _count(self, unit: UnitRow, before: UnitState, after: UnitState) -> None:
        change = [
            (after == counted) - (before == counted)
            for counted in (UnitState.OPEN, UnitState.VALID)
        ]
        self._db.execute(sql.COUNT_IN_ROUND, (*change, unit.project, unit.epoch, unit.version))


class SqliteAssignments:
    """Implements `store.interface.Assignments`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, assignment: int) -> Assignment:
        row = self._db.execute(sql.GET_ASSIGNMENT, (assignment,)).fetchone()
        if row is None:
            message = f"There is no assignment {assignment}: drop its result."
            raise Refusal(RefusalCode.UNKNOWN_ASSIGNMENT, message)
        return Assignment(*row)

    def of_unit(self, unit: int) -> list[Assignment]:
        return [Assignment(*row) for row in self._db.execute(sql.ASSIGNMENTS_OF_UNIT, (unit,))]

    def reported(self, unit: int) -> list[Assignment]:
        return [Assignment(*row) for row in self._db.execute(sql.REPORTED, (unit,))]

    def unjudged(self, unit: int, host: int) -> bool:
        return self._db.execute(sql.UNJUDGED, (unit, host)).fetchone() is not None

    def leases(self, host: int) -> dict[int, Purpose]:
        rows = self._db.execute(sql.LEASES, (host,))
        return {number: Purpose(purpose) for number, purpose in rows}

    def in_hand(self, host: int) -> list[tuple[Assignment, UnitRow]]:
        return [_pair(row) for row in self._db.execute(sql.IN_HAND, (host,))]

    def candidates(
        self, project: int, purpose: Purpose, seeker: Seeker, limit: int
    ) -> list[tuple[Assignment, UnitRow]]:
        forgiven = seeker.now - FORGIVEN_SECONDS
        found: list[tuple[Assignment, UnitRow]] = []
        if not seeker.trusted:
            who = (seeker.determinism_class, forgiven, seeker.account, seeker.host, seeker.network)
            parameters = (project, purpose, False, _ALWAYS, *who, limit)
            return [_pair(row) for row in self._db.execute(sql.CANDIDATES_FOR_HOST, parameters)]
        for only in (True, False):
            who_trusted = (seeker.now, seeker.determinism_class, forgiven, seeker.host)
            trusted = (project, purpose, only, *who_trusted, limit - len(found))
            rows = self._db.execute(sql.CANDIDATES_FOR_TRUSTED, trusted)
            found.extend(_pair(row) for row in rows)
        return found

    def unsent(self, project: int, purpose: Purpose) -> bool:
        return self._db.execute(sql.ANY_UNSENT, (project, purpose)).fetchone() is not None

    def add(self, new: NewAssignment) -> int:
        parameters = (
            new.purpose,
            new.trusted_only,
            new.trusted_from,
            new.for_class,
            new.created_at,
            new.unit,
        )
        return self._db.execute(sql.ADD_ASSIGNMENT, parameters).lastrowid or 0

    def lease(
        self, assignment: Assignment, host: Host, nonce: str, now: float, until: float
    ) -> bool:
        parameters = (host.id, host.account, host.network, nonce, now, until, assignment.id)
        return self._db.execute(sql.LEASE, parameters).rowcount == 1

    def commit(
        self, assignment: Assignment, event: AssignmentEvent, commitment: Commitment
    ) -> bool:
        after = next_assignment_state(assignment.state, event)
        said = msgspec.structs.astuple(commitment)
        parameters = (after, *said, assignment.id, assignment.state)
        return self._db.execute(sql.COMMIT_RESULT, parameters).rowcount == 1

    def move(self, assignment: Assignment, event: AssignmentEvent) -> bool:
        after = next_assignment_state(assignment.state, event)
        parameters = (after, assignment.id, assignment.state)
        return self._db.execute(sql.MOVE_ASSIGNMENT, parameters).rowcount == 1

    def judge(self, assignment: Assignment, event: AssignmentEvent, judgement: Judgement) -> bool:
        after = next_assignment_state(assignment.state, event)
        said = msgspec.structs.astuple(judgement)
        parameters = (after, *said, assignment.id, assignment.state)
        return self._db.execute(sql.JUDGE, parameters).rowcount == 1

    def set_norm(self, assignment: int, norm: float) -> None:
        self._db.execute(sql.SET_NORM, (norm, assignment))

    def norms(self, project: int, epoch: int, version: int) -> list[float]:
        return [norm for (norm,) in self._db.execute(sql.NORMS, (project, epoch, version))]

    def cancel_unsent(self, unit: int, purposes: Collection[Purpose]) -> int:
        return sum(
            self._db.execute(sql.CANCEL_UNSENT, (unit, purpose)).rowcount for purpose in purposes
        )

    def cancel_unsent_before(self, project: int, epoch: int, version: int) -> int:
        return self._db.execute(sql.CANCEL_UNSENT_BEFORE, (project, epoch, version)).rowcount

    def expired(self, now: float, limit: int) -> list[Assignment]:
        return [Assignment(*row) for row in self._db.execute(sql.EXPIRED, (now, limit))]

    def end_leases(self, host: int, now: float) -> int:
        return self._db.execute(sql.END_LEASES, (now, host, now)).rowcount

    def next_lease_end(self) -> float | None:
        end: float | None = self._db.execute(sql.NEXT_LEASE_END).fetchone()[0]
        return end

    def take_verdicts(self, host: int, limit: int) -> list[Assignment]:
        found = [Assignment(*row) for row in self._db.execute(sql.UNTOLD, (host, limit))]
        if found:
            self._db.executemany(sql.TELL, [(assignment.id,) for assignment in found])
        return found

    def take_back_credit(self, host: int, now: float) -> float:
        taken = float(self._db.execute(sql.UNRIPE_CREDIT, (host, now)).fetchone()[0])
        if taken:
            self._db.execute(sql.TAKE_BACK, (host, now))
        return taken

    def put_delta(self, delta: StoredDelta) -> None:
        self._db.execute(sql.PUT_DELTA, msgspec.structs.astuple(delta))

    def delta(self, assignment: int) -> StoredDelta | None:
        row = self._db.execute(sql.GET_DELTA, (assignment,)).fetchone()
        return None if row is None else StoredDelta(*row)

    def remove_delta(self, assignment: int) -> None:
        self._db.execute(sql.REMOVE_DELTA, (assignment,))

    def with_delta(self, unit: int, digest: str) -> int | None:
        row = self._db.execute(sql.WITH_DELTA, (unit, digest)).fetchone()
        return None if row is None else int(row[0])


class SqliteShares:
    """Implements `store.interface.Shares`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def taken(self, project: int, epoch: int, version: int, holder: str) -> int:
        row = self._db.execute(sql.TAKEN, (project, epoch, version, holder)).fetchone()
        return 0 if row is None else int(row[0])

    def add(self, project: int, epoch: int, version: int, holder: str, change: int) -> None:
        parameters = (project, epoch, version, holder, change, change)
        self._db.execute(sql.ADD_SHARE, parameters)


def _pair(row: tuple[Any, ...]) -> tuple[Assignment, UnitRow]:
    return Assignment(*row[:_COLUMNS]), UnitRow(*row[_COLUMNS:])
