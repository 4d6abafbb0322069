"""A small client of the Wayland protocol: no library, nothing that can hang.

Messages are (object, size << 16 | opcode, arguments), in the byte order of the machine; arguments
are 32-bit words, and strings and arrays with their length before and padding after them. Source:
"The Wayland Protocol", chapter 4 (Wire Format), and `wayland.xml`.
"""

from __future__ import annotations

import struct
import time
from typing import Final, NamedTuple

from pleb_agent.dbus.stream import (
    ANSWER_SECONDS,
    ServiceError,
    ServiceLost,
    ServiceMissing,
    connect,
)

__all__ = ["Global", "Message", "WaylandConnection", "read_string", "read_words", "write_string"]

DISPLAY: Final = 1
_SYNC, _GET_REGISTRY = 0, 1
_ERROR, _DELETE_ID = 0, 1
_BIND: Final = 0
_GLOBAL, _GLOBAL_REMOVE = 0, 1
_HEADER: Final = struct.Struct("=II")
_WORD: Final = struct.Struct("=I")


class Message(NamedTuple):
    """One event: which object sends what."""

    target: int
    opcode: int
    body: bytes


class Global(NamedTuple):
    """An interface that the compositor offers."""

    name: int
    interface: str
    version: int


class WaylandConnection:
    """A connection to a compositor. `globals`: what it offers.

    Raises:
        ServiceMissing: no compositor listens there.
        ServiceLost: it does not answer.
    """

    def __init__(self, path: str) -> None:
        stream = connect([path], "The Wayland compositor")
        if stream is None:
            raise ServiceMissing(f"No Wayland compositor answers at {path}.")
        self._stream = stream
        self._received = bytearray()
        self._last_id = DISPLAY
        try:
            self._registry = self.new_id()
            self.send(DISPLAY, _GET_REGISTRY, _WORD.pack(self._registry))
            self.globals = self._list_globals()
        except ServiceError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the socket, readable when events arrive."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the compositor."""
        self._stream.close()

    def new_id(self) -> int:
        """Return a number for a new object. None is used twice: we make few."""
        self._last_id += 1
        return self._last_id

    def send(self, target: int, opcode: int, body: bytes = b"") -> None:
        """Send one request.

        Raises:
            ServiceLost: the compositor is gone.
        """
        size = _HEADER.size + len(body)
        self._stream.write(_HEADER.pack(target, size << 16 | opcode) + body)

    def offered(self, interface: str) -> list[Global]:
        """Return the offers of an interface; [] if there are none."""
        return [each for each in self.globals if each.interface == interface]

    def bind(self, offer: Global, version: int) -> int:
        """Make an object of an offered interface, of this version or the offered one."""
        number = self.new_id()
        body = (
            _WORD.pack(offer.name)
            + write_string(offer.interface)
            + struct.pack("=II", min(version, offer.version), number)
        )
        self.send(self._registry, _BIND, body)
        return number

    def events(self) -> list[Message]:
        """Return the events that have arrived, without waiting.

        Raises:
            ServiceLost: the compositor is gone, or reports an error.
        """
        self._received += self._stream.read(0)
        return self._whole_events()

    def _whole_events(self) -> list[Message]:
        events, at = [], 0
        while at + _HEADER.size <= len(self._received):
            target, word = _HEADER.unpack_from(self._received, at)
            size, opcode = word >> 16, word & 0xFFFF
            if size < _HEADER.size or size % 4:
                raise ServiceLost("The Wayland compositor sent invalid data.")
            if at + size > len(self._received):
                break
            body = bytes(self._received[at + _HEADER.size : at + size])
            events.append(Message(target, opcode, body))
            at += size
        del self._received[:at]
        for event in events:
            if event.target == DISPLAY and event.opcode == _ERROR:
                reason = "it does not say which"
                if len(event.body) >= 12:
                    reason = read_string(event.body, 8)[0]
                raise ServiceLost(f"The Wayland compositor reports an error: {reason}.")
        return events

    def _list_globals(self) -> list[Global]:
        """Wait for the answer to `sync`: everything that is offered comes before."""
        done = self.new_id()
        self.send(DISPLAY, _SYNC, _WORD.pack(done))
        deadline = time.monotonic() + ANSWER_SECONDS
        offers: list[Global] = []
        while True:
            self._received += self._stream.read_some(deadline - time.monotonic())
            for event in self._whole_events():
                if event.target == self._registry and event.opcode == _GLOBAL:
                    offers.append(_read_global(event.body))
                if event.target == done:
                    return offers


def write_string(text: str) -> bytes:
    """Return a string argument: its length with the final zero, then both, padded."""
    data = text.encode() + b"\0"
    return _WORD.pack(len(data)) + data + bytes(-len(data) % 4)


def read_string(body: bytes, at: int) -> tuple[str, int]:
    """Return a string argument and where the next argument begins.

    Raises:
        ServiceLost: it is longer than the message.
    """
    if at + 4 > len(body) or at + 4 + (size := _WORD.unpack_from(body, at)[0]) > len(body):
        raise ServiceLost("The Wayland compositor sent invalid data.")
    text = body[at + 4 : at + 4 + max(0, size - 1)].decode("utf-8", "replace")
    return text, at + 4 + size + (-size % 4)


def read_words(body: bytes) -> tuple[int, ...]:
    """Return an array argument of 32-bit words, the only one of a message.

    Raises:
        ServiceLost: it is longer than the message.
    """
    size = _WORD.unpack_from(body)[0] if len(body) >= _WORD.size else -1
    if not 0 <= size <= len(body) - _WORD.size or size % 4:
        raise ServiceLost("The Wayland compositor sent invalid data.")
    return struct.unpack_from(f"={size // 4}I", body, _WORD.size)


def _read_global(body: bytes) -> Global:
    if len(body) < 3 * _WORD.size:
        raise ServiceLost("The Wayland compositor sent invalid data.")
    interface, at = read_string(body, 4)
    return Global(
        _WORD.unpack_from(body)[0], interface, _WORD.unpack_from(body.ljust(at + 4, b"\0"), at)[0]
    )
