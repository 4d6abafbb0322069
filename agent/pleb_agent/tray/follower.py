"""Following agentd through its life and death, without a tick while it lives.

A follower is turned by an event loop, which waits for it and for one thing more.
An agentd that trains changes its status four times a second; one look a second is enough for an
icon, so after each look the socket is left alone for that long and only the newest is parsed.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.tray.agentd import BrokenStreamError, EventStream, NotRunningError, read_place

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["AgentEndedError", "Follower"]

LOOK_SECONDS: Final = 1.0
FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 5.0


class AgentEndedError(Exception):
    """The agent that was followed was stopped on purpose, or its folder is gone.

    An agentd that stops cleanly removes its `agentd.json`; one that is killed leaves it.
    """


class HasFile(Protocol):
    """Something that `select` can wait for."""

    def fileno(self) -> int:
        """Return what to wait on."""


class Follower:
    """Calls `on_status` at each change: with a status, or with None where agentd is gone."""

    def __init__(
        self,
        home: str,
        clock: Callable[[], float],
        on_status: Callable[[dict[str, Any] | None], None],
    ) -> None:
        """`clock`: monotonic seconds."""
        self._home = home
        self._clock = clock
        self._on_status = on_status
        self._connection: socket.socket | None = None
        self._stream = EventStream()
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._muted = False
        self._has_followed = False
        self._wake_at: float | None = clock()

    @property
    def connection(self) -> socket.socket | None:
        """The socket to wait for; None: wait for the time alone."""
        return None if self._muted else self._connection

    @property
    def wake_at(self) -> float | None:
        """When to call `turn` even if the socket stays silent."""
        return self._wake_at

    def retry_now(self) -> None:
        """Look for agentd at once and often: it has just been started."""
        if self._connection is None:
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._wake_at = self._clock()

    def wait(self, other: HasFile) -> bool:
        """Wait until `turn` has something to do or `other` is readable; return whether it is."""
        waiting_on = [each for each in (other, self.connection) if each is not None]
        seconds = None if self._wake_at is None else max(0.0, self._wake_at - self._clock())
        return other in select.select(waiting_on, [], [], seconds)[0]

    def turn(self) -> None:
        """Do what is due: connect, or read what came.

        Raises:
            AgentEndedError: there is nothing left to follow.
        """
        if self._connection is None:
            if self._wake_at is not None and self._clock() >= self._wake_at:
                self._connect()
            return
        if self._muted and self._wake_at is not None and self._clock() < self._wake_at:
            return
        self._muted, self._wake_at = False, None
        self._read(self._connection)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> None:
        try:
            self._connection = read_place(self._home).follow()
        except (NotRunningError, OSError):
            place = os.path.join(self._home, "agentd.json")  # noqa: PTH118 - pathlib takes 1 MB
            expected = place if self._has_followed else self._home
            if not os.path.exists(expected):  # noqa: PTH110 - likewise
                raise AgentEndedError from None
            self._lost()
            return
        self._stream = EventStream()
        self._wake_at = None

    def _read(self, connection: socket.socket) -> None:
        """Read all that is there; show the newest status of it."""
        newest, open_still = None, True
        try:
            while open_still:
                data = connection.recv(65536)
                open_still = bool(data)
                newest = self._stream.feed(data) or newest
        except BlockingIOError:
            pass
        except (OSError, BrokenStreamError):
            open_still = False
        if newest is not None:
            self._has_followed = True
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._muted, self._wake_at = True, self._clock() + LOOK_SECONDS
            self._on_status(newest)
        if not open_still:
            self._lost()

    def _lost(self) -> None:
        self.close()
        self._muted = False
        self._wake_at = self._clock() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
        self._on_status(None)
