"""What new results are compared with: results that count, lies, and how far apart pairs were.

All keep a project's newest rows only, so they stay small however long it trains.
"""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.leaning import KEPT_LIES, KEPT_RESULTS, Lie
from pleb_coordinator.core.suspicion import RECENT_RESULTS, Traits
from pleb_coordinator.core.tolerance import RECENT_PAIRS, ConfirmedPair
from pleb_coordinator.store.queries import comparisons as sql
from pleb_coordinator.store.rows import Rows, TableGroup

__all__ = ["Comparisons"]

_TRAITS: Final = Rows(Traits)
_LIE: Final = Rows(Lie)
_PAIR: Final = Rows(ConfirmedPair)


class Comparisons(TableGroup):
    """Rows of an epoch; those of earlier ones are never returned."""

    def add_traits(self, project: int, epoch: int, assignment: int, traits: Traits) -> None:
        """Keep the traits of a result that was confirmed; once for each assignment."""
        key = {"project": project, "epoch": epoch, "assignment": assignment}
        self._db.execute(sql.ADD_TRAITS, **key, **_TRAITS.parameters(traits))
        self._db.execute(sql.FORGET_TRAITS, project=project, keep=KEPT_RESULTS)

    def recent_traits(self, project: int, epoch: int, limit: int = RECENT_RESULTS) -> list[Traits]:
        """Return the traits of the newest confirmed results, newest first."""
        key = {"project": project, "epoch": epoch, "limit": limit}
        return _TRAITS.all(self._db.execute(sql.RECENT_TRAITS, **key))

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
