"""logind's manager on a private bus, played by a thread; its inhibitors are real files.

Like logind it may refuse, or say nothing at all.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, MessageType
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import new_error, new_method_return, new_signal

from tests.system.desktop import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jeepney import Message
    from jeepney.io.blocking import DBusConnection

PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
NAMES = (
    "org.freedesktop.login1",
    "org.freedesktop.NetworkManager",
    "org.freedesktop.UPower",
)


@dataclass
class Inhibitor:
    what: str
    who: str
    why: str
    mode: str
    reader: int

    @property
    def is_held(self) -> bool:
        """Whether anybody still has the other end open."""
        return not select.select([self.reader], [], [], 0)[0]


@dataclass
class PlayedLogind:
    connection: DBusConnection
    delay_seconds: float = 5.0
    properties: dict[str, tuple[str, Any]] = field(default_factory=dict)
    refuses: bool = False
    is_mute: bool = False
    """It takes calls and never answers."""
    inhibitors: list[Inhibitor] = field(default_factory=list)
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self, mode: str = "delay") -> list[Inhibitor]:
        return [one for one in self.inhibitors if one.mode == mode and one.is_held]

    def wait_for_inhibitor(self, mode: str = "delay") -> Inhibitor:
        until(lambda: bool(self.held(mode)), f"an inhibitor that is to {mode}")
        return self.held(mode)[0]

    def emit(self, member: str, begins: bool) -> None:
        signal = new_signal(DBusAddress(PATH, interface=MANAGER), member, "b", (begins,))
        with self.lock:
            self.connection.send(signal)

    def serve(self) -> None:
        while not self.ended:
            try:
                message = self.connection.receive(timeout=0.05)
            except TimeoutError:
                continue
            if message.header.message_type is MessageType.method_call and not self.is_mute:
                self._answer(message)

    def _answer(self, call: Message) -> None:
        member = call.header.fields[HeaderFields.member]
        if member == "Inhibit" and not self.refuses:
            what, who, why, mode = call.body
            reader, writer = os.pipe()
            self.inhibitors.append(Inhibitor(what, who, why, mode, reader))
            self._send(new_method_return(call, "h", (writer,)))
            os.close(writer)
            return
        told = {"InhibitDelayMaxUSec": ("t", int(self.delay_seconds * 1e6))} | self.properties
        if member == "Get" and call.body[1] in told:
            self._send(new_method_return(call, "v", (told[call.body[1]],)))
        else:
            self._send(new_error(call, "org.freedesktop.DBus.Error.AccessDenied"))

    def _send(self, message: Message) -> None:
        with self.lock:
            self.connection.send(message)


@contextmanager
def played_logind(address: str) -> Iterator[PlayedLogind]:
    """Own the names of logind, NetworkManager and UPower on the bus."""
    connection = open_dbus_connection(address, enable_fds=True)
    played = PlayedLogind(connection)
    for name in NAMES:
        connection.send_and_get_reply(message_bus.RequestName(name), timeout=5)
    thread = threading.Thread(target=played.serve, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        played.ended = True
        thread.join(5)
        connection.close()
        for inhibitor in played.inhibitors:
            os.close(inhibitor.reader)
