"""A compositor of a few interfaces on a real socket, that says what a test makes it say."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_agent.probe.wayland_wire import read_string, write_string

if TYPE_CHECKING:
    from collections.abc import Iterator

SYNC, GET_REGISTRY, BIND = 0, 1, 0
Request = tuple[int, int, bytes]


class FakeCompositor:
    """`requests`: (object, opcode, body) of everything but the registry's own.

    `bound`: interface -> (object, version), in the order of binding.
    """

    def __init__(self, path: str, offers: list[tuple[str, int]]) -> None:
        self.path = path
        self.offers = offers
        self.requests: list[Request] = []
        self.bound: dict[str, list[tuple[int, int]]] = {}
        self.answers_sync = True
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(1)
        self._client: socket.socket | None = None
        self._registry = 0
        self._heard = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, target: int, opcode: int, body: bytes = b"") -> None:
        assert self._client is not None
        self._client.sendall(struct.pack("=II", target, (8 + len(body)) << 16 | opcode) + body)

    def say_raw(self, data: bytes) -> None:
        assert self._client is not None
        self._client.sendall(data)

    def wait_for(self, count: int) -> list[Request]:
        """Return the requests when there are so many."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.requests) >= count, 10), self.requests
            return list(self.requests)

    def wait_for_binding(self, interface: str) -> tuple[int, int]:
        """Return the object and the version that the interface was first bound with."""
        with self._heard:
            assert self._heard.wait_for(lambda: interface in self.bound, 10), self.bound
            return self.bound[interface][0]

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._listener.close()
        self._thread.join(5)
        if self._client is not None:
            self._client.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            self._client = client
            while header := client.recv(8, socket.MSG_WAITALL):
                target, word = struct.unpack("=II", header)
                body = client.recv((word >> 16) - 8, socket.MSG_WAITALL)
                self._handle(target, word & 0xFFFF, body)
        except OSError:
            return

    def _handle(self, target: int, opcode: int, body: bytes) -> None:
        if target == 1 and opcode == GET_REGISTRY:
            self._registry = struct.unpack("=I", body)[0]
            for name, (interface, version) in enumerate(self.offers, 1):
                offer = struct.pack("=I", name) + write_string(interface)
                self.say(self._registry, 0, offer + struct.pack("=I", version))
        elif target == 1 and opcode == SYNC:
            if self.answers_sync:
                self.say(struct.unpack("=I", body)[0], 0, struct.pack("=I", 7))
        elif target == self._registry:
            interface, at = read_string(body, 4)
            version, number = struct.unpack_from("=II", body, at)
            with self._heard:
                self.bound.setdefault(interface, []).append((number, version))
                self._heard.notify_all()
        else:
            with self._heard:
                self.requests.append((target, opcode, body))
                self._heard.notify_all()


@contextmanager
def fake_compositor(*offers: tuple[str, int]) -> Iterator[FakeCompositor]:
    with tempfile.TemporaryDirectory(prefix="pleb-") as folder:
        compositor = FakeCompositor(str(Path(folder) / "wayland-0"), list(offers))
        try:
            yield compositor
        finally:
            compositor.close()
