"""A connection to something that may hang or end at any moment."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Final

from pleb_agent.probe.backend import ANSWER_SECONDS, SessionLost

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Stream", "connect"]

_CHUNK_BYTES: Final = 1 << 16


class Stream:
    """A Unix socket on which nothing takes longer than it may.

    `who`: the other side as a sentence names it, such as "The X server".
    """

    def __init__(self, connection: socket.socket, who: str) -> None:
        connection.settimeout(ANSWER_SECONDS)
        self._socket = connection
        self._who = who

    def fileno(self) -> int:
        """Return the socket, readable when something has come."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def read(self, wait_seconds: float) -> bytes:
        """Return what comes within this time; b"" when nothing does.

        Raises:
            SessionLost: the other side has ended.
        """
        ready, _, _ = select.select([self._socket], [], [], max(0.0, wait_seconds))
        if not ready:
            return b""
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except OSError as error:
            raise SessionLost(f"{self._who} is gone.") from error
        if not data:
            raise SessionLost(f"{self._who} has ended.")
        return data

    def read_some(self, wait_seconds: float) -> bytes:
        """Return what comes within this time, at least one byte.

        Raises:
            SessionLost: nothing comes, or the other side has ended.
        """
        if data := self.read(wait_seconds):
            return data
        raise SessionLost(f"{self._who} does not answer.")

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            SessionLost: the other side is gone or takes nothing.
        """
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise SessionLost(f"{self._who} is gone.") from error

    def nonsense(self) -> SessionLost:
        """Return the error for bytes that break the protocol."""
        return SessionLost(f"{self._who} talks nonsense.")


def connect(addresses: Sequence[str], who: str) -> Stream | None:
    """Connect to the first Unix socket that answers; None when none does."""
    for address in addresses:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
        else:
            return Stream(connection, who)
    return None
