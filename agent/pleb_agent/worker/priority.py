"""Giving way: the worker's processor and disk priority on each system, behind one function.

On Linux, nice alone does nothing for a process in a session of its own when autogrouping is on,
so four things are set: SCHED_IDLE, nice 19, the idle I/O class and the autogroup's nice value.
Sources: sched(7), ioprio_set(2), Windows SetPriorityClass, macOS pthread/qos.h.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LinuxPriority",
    "MacPriority",
    "PrioritySystem",
    "WindowsPriority",
    "give_way",
    "priority_system",
]

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_IDLE: Final = 3 << 13
_NICE: Final = 19
_QOS_CLASS_BACKGROUND: Final = 0x09
_IDLE_PRIORITY_CLASS: Final = 0x40
_PROCESS_MODE_BACKGROUND_BEGIN: Final = 0x00100000


class PrioritySystem(Protocol):
    """Ways to lower this process's priority: each may raise OSError where it is not allowed."""

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the ways by name, all of which are to be tried."""


def give_way(system: PrioritySystem) -> dict[str, str]:
    """Lower this process's priority in every way that `system` has.

    Returns what happened to each: "set", or the system's reason against it. A priority that
    cannot be lowered is no reason not to work: the pause policy still holds.
    """
    outcome = {}
    for name, lower in system.steps():
        try:
            lower()
        except OSError as error:
            outcome[name] = str(error)
        else:
            outcome[name] = "set"
    return outcome


class LinuxPriority:
    """SCHED_IDLE, nice 19, idle I/O and the autogroup of this session."""

    def __init__(self, autogroup: Path = Path("/proc/self/autogroup")) -> None:
        self._autogroup = autogroup

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the ways by name."""
        return [
            ("nice", self._nice),
            ("autogroup", self._lower_autogroup),
            ("scheduler", self._scheduler),
            ("io", self._io),
        ]

    def _nice(self) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)

    def _lower_autogroup(self) -> None:
        self._autogroup.write_text(str(_NICE), encoding="ascii")

    def _scheduler(self) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    def _io(self) -> None:
        if ARCHITECTURE not in _IOPRIO_SET:
            message = f"the number of ioprio_set on {ARCHITECTURE} is not known"
            raise OSError(message)
        syscall(_IOPRIO_SET[ARCHITECTURE], _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


class Kernel32(Protocol):
    """The part of kernel32 that is used."""

    def GetCurrentProcess(self) -> int:  # noqa: N802 - Windows' name
        """Return a handle that means the calling process."""

    def SetPriorityClass(self, handle: int, priority: int) -> int:  # noqa: N802
        """Return 0 on failure."""


class WindowsPriority:
    """The idle priority class, then background mode, which lowers disk and memory priority."""

    def __init__(self, kernel32: Kernel32) -> None:
        self._kernel32 = kernel32

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the ways by name."""
        return [
            ("priority class", lambda: self._set(_IDLE_PRIORITY_CLASS)),
            ("background mode", lambda: self._set(_PROCESS_MODE_BACKGROUND_BEGIN)),
        ]

    def _set(self, priority: int) -> None:
        if not self._kernel32.SetPriorityClass(self._kernel32.GetCurrentProcess(), priority):
            raise OSError("Windows refused the priority")


class LibSystem(Protocol):
    """The part of macOS's libSystem that is used."""

    def pthread_set_qos_class_self_np(self, qos_class: int, relative: int) -> int:
        """Return 0, or an errno."""


class MacPriority:
    """Background quality of service: efficiency cores, throttled disk; threads inherit it."""

    def __init__(self, lib_system: LibSystem) -> None:
        self._lib_system = lib_system

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return the ways by name."""
        return [("nice", self._nice), ("quality of service", self._background)]

    def _nice(self) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)

    def _background(self) -> None:
        number = self._lib_system.pthread_set_qos_class_self_np(_QOS_CLASS_BACKGROUND, 0)
        if number:
            raise OSError(number, os.strerror(number))


def priority_system() -> PrioritySystem:
    """Return the ways of the system that this runs on."""
    if sys.platform == "win32":
        return WindowsPriority(ctypes.WinDLL("kernel32"))
    if sys.platform == "darwin":
        return MacPriority(ctypes.CDLL(None))
    return LinuxPriority()
