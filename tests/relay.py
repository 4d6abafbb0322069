"""A relay before a server: counts what clients send, and cuts connections where a test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Final, Self

_READ_BYTES: Final = 64 * 1024


@dataclass
class Relay:
    """Passes connections to a port of loopback."""

    to: int
    cut_after: int | None = None
    """Bytes of clients after which all connections are cut, once; None: never."""
    cut_after_received: int | None = None
    """The same for what clients receive."""
    sent: int = 0
    """By clients."""
    received: int = 0
    """By clients."""
    port: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            broken, self._open = self._open, []
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _is_cut_by(self, amount: int, upwards: bool) -> bool:
        """Count what passes; return whether the connections are to be cut now."""
        with self._lock:
            if upwards:
                self.sent += amount
                cut = self.cut_after is not None and self.sent >= self.cut_after
                self.cut_after = None if cut else self.cut_after
            else:
                self.received += amount
                limit = self.cut_after_received
                cut = limit is not None and self.received >= limit
                self.cut_after_received = None if cut else limit
        return cut

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._open += [client, server]
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                if self._is_cut_by(len(data), upwards):
                    self.cut()
                    return
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
