"""An X server of a few requests on a real socket, in the abstract name space."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pleb_agent.probe.x11_place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT, IDLE_COUNTER, OUTPUT = 0x2A, 0x31, 0x55
QUERY_EXTENSION, INTERN_ATOM, GET_PROPERTY = 98, 16, 20
SYNC, RANDR, XWAYLAND = 134, 140, 150
ALARM_EVENT, PROPERTY_NOTIFY = 84, 28
FIRST_SYNC_EVENT = 83


class FakePlace(Place):
    """Where the fake listens."""

    @property
    def addresses(self) -> tuple[str, str]:
        return self.name, self.name


class FakeX:
    """`extensions`: name -> major opcode. `properties`: (window, atom) -> numbers."""

    def __init__(self) -> None:
        self.extensions = {"SYNC": SYNC, "RANDR": RANDR}
        self.atoms: dict[str, int] = {}
        self.properties: dict[tuple[int, int], tuple[int, ...]] = {}
        self.bad_windows: set[int] = set()
        self.counters = {"SERVERTIME": 0x30, "IDLETIME": IDLE_COUNTER}
        self.idle_milliseconds = 0
        self.output_name = "HDMI-1"
        self.refuses_with = ""
        self.sent: list[bytes] = []
        """Requests that have no answer."""
        self.before_answer: list[bytes] = []
        """Events that are sent just before the next answer."""
        self.cookie = b""
        self._sequence = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.place = FakePlace(f"\0pleb-test-{os.getpid()}-{id(self)}", 0)
        self._listener.bind(self.place.name)
        self._listener.listen(1)
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def say(self, event: bytes) -> None:
        assert self._client is not None
        self._client.sendall(event.ljust(32, b"\0"))

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._client is not None:
            self._client.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            self._client = client
            self._greet(client)
            while header := client.recv(4, socket.MSG_WAITALL):
                opcode, detail, words = struct.unpack("<BBH", header)
                body = client.recv(words * 4 - 4, socket.MSG_WAITALL) if words > 1 else b""
                self._sequence += 1
                self._handle(client, opcode, detail, body)
        except OSError:
            return

    def _greet(self, client: socket.socket) -> None:
        _, major, _, name_bytes, data_bytes = struct.unpack(
            "<BxHHHHxx", client.recv(12, socket.MSG_WAITALL)
        )
        assert major == 11
        client.recv(name_bytes + -name_bytes % 4, socket.MSG_WAITALL)
        self.cookie = client.recv(data_bytes + -data_bytes % 4, socket.MSG_WAITALL)[:data_bytes]
        if self.refuses_with:
            text = self.refuses_with.encode()
            words = len(text) // 4 + 1
            head = struct.pack("<BBHHH", 0, len(text), 11, 0, words)
            client.sendall(head + text.ljust(words * 4))
            return
        vendor, formats = b"pleb!", 2  # padded to 8 bytes
        body = struct.pack("<IIIIHHBB", 0, 0x200000, 0x1FFFFF, 0, len(vendor), 0xFFFF, 1, formats)
        body = body.ljust(32, b"\0") + vendor.ljust(8, b"\0") + bytes(8 * formats)
        body += struct.pack("<I", ROOT).ljust(40, b"\0")
        client.sendall(struct.pack("<BBHHH", 1, 0, 11, 0, len(body) // 4) + body)

    def _handle(self, client: socket.socket, opcode: int, detail: int, body: bytes) -> None:
        answer = self._answer(opcode, detail, body)
        if answer is None:
            self.sent.append(struct.pack("<BB", opcode, detail) + body)
            return
        for event in self.before_answer:
            client.sendall(event.ljust(32, b"\0"))
        self.before_answer.clear()
        client.sendall(answer)

    def _answer(self, opcode: int, detail: int, body: bytes) -> bytes | None:
        if opcode == QUERY_EXTENSION:
            size = struct.unpack_from("<H", body)[0]
            major = self.extensions.get(body[4 : 4 + size].decode(), 0)
            return self._reply(struct.pack("<BBBB", bool(major), major, FIRST_SYNC_EVENT, 0))
        if opcode == INTERN_ATOM:
            size = struct.unpack_from("<H", body)[0]
            name = body[4 : 4 + size].decode()
            return self._reply(struct.pack("<I", self.atoms.setdefault(name, len(self.atoms) + 1)))
        if opcode == GET_PROPERTY:
            return self._property(*struct.unpack_from("<II", body))
        if opcode in (SYNC, RANDR):
            return self._extension(opcode, detail)
        return None

    def _property(self, window: int, name: int) -> bytes:
        if window in self.bad_windows:
            return struct.pack("<BBHI", 0, 3, self._sequence, window).ljust(32, b"\0")
        values = self.properties.get((window, name))
        if values is None:
            return self._reply(struct.pack("<III", 0, 0, 0))
        data = struct.pack(f"<{len(values)}I", *values)
        return self._reply(struct.pack("<III", 4, 0, len(values)), data, detail=32)

    def _extension(self, opcode: int, detail: int) -> bytes | None:
        if (opcode, detail) == (SYNC, 1):
            listed = b""
            for name, number in self.counters.items():
                entry = struct.pack("<IiIH", number, 0, 4, len(name)) + name.encode()
                listed += entry + bytes(-len(entry) % 4)
            return self._reply(struct.pack("<I", len(self.counters)), listed)
        if (opcode, detail) == (SYNC, 5):
            return self._reply(struct.pack("<iI", *divmod(self.idle_milliseconds, 1 << 32)))
        if (opcode, detail) == (RANDR, 25):
            head = struct.pack("<IIHHHH", 1, 2, 1, 1, 0, 0)
            return self._reply(head, struct.pack("<II", 0x77, OUTPUT))
        if (opcode, detail) == (RANDR, 9):
            shown = self.output_name.encode()
            counts = struct.pack("<HHHHH", 1, 2, 1, 0, len(shown))
            start = struct.pack("<IIIIBB", 2, 0, 300, 200, 0, 0) + counts
            return self._reply(start[:24], start[24:] + bytes(12) + shown)
        return self._reply(b"") if detail == 0 else None

    def _reply(self, start: bytes, rest: bytes = b"", detail: int = 0) -> bytes:
        """`start`: what stands in the first 24 bytes; `rest`: what follows them."""
        rest += bytes(-len(rest) % 4)
        head = struct.pack("<BBHI", 1, detail, self._sequence & 0xFFFF, len(rest) // 4)
        return (head + start).ljust(32, b"\0") + rest


@contextmanager
def fake_x() -> Iterator[FakeX]:
    server = FakeX()
    try:
        yield server
    finally:
        server.close()
