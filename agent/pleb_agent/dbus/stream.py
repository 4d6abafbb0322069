"""A Unix socket to a service of the desktop (X server, compositor, bus) that may hang or end.

PlebError
└── ServiceError        the service cannot be used; the message says why
    ├── ServiceMissing  there is no such service on this PC
    └── ServiceLost     it has ended, or does not answer
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANSWER_SECONDS",
    "ServiceError",
    "ServiceLost",
    "ServiceMissing",
    "Stream",
    "connect",
]

ANSWER_SECONDS: Final = 2.0
"""A service that takes longer to answer counts as lost."""
_CHUNK_BYTES: Final = 1 << 16


class ServiceError(PlebError):
    """A service of the desktop cannot be used."""


class ServiceMissing(ServiceError):
    """There is no such service on this PC."""


class ServiceLost(ServiceError):
    """The service has ended, or does not answer."""


class Stream:
    """A connected Unix socket on which nothing waits without a limit.

    `service`: the other side as a sentence names it, such as "The X server".
    """

    def __init__(self, connection: socket.socket, service: str) -> None:
        self.socket = connection
        self._service = service

    def fileno(self) -> int:
        """Return the socket, readable when something has arrived."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def interrupt(self) -> None:
        """End the connection from another thread: whatever waits on it raises `ServiceLost`."""
        with suppress(OSError):  # the other side has closed it already
            self.socket.shutdown(socket.SHUT_RDWR)

    def read(self, wait_seconds: float | None) -> bytes:
        """Return what arrives within this time (None: no limit); b"" when nothing does.

        Raises:
            ServiceLost: the other side has closed the connection.
        """
        self.socket.settimeout(None if wait_seconds is None else max(0.0, wait_seconds))
        try:
            data = self.socket.recv(_CHUNK_BYTES)
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError as error:
            raise ServiceLost(f"{self._service} is gone.") from error
        if not data:
            raise ServiceLost(f"{self._service} has ended.")
        return data

    def read_some(self, wait_seconds: float | None) -> bytes:
        """Return what arrives within this time (None: no limit), at least one byte.

        Raises:
            ServiceLost: nothing arrives in time, or the other side has closed the connection.
        """
        if data := self.read(wait_seconds):
            return data
        raise ServiceLost(f"{self._service} does not answer.")

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            ServiceLost: the other side is gone or takes nothing.
        """
        self.socket.settimeout(ANSWER_SECONDS)
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ServiceLost(f"{self._service} is gone.") from error

    def invalid(self) -> ServiceLost:
        """Return the error for bytes that break the protocol."""
        return ServiceLost(f"{self._service} sent invalid data.")


def connect(addresses: Sequence[str], service: str) -> Stream | None:
    """Connect to the first Unix socket that answers; None when none does."""
    for address in addresses:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
        else:
            return Stream(connection, service)
    return None
