"""Giving way: the worker's processor and disk priority on each system, behind one function.

On Linux, nice alone does nothing for a process in a session of its own when autogrouping is on,
so four things are set: SCHED_IDLE, nice 19, the idle I/O class and the autogroup's nice value.
Sources: sched(7), ioprio_set(2), Windows SetPriorityClass, macOS pthread/qos.h.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, syscall

__all__ = [
    "Ways",
    "give_way",
    "linux_ways",
    "low_ways",
    "mac_ways",
    "system_ways",
    "windows_ways",
]

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_IDLE: Final = 3 << 13
_NICE: Final = 19
_LOW_NICE: Final = 10
_QOS_CLASS_BACKGROUND: Final = 0x09
_IDLE_PRIORITY_CLASS: Final = 0x40
_BELOW_NORMAL_PRIORITY_CLASS: Final = 0x4000
_PROCESS_MODE_BACKGROUND_BEGIN: Final = 0x00100000

Ways = dict[str, Callable[[], object]]
"""Ways to lower this process's priority, by name: each may raise OSError where it is refused."""


def give_way(ways: Ways) -> dict[str, str]:
    """Lower this process's priority in every one of the `ways`.

    Returns what happened to each: "set", or the system's reason against it. A priority that
    cannot be lowered is no reason not to work: the pause policy still holds.
    """
    outcome = {}
    for name, lower in ways.items():
        try:
            lower()
        except OSError as error:
            outcome[name] = str(error)
        else:
            outcome[name] = "set"
    return outcome


def linux_ways(autogroup: Path = Path("/proc/self/autogroup")) -> Ways:
    """Return SCHED_IDLE, nice 19, idle I/O and the autogroup of this session."""

    def idle_io() -> None:
        if ARCHITECTURE not in _IOPRIO_SET:
            message = f"the number of ioprio_set on {ARCHITECTURE} is not known"
            raise OSError(message)
        syscall(_IOPRIO_SET[ARCHITECTURE], _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)

    return {
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, _NICE),
        "autogroup": lambda: autogroup.write_text(str(_NICE), encoding="ascii"),
        "scheduler": lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        "io": idle_io,
    }


class Kernel32(Protocol):
    """The part of kernel32 that is used."""

    def GetCurrentProcess(self) -> int:  # noqa: N802 - Windows' name
        """Return a handle that means the calling process."""

    def SetPriorityClass(self, handle: int, priority: int) -> int:  # noqa: N802
        """Return 0 on failure."""


def windows_ways(kernel32: Kernel32) -> Ways:
    """Return the idle class, and background mode, which lowers disk and memory priority."""

    def set_class(priority: int) -> None:
        if not kernel32.SetPriorityClass(kernel32.GetCurrentProcess(), priority):
            raise OSError("Windows refused the priority")

    return {
        "priority class": lambda: set_class(_IDLE_PRIORITY_CLASS),
        "background mode": lambda: set_class(_PROCESS_MODE_BACKGROUND_BEGIN),
    }


class LibSystem(Protocol):
    """The part of macOS's libSystem that is used."""

    def pthread_set_qos_class_self_np(self, qos_class: int, relative: int) -> int:
        """Return 0, or an errno."""


def mac_ways(lib_system: LibSystem) -> Ways:
    """Return background quality of service (efficiency cores, throttled disk) and nice 19.

    Threads inherit both.
    """

    def background() -> None:
        number = lib_system.pthread_set_qos_class_self_np(_QOS_CLASS_BACKGROUND, 0)
        if number:
            raise OSError(number, os.strerror(number))

    return {
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, _NICE),
        "quality of service": background,
    }


def low_ways() -> Ways:
    """Return the way to run after others, but always to run: for a trusted host on a busy server.

    With an idle priority it would not run at all while others need the processor.
    """
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32")
        ours = kernel32.GetCurrentProcess()
        return {
            "priority class": lambda: kernel32.SetPriorityClass(ours, _BELOW_NORMAL_PRIORITY_CLASS)
        }
    return {"nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, _LOW_NICE)}


def system_ways() -> Ways:
    """Return the ways of the system that this runs on."""
    if sys.platform == "win32":
        return windows_ways(ctypes.WinDLL("kernel32"))
    if sys.platform == "darwin":
        return mac_ways(ctypes.CDLL(None))
    return linux_ways()
