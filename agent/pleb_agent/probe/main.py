"""`python -m pleb_agent.probe.main`: reports on its output when the user touches the PC.

It ends when its input is closed (agentd is gone, however it went), when the session that it
watches ends, and when something unexpected happens. agentd starts it again.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

from pleb_agent.dbus.stream import ServiceError
from pleb_agent.probe.choice import choose, find_session
from pleb_agent.probe.lines import NO_SESSION_LINE, Line, unreadable
from pleb_agent.probe.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.probe.backend import Source
    from pleb_agent.probe.session import DesktopSession

__all__ = ["Commands", "main"]

NO_SESSION_LOOK_SECONDS: Final = 300.0
"""How often to look for a session, where logind does not signal it."""
BURST_SECONDS: Final = 5.0
"""Sessions of cron and ssh come and go in bursts: a burst is looked at once."""
_CHUNK_BYTES: Final = 4096


class Commands:
    """agentd's commands on standard input, as something to wait on.

    `ended`: agentd has closed its end. `closely`: input must be reported quickly.
    """

    def __init__(self, input_fd: int, platform: str = sys.platform) -> None:
        self._fd = _selectable(input_fd) if platform == "win32" else input_fd
        self._rest = b""
        self.ended = False
        self.closely = False

    def fileno(self) -> int:
        """Return what to wait on."""
        return self._fd.fileno() if isinstance(self._fd, socket.socket) else self._fd

    def close(self) -> None:
        """Close the socket, where there is one."""
        if isinstance(self._fd, socket.socket):
            self._fd.close()

    def take(self) -> bool:
        """Take in what has arrived; return whether agentd asks for a line."""
        if isinstance(self._fd, socket.socket):
            data = self._fd.recv(_CHUNK_BYTES)
        else:
            data = os.read(self._fd, _CHUNK_BYTES)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line in (b"watch", b"relax"):
                self.closely = line == b"watch"
        return b"ask" in lines


def _selectable(input_fd: int) -> socket.socket:
    """Return a socket that repeats a pipe: `select` on Windows knows sockets only."""
    import threading

    ours, theirs = socket.socketpair()

    def repeat() -> None:
        with theirs:
            while data := os.read(input_fd, _CHUNK_BYTES):
                theirs.sendall(data)

    threading.Thread(target=repeat, daemon=True, name="commands").start()
    return ours


def main() -> int:
    """Watch until the session ends or agentd is gone; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is agentd's: it ends us in time
    commands = Commands(sys.stdin.fileno())
    try:
        line = _run(commands, os.environ)
        if line is not None:
            _write(line)
    except BrokenPipeError:
        return 0
    return 0 if line is None else 1


def _run(commands: Commands, environment: Mapping[str, str]) -> Line | None:
    """Return None when agentd is gone, else the line that says what cannot be read."""
    is_reported = False
    while not commands.ended:
        session = find_session(environment)
        backend = choose(session, time.monotonic)
        if isinstance(backend, Line):
            if backend != NO_SESSION_LINE:
                return backend
            if not is_reported:
                _write(NO_SESSION_LINE)
                is_reported = True
            _wait_for_a_session(session, commands)
            continue
        watch = Watch(backend, _sources(session), report=_write, clock=time.monotonic)
        try:
            _watch(watch, commands)
        except ServiceError as error:
            return unreadable(str(error), backend.method)
        finally:
            watch.close()
    return None


def _watch(watch: Watch, commands: Commands) -> None:
    """Watch one session until agentd is gone, or raise when the session is."""
    ready: list[Source] = watch.all_sources
    asked = False
    while not commands.ended:
        watch.closely = commands.closely
        watch.look(ready=ready, asked=asked)
        waiting_on: list[Source | Commands] = [commands, *watch.waiting_on]
        readable, _, _ = select.select(waiting_on, [], [], watch.wait_seconds())
        asked = commands in readable and commands.take()
        ready = [source for source in watch.waiting_on if source in readable]


def _wait_for_a_session(session: DesktopSession, commands: Commands) -> None:
    """Return after a change of sessions, or some minutes, or when agentd is gone."""
    changes = _sources(session, only_changes=True)
    try:
        deadline = time.monotonic() + NO_SESSION_LOOK_SECONDS
        while not commands.ended and (left := deadline - time.monotonic()) > 0:
            waiting_on: list[Source | Commands] = [commands, *changes]
            readable, _, _ = select.select(waiting_on, [], [], left)
            if commands in readable and commands.take():
                _write(NO_SESSION_LINE)
            for source in [source for source in changes if source in readable]:
                source.take()
                deadline = min(deadline, time.monotonic() + BURST_SECONDS)
    except ServiceError:
        time.sleep(BURST_SECONDS)
    finally:
        for source in changes:
            source.close()


def _sources(session: DesktopSession, *, only_changes: bool = False) -> list[Source]:
    """Return the sources other than the backend, or only what signals new sessions."""
    if not session.has_buses:
        return []
    from pleb_agent.probe.linux import open_session_changes, open_sources

    return open_session_changes(session) if only_changes else open_sources(session)


def _write(line: Line) -> None:
    data = line.encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


if __name__ == "__main__":
    raise SystemExit(main())
