"""Finds and removes rows that are not needed any more; `steps.retain` decides which those are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import CalibrationClass, Round
from pleb_coordinator.store.queries import retention as sql
from pleb_coordinator.store.queries.hosts import COUNT_CLASS
from pleb_coordinator.store.rows import Rows, TableGroup, version_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Retention"]

_CLASS: Final = Rows(CalibrationClass)
_ROUND: Final = Rows(Round)


class Retention(TableGroup):
    """Rows that have served their purpose. Every list is bounded by `limit`."""

    def old_events(self, before: float, limit: int) -> list[int]:
        """Return the numbers of the oldest events from before that time."""
        oldest = self._value(sql.OLDEST_EVENT)
        if oldest is None or oldest >= before:
            return []
        rows = self._db.execute(sql.OLD_EVENTS, before=before, limit=limit)
        return [seq for (seq,) in rows]

    def remove_events(self, events: Sequence[int]) -> None:
        """Remove events."""
        self._db.execute_each(sql.REMOVE_EVENT, ({"seq": seq} for seq in events))

    def unretired_rounds(self, project: int, before: float, limit: int) -> list[Round]:
        """Return the oldest rounds that were swept, closed before that time and are not retired.

        Those with a case that a trusted host has still to look at are left out.
        """
        cases = self.cases(project)
        most = len(cases) + limit
        rows = self._db.execute(sql.UNRETIRED, project=project, before=before, limit=most)
        rounds = _ROUND.all(rows)
        return [row for row in rounds if (row.epoch, row.version) not in cases][:limit]

    def copies_of(self, row: Round, limit: int) -> list[int]:
        """Return the round's assignments whose result is not the one that counts."""
        place = version_key(row.project, row.epoch, row.version)
        return [found for (found,) in self._db.execute(sql.COPIES_OF_ROUND, limit=limit, **place)]

    def set_retired(self, row: Round, now: float) -> None:
        """Note that the round is retired; forget its convictions, and who took how many units."""
        place = version_key(row.project, row.epoch, row.version)
        self._db.execute(sql.REMOVE_SHARES, **place)
        self._db.execute(sql.REMOVE_CONVICTIONS, **place)
        self._db.execute(sql.SET_RETIRED, now=now, **place)

    def cases(self, project: int) -> set[tuple[int, int]]:
        """Return (epoch, version) of rounds with a case that a trusted host has to look at."""
        return set(self._db.execute(sql.ROUNDS_OF_SUSPENSIONS, project=project))

    def spent_rounds(self, project: int, limit: int) -> list[Round]:
        """Return the oldest retired rounds whose version is not exact any more."""
        return _ROUND.all(self._db.execute(sql.SPENT_ROUNDS, project=project, limit=limit))

    def assignments_of(self, row: Round) -> list[int]:
        """Return what is left of a round's assignments."""
        place = version_key(row.project, row.epoch, row.version)
        return [found for (found,) in self._db.execute(sql.ASSIGNMENTS_OF_ROUND, **place)]

    def remove_round(self, row: Round) -> None:
        """Remove a round and its units, whose assignments must have been removed."""
        place = version_key(row.project, row.epoch, row.version)
        self._db.execute(sql.REMOVE_UNITS_OF_ROUND, **place)
        self._db.execute(sql.REMOVE_ROUND, **place)

    def old_calibrations(self, project: int, epoch: int, before: float, limit: int) -> list[int]:
        """Return calibrations from before that time of which no class keeps the bytes."""
        rows = self._db.execute(
            sql.OLD_CALIBRATIONS, project=project, epoch=epoch, before=before, limit=limit
        )
        return [assignment for (assignment,) in rows]

    def remove_assignment(self, assignment: int) -> None:
        """Remove an assignment, whose delta must have been removed, with its looks."""
        self._db.execute(sql.REMOVE_TRAITS, assignment=assignment)
        self._db.execute(sql.REMOVE_ASSIGNMENT, assignment=assignment)

    def settled_at(self, project: int, epoch: int, version: int) -> float | None:
        """Return when the round of that version was opened; None: it was not."""
        at: float | None = self._value(sql.OPENED_AT, **version_key(project, epoch, version))
        return at

    def absent_hosts(
        self,
        project: int,
        *,
        before: float,
        new_before: float,
        settled: float,
        now: float,
        limit: int,
    ) -> list[int]:
        """Return hosts that were last seen before `settled` and before `before`.

        Those that have done nothing, good or bad, only before `new_before`. No trusted host is
        among them, and none that is banned.
        """
        rows = self._db.execute(
            sql.ABSENT_HOSTS,
            project=project,
            before=before,
            new_before=new_before,
            settled=settled,
            now=now,
            limit=limit,
        )
        return [host for (host,) in rows]

    def remove_hosts(self, project: int, hosts: Sequence[int]) -> None:
        """Remove hosts; their accounts keep credit and team, and their classes lose members."""
        classes: set[str] = set()
        for host in hosts:
            rows = self._db.execute(sql.CLASSES_OF_HOST, host=host)
            classes.update(digest for (digest,) in rows)
            self._db.execute(sql.KEEP_CREDIT, host=host)
            for statement in sql.REMOVE_HOST:
                self._db.execute(statement, host=host)
        for digest in classes:  # once each: it reads all members
            self._db.execute(COUNT_CLASS, project=project, digest=digest)

    def is_settled(self, host: int, epoch: int, version: int) -> bool:
        """Whether no result of the host from that version on may be compared with others again."""
        place = {"host": host, "epoch": epoch, "version": version}
        return not self._exists(sql.UNSETTLED_OF_HOST, **place)

    def old_runtimes(self, project: int, before: float, limit: int) -> list[tuple[int, str]]:
        """Return (host, runtime) of calibrations from before that time with another runtime."""
        rows = self._db.execute(sql.OLD_RUNTIMES, project=project, before=before, limit=limit)
        return [(host, runtime) for host, runtime in rows]

    def remove_runtime(self, host: int, runtime: str) -> None:
        """Forget which class a host had with a runtime."""
        self._db.execute(sql.REMOVE_RUNTIME, host=host, runtime=runtime)

    def empty_classes(self, project: int, before: float, limit: int) -> list[CalibrationClass]:
        """Return classes from before that time that no host belongs to."""
        rows = self._db.execute(sql.EMPTY_CLASSES, project=project, before=before, limit=limit)
        return _CLASS.all(rows)

    def remove_class(self, project: int, digest: str) -> None:
        """Remove a class and its distances."""
        self._db.execute(sql.REMOVE_DISTANCES, project=project, digest=digest)
        self._db.execute(sql.REMOVE_CLASS, project=project, digest=digest)

    def old_uploads(self, before: float, limit: int) -> list[str]:
        """Return the tokens of complete uploads that expired before that time."""
        rows = self._db.execute(sql.OLD_UPLOADS, before=before, limit=limit)
        return [token for (token,) in rows]
