"""A session bus that the test plays: the other end of what the tray sends and receives."""

from __future__ import annotations

import socket
from collections import deque
from itertools import count
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, Parser, new_method_call, new_signal

from pleb_agent.dbus.bus import Bus
from pleb_agent.dbus.events import EventBus
from pleb_agent.dbus.stream import Stream
from pleb_agent.tray.linux import WATCHER

__all__ = ["Broker", "member"]


class Broker:
    """The other end. `bus` is the tray's."""

    def __init__(self) -> None:
        ours, self._sock = socket.socketpair()
        self._sock.settimeout(10)
        self._parser = Parser()
        self._serial = count(1000)
        self._received: deque[Message] = deque()
        self.bus = EventBus(Bus(Stream(ours, "The message bus")))

    def next(self) -> Message:
        """Return the next message that the tray sent."""
        while not self._received:
            self._received.extend(self._parser.feed(self._sock.recv(65536)))
        return self._received.popleft()

    def call(self, path: str, interface: str, name: str, signature: str, body: Any) -> Message:
        """Call the tray; return its reply, read as a bus reads it."""
        address = DBusAddress(path, bus_name=":1.7", interface=interface)
        self.send(new_method_call(address, name, signature, body))
        self.bus.turn()
        return self.next()

    def send(self, message: Message) -> None:
        """Let a message arrive; the tray reads it when it is turned."""
        self._sock.sendall(message.serialise(serial=next(self._serial)))

    def owner(self, old: str, new: str) -> None:
        """Signal that the watcher has another owner."""
        bus = DBusAddress("/org/freedesktop/DBus", interface="org.freedesktop.DBus")
        self.send(new_signal(bus, "NameOwnerChanged", "sss", (WATCHER, old, new)))

    def hang_up(self) -> None:
        """End the session."""
        self._sock.close()

    def close(self) -> None:
        self._sock.close()
        self.bus.close()


def member(message: Message) -> str:
    """Return the name of a call or a signal."""
    return str(message.header.fields.get(HeaderFields.member))
