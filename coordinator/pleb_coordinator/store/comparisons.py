"""What new results are compared with: results that count, lies, and how far apart pairs were.

All keep a project's newest rows only, so they stay small however long it trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.leaning import KEPT_LIES, KEPT_RESULTS, Lie
from pleb_coordinator.core.suspicion import RECENT_RESULTS, Traits
from pleb_coordinator.core.tolerance import RECENT_PAIRS, ConfirmedPair
from pleb_coordinator.store.queries import comparisons as sql
from pleb_coordinator.store.rows import Rows, TableGroup

if TYPE_CHECKING:
    from pleb_coordinator.store.engine import Connection

__all__ = ["Comparisons", "TraitsCache"]

TraitsCache = dict[tuple[int, int], Traits]
"""Decoded traits by (row, assignment): they never change. Of many results 8 KiB each are read."""

_TRAITS: Final = Rows(Traits)
_LIE: Final = Rows(Lie)
_PAIR: Final = Rows(ConfirmedPair)
_MOST_DECODED: Final = 2 * KEPT_RESULTS


class Comparisons(TableGroup):
    """Rows of an epoch; those of earlier ones are never returned."""

    def __init__(self, db: Connection, decoded: TraitsCache) -> None:
        super().__init__(db)
        self._decoded = decoded

    def add_traits(self, project: int, epoch: int, assignment: int, traits: Traits) -> None:
        """Keep the traits of a result that was confirmed; once for each assignment."""
        key = {"project": project, "epoch": epoch, "assignment": assignment}
        self._db.execute(sql.ADD_TRAITS, **key, **_TRAITS.parameters(traits))
        self._db.execute(sql.FORGET_TRAITS, project=project, keep=KEPT_RESULTS)

    def recent_traits(self, project: int, epoch: int, limit: int = RECENT_RESULTS) -> list[Traits]:
        """Return the traits of the newest confirmed results, newest first."""
        place = {"project": project, "epoch": epoch, "limit": limit}
        keys = [tuple(key) for key in self._db.execute(sql.RECENT_KEYS, **place)]
        missing = [key for key in keys if key not in self._decoded]
        if missing:
            if len(self._decoded) > _MOST_DECODED:
                self._decoded.clear()
                missing = keys
            for row in self._db.execute(sql.TRAITS_FROM, first=missing[-1][0], **place):
                self._decoded.setdefault((row[0], row[1]), _TRAITS.record(row[2:]))
        return [self._decoded[key] for key in keys]

    def add_lie(self, project: int, epoch: int, lie: Lie) -> None:
        """Keep what is wrong about a result that was proven wrong."""
        self._db.execute(sql.ADD_LIE, project=project, epoch=epoch, **_LIE.parameters(lie))
        self._db.execute(sql.FORGET_LIES, project=project, keep=KEPT_LIES)

    def recent_lies(self, project: int, epoch: int, since: int) -> list[Lie]:
        """Return the newest proven lies about units of version `since` and later, newest first."""
        key = {"project": project, "epoch": epoch, "since": since}
        return _LIE.all(self._db.execute(sql.RECENT_LIES, **key))

    def add_pair(self, project: int, epoch: int, pair: ConfirmedPair) -> None:
        """Keep how far apart two results of a unit were."""
        key = {"project": project, "epoch": epoch}
        self._db.execute(sql.ADD_PAIR, **key, **_PAIR.parameters(pair))
        self._db.execute(sql.FORGET_PAIRS, project=project, keep=RECENT_PAIRS)

    def recent_pairs(self, project: int, epoch: int) -> list[ConfirmedPair]:
        """Return the newest pairs, newest first."""
        return _PAIR.all(self._db.execute(sql.RECENT_PAIRS, project=project, epoch=epoch))
