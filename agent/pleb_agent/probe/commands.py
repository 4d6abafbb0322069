"""What agentd says to the probe on its standard input, as something to wait on."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

__all__ = ["Commands"]

_CHUNK_BYTES: Final = 4096


class Commands:
    """`ended`: agentd has closed its end. `closely`: it needs quick notice of input."""

    def __init__(self, input_fd: int, platform: str = sys.platform) -> None:
        self._fd = _selectable(input_fd) if platform == "win32" else input_fd
        self._rest = b""
        self.ended = False
        self.closely = False

    def fileno(self) -> int:
        """Return what to wait on."""
        return self._fd.fileno() if isinstance(self._fd, socket.socket) else self._fd

    def close(self) -> None:
        """Let go of the socket, where there is one."""
        if isinstance(self._fd, socket.socket):
            self._fd.close()

    def take(self) -> bool:
        """Take in what has come; return whether agentd asks for a line."""
        data = self._read()
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line in (b"watch", b"relax"):
                self.closely = line == b"watch"
        return b"ask" in lines

    def _read(self) -> bytes:
        if isinstance(self._fd, socket.socket):
            return self._fd.recv(_CHUNK_BYTES)
        return os.read(self._fd, _CHUNK_BYTES)


def _selectable(input_fd: int) -> socket.socket:
    """Return a socket that repeats a pipe: Windows can wait for sockets only."""
    import threading

    ours, theirs = socket.socketpair()

    def repeat() -> None:
        with theirs:
            while data := os.read(input_fd, _CHUNK_BYTES):
                theirs.sendall(data)

    threading.Thread(target=repeat, daemon=True, name="commands").start()
    return ours
