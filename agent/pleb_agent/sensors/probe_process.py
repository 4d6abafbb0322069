"""The probe's process, whose lines a thread reads, so that nothing it does can delay agentd.

asyncio's own subprocesses end only after their pipes, which a flooding child keeps open, and
race with their own watcher for the exit status.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

__all__ = ["ProbeProcess"]

_LONGEST_LINE_BYTES: Final = 4096
_MOST_LINES: Final = 16
"""That wait to be taken; a process that writes more is read no faster than they are taken."""


class ProbeProcess:
    """Starts the process. To be made and used in one event loop.

    Raises:
        OSError: it does not start.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if environment is None else dict(environment),
            creationflags=_window_flags(),
        )
        self.pid = self._process.pid
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = threading.Semaphore(_MOST_LINES)
        self._loop = asyncio.get_running_loop()
        self._ended = False
        threading.Thread(target=self._read, daemon=True, name="probe").start()

    async def line(self) -> bytes:
        """Return the next line with its end, cut when it is too long; b"" at the process's end."""
        line = await self._lines.get()
        self._room.release()
        return line

    def send(self, command: str) -> None:
        """Send a command; nothing happens where the process is gone."""
        stdin = _open_pipe(self._process.stdin)
        with suppress(OSError, ValueError):  # it is gone; the pipe is closed
            stdin.write(command.encode() + b"\n")
            stdin.flush()

    def end(self) -> None:
        """Close its input, which ends a healthy probe, and kill it in any case.

        The thread waits for the end, which may take long in a hanging kernel call.
        """
        with suppress(OSError):  # what was not sent is of no use
            _open_pipe(self._process.stdin).close()
        self._process.kill()
        self._ended = True
        self._room.release()

    def _read(self) -> None:
        with _open_pipe(self._process.stdout) as stdout:
            while not self._ended and (line := stdout.readline(_LONGEST_LINE_BYTES)):
                self._room.acquire()
                self._deliver(line)
        self._process.wait()
        self._deliver(b"")

    def _deliver(self, line: bytes) -> None:
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _open_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - it was asked for when the process was started
    return pipe


def _window_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW
    return 0
