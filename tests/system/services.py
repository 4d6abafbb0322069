"""Services on a message bus, played by a thread: logind, screen savers, session managers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import new_error, new_method_return, new_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Service", "service"]

Answer = tuple[str, tuple[Any, ...]]
"""A signature and the values."""


class Service:
    """`answers`: (object path, method) -> answer; `properties`: (path, name) -> variant."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.answers: dict[tuple[str, str], Answer] = {}
        self.judges: dict[tuple[str, str], Callable[[tuple[Any, ...]], Answer | None]] = {}
        """(path, method) -> what answers a call's body; None: with an error."""
        self.properties: dict[tuple[str, str], tuple[str, Any]] = {}
        self.ended = False

    def emit(self, path: str, interface: str, member: str, signature: str, *values: Any) -> None:
        """Emit a signal."""
        address = DBusAddress(path, interface=interface)
        with self._lock:
            self._connection.send(new_signal(address, member, signature, values))

    def emit_changed(self, path: str, interface: str, name: str) -> None:
        """Emit that a property has changed."""
        changed = {name: self.properties[path, name]}
        properties = "org.freedesktop.DBus.Properties"
        self.emit(path, properties, "PropertiesChanged", "sa{sv}as", interface, changed, [])

    def answer_calls(self) -> None:
        """Answer until `ended`."""
        while not self.ended:
            try:
                message = self._connection.receive(timeout=0.05)
            except TimeoutError:
                continue
            if message.header.message_type is MessageType.method_call:
                reply = self._answer(message)
                with self._lock:
                    self._connection.send(reply)

    def _answer(self, call: Message) -> Message:
        fields = call.header.fields
        path, member = fields[HeaderFields.path], fields[HeaderFields.member]
        if member == "Get" and (path, call.body[1]) in self.properties:
            return new_method_return(call, "v", (self.properties[path, call.body[1]],))
        judge = self.judges.get((path, member))
        if judge is not None and (answer := judge(call.body)) is not None:
            return new_method_return(call, *answer)
        if (path, member) in self.answers:
            return new_method_return(call, *self.answers[path, member])
        return new_error(call, "org.freedesktop.DBus.Error.UnknownMethod")


@contextmanager
def service(bus_address: str, *names: str) -> Iterator[Service]:
    """Own these names on a bus."""
    connection = open_dbus_connection(bus_address)
    played = Service(connection)
    for name in names:
        request = message_bus.RequestName(name)
        connection.send_and_get_reply(request, timeout=5)
    thread = threading.Thread(target=played.answer_calls, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        played.ended = True
        thread.join(5)
        connection.close()
