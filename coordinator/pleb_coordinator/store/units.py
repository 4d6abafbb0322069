"""Units, and how many of a round each account has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.fitting import InHand
from pleb_coordinator.core.records import Counting, NewUnit, Purpose, SpotCheck, UnitRow
from pleb_coordinator.core.unit_state import UnitEvent, UnitState, next_unit_state
from pleb_coordinator.store.queries import units as sql
from pleb_coordinator.store.rows import Rows, TableGroup, version_key
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


__all__ = ["Shares", "Units"]

_NEW: Final = Rows(NewUnit)
_UNIT: Final = Rows(UnitRow)


class Units(TableGroup):
    """Units and their states."""

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
        """Add open units with one unsent assignment each, which are given out in this order."""
        place = version_key(project, epoch, version)
        kinds: set[UnitKind] = set()
        rows = []
        for unit in units:
            kinds.add(unit.kind)
            rows.append({"now": now, **place, **_NEW.parameters(unit)})
        self._db.execute_each(sql.ADD_UNIT, rows)
        for kind in sorted(kinds):
            self._db.execute(
                sql.FIRST_ASSIGNMENTS,
                kind=kind,
                purpose=purpose,
                trusted_only=trusted_only,
                now=now,
                **place,
            )

    def find(
        self, project: int, epoch: int, version: int, kind: UnitKind, position: int
    ) -> UnitRow | None:
        """Return the unit in that place, or None."""
        place = version_key(project, epoch, version)
        return _UNIT.first(self._db.execute(sql.FIND_UNIT, kind=kind, position=position, **place))

    def warm_start(self, project: int, epoch: int, version: int) -> UnitRow | None:
        """Return the unit of a round that is a warm start, None if it is another round."""
        unit = self.find(project, epoch, version, UnitKind.TRAIN, 0)
        if unit is None or unit.batches_per_step == 1 or unit.state is UnitState.CANCELLED:
            return None
        return unit

    def add(self, project: int, epoch: int, version: int, unit: NewUnit, now: float) -> int:
        """Add one open unit without assignments; return its id."""
        values = version_key(project, epoch, version) | _NEW.parameters(unit)
        return int(self._value(sql.ADD_UNIT, now=now, **values))

    def get(self, unit: int) -> UnitRow:
        """Return a unit. Raises `LookupError`."""
        row = _UNIT.first(self._db.execute(sql.GET_UNIT, unit=unit))
        if row is None:
            message = f"There is no unit {unit}."
            raise LookupError(message)
        return row

    def of_round(
        self, project: int, epoch: int, version: int, states: Collection[UnitState]
    ) -> list[UnitRow]:
        """Return the training units of a round in these states, by position."""
        rows = self._db.execute(sql.UNITS_OF_ROUND, **version_key(project, epoch, version))
        return [unit for unit in _UNIT.all(rows) if unit.state in states]

    def newest(self, project: int, limit: int) -> list[UnitRow]:
        """Return units of any kind, newest version first."""
        return _UNIT.all(self._db.execute(sql.NEWEST_UNITS, project=project, limit=limit))

    def move(self, unit: UnitRow, event: UnitEvent, now: float, canonical: int | None) -> bool:
        """Apply an event to a unit and count it in its round.

        Returns:
            False: the unit's state is not that of `unit` any more; nothing has changed.

        Raises:
            KeyError: the event cannot happen in that state.
        """
        after = next_unit_state(unit.state, event)
        states = {"before": unit.state, "after": after}
        if not self._changed(sql.MOVE_UNIT, unit=unit.id, canonical=canonical, now=now, **states):
            return False
        if unit.kind == UnitKind.TRAIN:
            self._db.execute(
                sql.COUNT_IN_ROUND,
                **version_key(unit.project, unit.epoch, unit.version),
                open=(after == UnitState.OPEN) - (unit.state == UnitState.OPEN),
                valid=(after == UnitState.VALID) - (unit.state == UnitState.VALID),
            )
        return True

    def make_due(self, unit: int) -> None:
        """Note that there is something about the unit that `verify` has not seen."""
        self._db.execute(sql.NEW_RESULT, unit=unit)

    def make_due_before(self, project: int, epoch: int, version: int) -> None:
        """Make units of versions before `version` due that are decided and wait for a check."""
        self._db.execute(sql.CHECKS_IN_VAIN, **version_key(project, epoch, version))

    def set_counting(self, unit: int, counting: Counting, audit_rate: float | None) -> None:
        """Store what makes the unit's result count, and how likely its author was checked."""
        self._db.execute(sql.SET_COUNTING, unit=unit, counting=counting, audit_rate=audit_rate)

    def open_exam(self, unit: int, counting: Counting, now: float) -> None:
        """Make the unit an exam."""
        self._db.execute(sql.OPEN_EXAM, unit=unit, counting=counting, now=now)

    def set_dispute(self, unit: int, *, disputed: bool, deciders: int) -> None:
        """Store whether results differ, and how many hosts were drawn to decide."""
        self._db.execute(sql.SET_DISPUTE, unit=unit, disputed=disputed, deciders=deciders)

    def set_chunk(self, unit: int, chunk: str, memory_bytes: int) -> None:
        """Store which part of the model the unit trains, and what a host must have for it."""
        self._db.execute(sql.SET_CHUNK, unit=unit, chunk=chunk, memory_bytes=memory_bytes)

    def count_chunks(self, project: int, epoch: int, version: int) -> int:
        """Return how many units of the round are of a chunk, not of the whole model."""
        return int(self._value(sql.COUNT_CHUNK_UNITS, **version_key(project, epoch, version)))

    def set_steps(self, unit: int, local_steps: int) -> None:
        """Change the steps of a unit that no host has had."""
        self._db.execute(sql.SET_STEPS, unit=unit, local_steps=local_steps)

    def steps_of_round(self, project: int, epoch: int, version: int) -> int:
        """Return the local steps that made the version after `version`."""
        ((steps,),) = self._db.recall(sql.STEPS_OF_ROUND, **version_key(project, epoch, version))
        return int(steps)

    def first_tries_in_hand(
        self, project: int, epoch: int, version: int, every: int = 1
    ) -> list[InHand]:
        """Return the open first tries of a round that hosts of known speed compute.

        `every`: of so many places of the round one is looked at; units are handed out in any order
        of places, so that is a fair sample.
        """
        where = version_key(project, epoch, version) | {"every": every}
        return [InHand(*row) for row in self._db.execute(sql.FIRST_TRIES_IN_HAND, **where)]

    def set_look_at(self, unit: int, at: float | None) -> None:
        """Store when `verify` is due although nothing happens; None: never."""
        self._db.execute(sql.SET_LOOK_AT, unit=unit, at=at)

    def look_by(self, unit: int, at: float) -> None:
        """Let `verify` be due at that time at the latest."""
        self._db.execute(sql.LOOK_BY, unit=unit, at=at)

    def next_look(self) -> float | None:
        """Return the earliest time of `set_look_at`; None: there is none."""
        at: float | None = self._value(sql.NEXT_LOOK)
        return at

    def look_now(self, now: float) -> int:
        """Make units due whose time has come; return how many."""
        return self._db.execute(sql.LOOK_NOW, now=now).rowcount

    def set_spot_check(self, unit: int, spot_check: SpotCheck) -> None:
        """Store whether a trusted host should compute the unit."""
        self._db.execute(sql.SET_SPOT_CHECK, unit=unit, spot_check=spot_check)

    def to_spot_check(
        self, project: int, epoch: int, oldest: int, spot_check: SpotCheck, limit: int
    ) -> list[UnitRow]:
        """Return units to spot-check from version `oldest` on, newest first."""
        rows = self._db.execute(
            sql.TO_SPOT_CHECK,
            spot_check=spot_check,
            limit=limit,
            **version_key(project, epoch, oldest),
        )
        return _UNIT.all(rows)

    def exams(self, project: int, epoch: int, version: int) -> list[UnitRow]:
        """Return the round's exams, decided or not."""
        return _UNIT.all(self._db.execute(sql.EXAMS, **version_key(project, epoch, version)))

    def count_exams(self, project: int, epoch: int, version: int) -> int:
        """Return how many of the round's units became exams."""
        return int(self._value(sql.COUNT_EXAMS, **version_key(project, epoch, version)))

    def waiting_disputes(self, project: int, limit: int) -> list[UnitRow]:
        """Return units in dispute for which no host is asked at the moment."""
        return _UNIT.all(self._db.execute(sql.WAITING_DISPUTES, project=project, limit=limit))

    def looked_at(self, unit: int, revision: int) -> bool:
        """Note that `verify` has seen all results.

        Returns:
            False: there is another result by now, or another process has noted it.
        """
        return self._changed(sql.LOOKED_AT, unit=unit, revision=revision)

    def due(self, project: int, limit: int) -> list[UnitRow]:
        """Return training units with results that `verify` has not seen."""
        return _UNIT.all(self._db.execute(sql.DUE_UNITS, project=project, limit=limit))

    def undecided_before(self, project: int, epoch: int, version: int, limit: int) -> list[UnitRow]:
        """Return open and late units of versions before `version`, earlier epochs included."""
        rows = self._db.execute(
            sql.UNDECIDED_BEFORE, limit=limit, **version_key(project, epoch, version)
        )
        return _UNIT.all(rows)


class Shares(TableGroup):
    """How many units of a round an account or public network (a holder) has taken."""

    def taken(self, project: int, epoch: int, version: int, holder: str) -> int:
        """Return the count."""
        key = version_key(project, epoch, version)
        return int(self._value(sql.TAKEN, holder=holder, **key) or 0)

    def add(self, project: int, epoch: int, version: int, holder: str, change: int) -> None:
        """Add `change` to the count, which never falls below 0."""
        key = version_key(project, epoch, version)
        self._db.execute(sql.ADD_SHARE, holder=holder, change=change, **key)
