"""Questions to the system's services over D-Bus, each with a time-out."""

from __future__ import annotations

from typing import Any, Final

from jeepney import DBusAddress, DBusErrorResponse, MessageType, Properties
from jeepney.io.blocking import DBusConnection, open_dbus_connection

__all__ = ["SystemBus"]

_SECONDS: Final = 2.0


class SystemBus:
    """One connection, opened when it is first needed and anew after it broke.

    Not for two threads at once.
    """

    def __init__(self, address: str = "SYSTEM", timeout_seconds: float = _SECONDS) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._connection: DBusConnection | None = None

    def property_of(self, service: str, path: str, interface: str, name: str) -> Any | None:
        """Return a property's value; None: no bus, no such service or property, or no answer."""
        message = Properties(DBusAddress(path, service, interface)).get(name)
        try:
            connection = self._connected()
            reply = connection.send_and_get_reply(message, timeout=self._timeout_seconds)
        except (OSError, RuntimeError, ValueError, DBusErrorResponse):  # what jeepney raises
            self.close()
            return None
        if reply.header.message_type is MessageType.error:
            return None
        return reply.body[0][1]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> DBusConnection:
        if self._connection is None:
            self._connection = open_dbus_connection(
                self._address, auth_timeout=self._timeout_seconds
            )
        return self._connection
