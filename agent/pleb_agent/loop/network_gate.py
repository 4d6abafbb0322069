"""What the user's network may be used for now, and what waiting for it costs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity, AssignmentState
from pleb_agent.core.history import EventKind
from pleb_agent.core.network_rules import NetworkDecision, network
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.loop.status import LoopState

__all__ = ["NetworkGate"]

_LEAST_WAIT_SECONDS: Final = 1.0
_MOST_WAIT_SECONDS: Final = 60.0
_SOON_SECONDS: Final = 600.0
"""A lease that ends within this time is warned of, if it is not known when the network returns."""


class NetworkGate:
    """`decision` is the last one."""

    def __init__(self, loop: LoopState) -> None:
        self._loop = loop
        self._services = loop.services
        self._changed = asyncio.Event()
        self._warned: set[int] = set()
        """Assignments whose end of lease was warned of."""
        self.decision = NetworkDecision(
            allowed=True,
            sentence=say("The agent is starting."),
            download_bytes_per_second=None,
            upload_bytes_per_second=None,
            look_again_seconds=0.0,
        )

    def look(self) -> NetworkDecision:
        """Decide again."""
        self.decision = network(self._services.read(), self._services.preferences())
        return self.decision

    def look_again(self) -> None:
        """Something changed: decide again at once."""
        self._changed.set()

    async def watch(
        self, on_closed: Callable[[], Awaitable[None]], on_opened: Callable[[], None]
    ) -> None:
        """Call these at each change, until cancelled."""
        was_allowed = True
        while True:
            self._changed.clear()
            decision = self.look()
            if was_allowed and not decision.allowed:
                await on_closed()
            elif decision.allowed and not was_allowed:
                on_opened()
            was_allowed = decision.allowed
            wait = min(max(decision.look_again_seconds, _LEAST_WAIT_SECONDS), _MOST_WAIT_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def show_closed(self) -> float:
        """Show why nothing is exchanged; return the seconds until the next look.

        A unit that will be late because of that is warned of, once and one at a time.
        """
        decision, now = self.decision, self._services.clock()
        horizon = now + max(decision.look_again_seconds, _SOON_SECONDS)
        for row in self._services.journal.open_assignments():
            reported = row.state is AssignmentState.REPORTED or row.is_failure
            if reported or row.id in self._warned or not now < row.lease_ends_at < horizon:
                continue
            self._warned.add(row.id)
            sentence = say(
                "Unit {unit} must be sent within {minutes} min, or it is late: {why}",
                unit=row.assignment,
                minutes=max(1, round((row.lease_ends_at - now) / 60)),
                why=decision.sentence,
            )
            self._loop.history.note(EventKind.PROBLEM, sentence)
            break
        self._loop.status.set(Activity.IDLE, decision.sentence, now + decision.look_again_seconds)
        return max(_LEAST_WAIT_SECONDS, decision.look_again_seconds)
