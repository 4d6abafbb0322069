"""Processes: whether one lives, starting one that outlives us, stopping one.

The tray uses this: subprocess would cost it a megabyte.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

__all__ = ["is_alive", "start_detached", "stop_processes"]


def is_alive(pid: int, *, of_any_user: bool = False) -> bool:
    """Whether a process with this number runs, as this user unless `of_any_user`.

    What a process wrote about itself, for instance its port, means nothing after its end: on a
    machine with several users another one may have taken that port.
    """
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except PermissionError:
        return of_any_user
    except (OSError, OverflowError):
        return False
    return True


def start_detached(command: list[str], **more_environment: str) -> None:
    """Start a program in a session of its own, with nothing on its standard streams.

    Raises:
        OSError: there is no such program.
    """
    if sys.platform == "win32":
        import subprocess

        subprocess.Popen(
            command,
            creationflags=subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP,
            env=os.environ | more_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return
    nothing = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
    os.posix_spawnp(
        command[0],
        command,
        os.environ | more_environment,
        file_actions=nothing,
        setsid=True,
        setsigdef=[signal.SIGCHLD],  # the tray ignores it, and an ignored signal is inherited
    )


def stop_processes(processes: Iterable[subprocess.Popen[bytes]], seconds: float) -> None:
    """Ask processes to end, wait, and kill those that do not; return when all have ended.

    They are asked together and share `seconds`; none is asked twice, which some programs
    understand as "at once".
    """
    from subprocess import TimeoutExpired

    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    end = time.monotonic() + seconds
    for process in running:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except TimeoutExpired:
            process.kill()
            process.wait()
