"""The session's bus: replies go to who asked, calls to our objects, signals to who listens.

jeepney reads and writes the messages; waiting is left to the tray's own loop, which waits for more
than the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from pleb_agent.tray.answers import NOTHING, Answer, DBusRefusal, Signal
from pleb_agent.tray.errors import NoBusError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

__all__ = ["BUS_NAME", "BUS_PATH", "BusGoneError", "SessionBus", "connect"]

BUS_NAME: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"
_NO_REPLY: Final = 1

OnReply = Callable[[tuple[Any, ...] | None], None]
"""Hears the reply's body; None: the call was refused."""
OnSignal = Callable[[tuple[Any, ...]], None]


class BusGoneError(Exception):
    """The bus has closed: the session ends."""


class BusObject(Protocol):
    """One of ours, seen by others."""

    def answer(self, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Answer a call.

        Raises:
            DBusRefusal: becomes an error reply.
        """


class SessionBus:
    """A connection to a bus."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._waiting: dict[int, OnReply] = {}
        self._objects: dict[str, BusObject] = {}
        self._listeners: dict[tuple[str, str], OnSignal] = {}
        self.unique_name: str = connection.unique_name or ""

    @property
    def connection(self) -> socket.socket:
        """What to wait for."""
        waited_for: socket.socket = self._connection.sock
        return waited_for

    def publish(self, path: str, what: BusObject) -> None:
        """Let others call this object."""
        self._objects[path] = what

    def listen(self, interface: str, member: str, rule: str, on_signal: OnSignal) -> None:
        """Hear a signal; `rule` narrows the match, such as `,arg0='…'`."""
        self._listeners[interface, member] = on_signal
        match = f"type='signal',interface='{interface}',member='{member}'{rule}"
        self.call(BUS_NAME, BUS_PATH, BUS_NAME, "AddMatch", "s", (match,))

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str | None = None,
        body: tuple[Any, ...] = (),
        on_reply: OnReply | None = None,
    ) -> None:
        """Call somebody's method; the reply comes later."""
        address = DBusAddress(path, bus_name=name, interface=interface)
        message = new_method_call(address, member, signature, body)
        serial = next(self._connection.outgoing_serial)
        if on_reply is not None:
            self._waiting[serial] = on_reply
        self._send(message, serial)

    def emit(self, signal: Signal) -> None:
        """Tell everybody."""
        emitter = DBusAddress(signal.path, interface=signal.interface)
        self._send(new_signal(emitter, signal.member, signal.signature, signal.body))

    def turn(self) -> None:
        """Take what has come.

        Raises:
            BusGoneError: the bus has closed.
        """
        try:
            data = self._connection.sock.recv(65536)
        except OSError as error:
            raise BusGoneError from error
        if not data:
            raise BusGoneError
        for message in self._connection.parser.feed(data):
            self._dispatch(message)

    def close(self) -> None:
        """Leave the bus; what was published is gone."""
        self._connection.close()

    def _dispatch(self, message: Message) -> None:
        fields = message.header.fields
        match message.header.message_type:
            case MessageType.method_call:
                self._answer(message)
            case MessageType.signal:
                key = (fields.get(HeaderFields.interface, ""), fields[HeaderFields.member])
                if key in self._listeners:
                    self._listeners[key](message.body)
            case kind:
                on_reply = self._waiting.pop(fields[HeaderFields.reply_serial], None)
                if on_reply is not None:
                    on_reply(message.body if kind is MessageType.method_return else None)

    def _answer(self, message: Message) -> None:
        try:
            answer = self._answer_of(message)
            reply = new_method_return(message, answer.signature, answer.body)
        except DBusRefusal as refusal:
            reply = new_error(message, refusal.name, "s", (str(refusal),))
        if not message.header.flags & _NO_REPLY:
            self._send(reply)

    def _answer_of(self, message: Message) -> Answer:
        fields = message.header.fields
        interface, member = fields.get(HeaderFields.interface, ""), fields[HeaderFields.member]
        if (interface, member) == ("org.freedesktop.DBus.Peer", "Ping"):
            return NOTHING
        known = self._objects.get(fields[HeaderFields.path])
        if known is None:
            raise DBusRefusal("UnknownObject", "There is no such object.")
        try:
            return known.answer(interface, member, message.body)
        except (IndexError, TypeError, ValueError) as error:
            raise DBusRefusal("InvalidArgs", "The arguments are not what is expected.") from error

    def _send(self, message: Message, serial: int | None = None) -> None:
        try:
            self._connection.send(message, serial)
        except OSError as error:
            raise BusGoneError from error


def connect(environment: Mapping[str, str]) -> SessionBus:
    """Return a connection to the session's bus.

    Where a session does not tell the address, it is in the user's runtime folder (systemd).

    Raises:
        NoBusError: nobody answers there.
    """
    usual = f"unix:path={environment.get('XDG_RUNTIME_DIR', '')}/bus"
    address = environment.get("DBUS_SESSION_BUS_ADDRESS") or usual
    try:
        return SessionBus(open_dbus_connection(address))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise NoBusError("There is no desktop session's bus here.") from error
