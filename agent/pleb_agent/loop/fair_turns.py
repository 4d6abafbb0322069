"""Keeps the ledger of computing time, in memory and in the journal, and picks who is next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.shares import USUAL_SHARE, Ledger, begin, charge, choose, forget, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.journal.journal import Journal
    from pleb_agent.loop.ports import CurrentPreferences
    from pleb_agent.loop.session import Session

__all__ = ["FairTurns"]

_NAME: Final = "shares"


class FairTurns:
    """Turns in proportion to the preference `shares`."""

    def __init__(self, journal: Journal, preferences: CurrentPreferences) -> None:
        self._journal = journal
        self._preferences = preferences
        text = journal.setting(_NAME)
        self._ledger = msgspec.json.decode(text, type=Ledger) if text else Ledger()

    def choose(self, due: Sequence[Session]) -> Session:
        """Return whose turn it is; of equals the one that has waited longest."""
        by_number = {one.project: one for one in sorted(due, key=lambda one: one.next_look_at)}
        shares = {number: self._share(one) for number, one in by_number.items()}
        return by_number[choose(self._ledger, shares)]

    def begin(self, session: Session) -> None:
        """A unit of this session begins."""
        self._keep(begin(self._ledger, session.project, self._share(session)))

    def end(self, session: Session) -> None:
        """The unit has ended, or was put away."""
        self._keep(settle(self._ledger, session.project, self._share(session)))

    def charge(self, session: Session, compute_seconds: float) -> None:
        """The engine computed for this session."""
        share = self._share(session)
        self._keep(charge(self._ledger, session.project, compute_seconds, share))

    def is_next(self, session: Session, others: Sequence[Session], more_seconds: float) -> bool:
        """Whether the session will be chosen again after so many more seconds of its unit.

        Of equals the others come first.
        """
        share = self._share(session)
        ahead = charge(self._ledger, session.project, more_seconds, share)
        shares = {one.project: self._share(one) for one in others} | {session.project: share}
        return choose(ahead, shares) == session.project

    def forget(self, project: int) -> None:
        """The project was left; its number may come again for another one."""
        self._keep(forget(self._ledger, project))

    def _share(self, session: Session) -> int:
        return self._preferences().shares.get(session.name, USUAL_SHARE)

    def _keep(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._journal.keep_setting(_NAME, msgspec.json.encode(ledger).decode())
