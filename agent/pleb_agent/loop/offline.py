"""What is done while the network may not be used: what is in hand, and telling what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.agent_state import Activity
from pleb_agent.core.history import EventKind
from pleb_agent.loop.network_gate import lease_warning

if TYPE_CHECKING:
    from pleb_agent.loop.fair_turns import FairTurns
    from pleb_agent.loop.history import History
    from pleb_agent.loop.network_gate import NetworkGate
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session
    from pleb_agent.loop.sessions import Sessions
    from pleb_agent.loop.status import LiveStatus
    from pleb_agent.loop.turn import Turns
    from pleb_agent.loop.unit_work import Fetched

__all__ = ["Offline"]


class Offline:
    """Finds units that can be computed without the network."""

    def __init__(
        self,
        parts: Parts,
        gate: NetworkGate,
        sessions: Sessions,
        turns: Turns,
        fair: FairTurns,
        history: History,
    ) -> None:
        self._parts = parts
        self._gate = gate
        self._sessions = sessions
        self._turns = turns
        self._fair = fair
        self._history = history
        self._warned: set[int] = set()
        """Assignments whose lease was told to run out."""

    def next_unit(self) -> tuple[Session, Fetched] | None:
        """Return whose unit is computed next; None: nothing can be."""
        found: dict[int, Fetched] = {}
        idle = [one for one in self._sessions.live.values() if not one.is_busy]
        for session in idle:
            fetched = self._turns.at_hand(session)
            if fetched is not None:
                found[session.project] = fetched
        self._turns.in_hand.keep()
        if not found:
            return None
        session = self._fair.choose([one for one in idle if one.project in found])
        return session, found[session.project]

    def show(self, status: LiveStatus) -> float:
        """Tell why nothing is exchanged, and when it goes on; return the seconds until a look."""
        decision, now = self._gate.decision, self._parts.clock()
        rows = [row for row in self._parts.journal.open_assignments() if row.id not in self._warned]
        warning = lease_warning(decision, rows, now)
        if warning is not None:
            number, sentence = warning
            self._warned.add(number)
            self._history.note(EventKind.PROBLEM, sentence)
        status.set(Activity.IDLE, decision.sentence, now + decision.look_again_seconds)
        return max(1.0, decision.look_again_seconds)
