"""Keeps the machine awake while a unit is computed, where the user has asked for that.

Nothing else of the agent ever delays sleep for longer than it takes to write a checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import Final, Protocol

from pleb_agent.sensors.windows_power import WindowsPowerRequest
from pleb_system.processes import stop_processes

__all__ = ["Caffeinate", "CannotStayAwake", "KeepAwake", "StaysAwake", "stays_awake"]

_LOG: Final = logging.getLogger("pleb.agent")
_END_SECONDS: Final = 5.0


class StaysAwake(Protocol):
    """The system's own means. Both may block for some seconds."""

    def hold(self) -> None:
        """Keep the machine awake from now on.

        Raises:
            OSError: the system refuses.
        """

    def release(self) -> None:
        """Let it sleep again."""


class KeepAwake:
    """Keeps awake while that is wanted; asks the system only when that changes."""

    def __init__(self, system: StaysAwake) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._wanted = False
        self._holds = False

    @property
    def holds(self) -> bool:
        """Whether the machine is kept awake now."""
        return self._holds

    async def follow(self, *, wanted: bool) -> None:
        """Hold or release. `wanted`: a unit is computed and the user has asked to stay awake."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        await asyncio.to_thread(self._follow_latest)

    def _follow_latest(self) -> None:
        """Do what was wanted last: it may have changed while we waited for the lock."""
        with self._lock:
            if self._wanted and not self._holds:
                try:
                    self._system.hold()
                except OSError as error:
                    _LOG.warning("The machine cannot be kept awake: %s", error)
                else:
                    self._holds = True
            elif self._holds and not self._wanted:
                self._holds = False
                self._system.release()


class Caffeinate:
    """macOS: `caffeinate -i`, which ends with the process that it watches (caffeinate(8))."""

    def __init__(self, command: tuple[str, ...] = ("/usr/bin/caffeinate", "-i", "-w")) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self) -> None:
        """Start it.

        Raises:
            OSError: it is not there.
        """
        self._process = subprocess.Popen(
            [*self._command, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def release(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            stop_processes([process], _END_SECONDS)


class CannotStayAwake:
    """A system that the agent cannot keep awake."""

    def hold(self) -> None:
        """Refuse.

        Raises:
            OSError: always.
        """
        raise OSError("The agent does not know how to keep this system awake.")

    def release(self) -> None:
        """Do nothing."""


def stays_awake(platform: str = sys.platform) -> StaysAwake:
    """Return this system's means."""
    match platform:
        case "linux":
            from pleb_agent.sensors.logind import LogindBlock  # jeepney is installed there only

            return LogindBlock()
        case "darwin":
            return Caffeinate()
        case "win32":
            return WindowsPowerRequest()
        case _:
            return CannotStayAwake()
