"""A small client of the X Window System protocol, version 11: no library, nothing that can hang.

Xlib ends the process when the server goes away and waits without a limit when it does not answer.
What the probe needs is a dozen requests. Source: "X Window System Protocol", X Consortium Standard,
X Version 11, release 7.7, appendix B (encodings). Everything is little-endian, as we ask for.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from pleb_agent.dbus.stream import ANSWER_SECONDS, ServiceError, ServiceMissing, connect

if TYPE_CHECKING:
    from pleb_agent.probe.x11_place import Cookie, Place

__all__ = ["Extension", "X11Connection", "XProtocolError"]

_ERROR, _REPLY, _GENERIC_EVENT = 0, 1, 35
_SENT_BY_CLIENT: Final = 0x80
_PACKET_BYTES: Final = 32
_CHANGE_WINDOW_ATTRIBUTES, _INTERN_ATOM, _GET_PROPERTY, _QUERY_EXTENSION = 2, 16, 20, 98
_EVENT_MASK_ATTRIBUTE: Final = 0x800
_MOST_PROPERTY_WORDS: Final = 256
_LONGEST_PACKET_BYTES: Final = 1 << 22


class XProtocolError(ServiceError):
    """The server refuses a request. `code`: that of the protocol, such as 3 for BadWindow."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The X server refuses a request (error {code}).")
        self.code = code


class Extension:
    """Where an extension's requests and events begin."""

    def __init__(self, major: int, first_event: int) -> None:
        self.major = major
        self.first_event = first_event


class X11Connection:
    """A connection to one display. `root`: the root window of its first screen.

    Raises:
        ServiceMissing: no server listens there.
        ServiceError: the server refuses without its cookie.
        ServiceLost: it does not answer.
    """

    def __init__(self, place: Place, cookie: Cookie) -> None:
        stream = connect(place.addresses, "The X server")
        if stream is None:
            raise ServiceMissing(f"No X server answers at {place.name}.")
        self._stream = stream
        self._sequence = 0
        self._events: deque[bytes] = deque()
        self._received = bytearray()
        self._id_base = self._id_mask = self._next_id = 0
        try:
            self._set_up(cookie)
        except ServiceError:
            self._stream.close()
            raise

    def fileno(self) -> int:
        """Return the socket, readable when events arrive."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the server."""
        self._stream.close()

    def new_id(self) -> int:
        """Return an identifier for something that we create in the server."""
        self._next_id += 1
        return self._id_base | (self._next_id & self._id_mask)

    def send(self, opcode: int, detail: int, body: bytes = b"") -> int:
        """Send one request (`body`: a multiple of 4 bytes); return its sequence number."""
        self._stream.write(struct.pack("<BBH", opcode, detail, 1 + len(body) // 4) + body)
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._sequence

    def ask(self, opcode: int, detail: int, body: bytes = b"") -> bytes:
        """Send one request and return its whole reply.

        Raises:
            XProtocolError: the server refuses it.
            ServiceLost: no answer comes in time.
        """
        sequence = self.send(opcode, detail, body)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            while not (packet := self._packet_received()):
                self._wait(deadline)
            if packet[0] not in (_ERROR, _REPLY):
                self._events.append(packet)
            elif struct.unpack_from("<H", packet, 2)[0] == sequence:
                if packet[0] == _ERROR:
                    raise XProtocolError(packet[1])
                return packet

    def events(self) -> list[bytes]:
        """Return the events that have arrived, without waiting; errors are ignored."""
        self._received += self._stream.read(0)
        while packet := self._packet_received():
            if packet[0] not in (_ERROR, _REPLY):
                self._events.append(packet)
        taken = list(self._events)
        self._events.clear()
        return taken

    def extension(self, name: str) -> Extension:
        """Look up an extension.

        Raises:
            ServiceMissing: the server does not have it.
        """
        text = name.encode()
        body = struct.pack("<HH", len(text), 0) + _padded(text)
        present, major, first_event = struct.unpack_from(
            "<BBB", self.ask(_QUERY_EXTENSION, 0, body), 8
        )
        if not present:
            raise ServiceMissing(f"The X server has no {name} extension.")
        return Extension(major, first_event)

    def atom(self, name: str) -> int:
        """Return the number of a name."""
        text = name.encode()
        body = struct.pack("<HH", len(text), 0) + _padded(text)
        return int(struct.unpack_from("<I", self.ask(_INTERN_ATOM, 0, body), 8)[0])

    def numbers(self, window: int, name: int) -> tuple[int, ...]:
        """Return a property made of 32-bit numbers; () when the window does not have it."""
        body = struct.pack("<IIIII", window, name, 0, 0, _MOST_PROPERTY_WORDS)
        reply = self.ask(_GET_PROPERTY, 0, body)
        if reply[1] != 32:  # bits of each item; 0: no such property
            return ()
        count = struct.unpack_from("<I", reply, 16)[0]
        return struct.unpack_from(f"<{count}I", reply, _PACKET_BYTES)

    def select_events(self, window: int, mask: int) -> None:
        """Select the events of a window that we want; a window that is gone is ignored."""
        body = struct.pack("<III", window, _EVENT_MASK_ATTRIBUTE, mask)
        self.send(_CHANGE_WINDOW_ATTRIBUTES, 0, body)

    def _set_up(self, cookie: Cookie) -> None:
        name, data = cookie.name.encode(), cookie.data
        self._stream.write(
            struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(data))
            + _padded(name)
            + _padded(data)
        )
        deadline = time.monotonic() + ANSWER_SECONDS
        status, reason_bytes, words = struct.unpack("<BBxxxxH", self._bytes(8, deadline))
        answer = self._bytes(words * 4, deadline)
        if status != 1:
            reason = answer[:reason_bytes].decode("latin-1").strip() or "it does not say why"
            raise ServiceError(f"The X server refused the connection: {reason}.")
        self._id_base, self._id_mask = struct.unpack_from("<II", answer, 4)
        vendor_bytes, formats = struct.unpack_from("<H3xB", answer, 16)
        screens_at = 32 + vendor_bytes + (-vendor_bytes % 4) + 8 * formats
        self.root = int(struct.unpack_from("<I", answer, screens_at)[0])

    def _packet_received(self) -> bytes:
        """Return the next whole reply, event or error; b"" when there is none yet."""
        if len(self._received) < _PACKET_BYTES:
            return b""
        size = _PACKET_BYTES
        kind = self._received[0] & ~_SENT_BY_CLIENT
        if kind in (_REPLY, _GENERIC_EVENT):
            size += 4 * int(struct.unpack_from("<I", self._received, 4)[0])
        if size > _LONGEST_PACKET_BYTES:
            raise self._stream.invalid()
        if len(self._received) < size:
            return b""
        packet = bytes(self._received[:size])
        del self._received[:size]
        return packet

    def _bytes(self, count: int, deadline: float) -> bytes:
        while len(self._received) < count:
            self._wait(deadline)
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _wait(self, deadline: float) -> None:
        self._received += self._stream.read_some(deadline - time.monotonic())


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
