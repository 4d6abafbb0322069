"""One connection to the loopback server, bounded: in number, and in the time for a request.

Every process of this machine can connect, and so can every page in a browser. Without bounds they
could use up the files that agentd may open, and it could not even answer its own user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

__all__ = ["MOST_CONNECTIONS", "REQUEST_SECONDS", "BoundedConnection"]

MOST_CONNECTIONS: Final = 128
"""Half of what a process may open where that is least (macOS: 256)."""
REQUEST_SECONDS: Final = 10.0
"""For the head of a request, from the first byte or the last answer on."""


class BoundedConnection(H11Protocol):
    """Gives way, while it asks for nothing, to a newer one where there are too many."""

    _deadline: asyncio.TimerHandle | None = None

    @property
    def is_asking(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's type says never None
        return cycle is not None and not cycle.response_complete

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST_CONNECTIONS:
            self._oldest_that_waits().drop()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        if self.is_asking:
            self._stop_waiting()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_asking:
            self._wait()

    def drop(self) -> None:
        """Close at once, whatever was not sent yet."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _oldest_that_waits(self) -> BoundedConnection:
        """Return who has waited the longest; the newest is among them."""
        waiting = [
            one
            for one in self.connections
            if isinstance(one, BoundedConnection) and one._deadline is not None  # noqa: SLF001
        ]
        return min(waiting, key=BoundedConnection._waits_until)

    def _waits_until(self) -> float:
        return float("inf") if self._deadline is None else self._deadline.when()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
