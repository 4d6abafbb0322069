"""Which of the user's chosen programs run now.

A program is known by the name of its file, whatever the case of its letters; `.exe` may be left
out, also for programs under Wine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import psutil

__all__ = ["ChosenPrograms", "LinuxPrograms", "PsutilPrograms", "key_of", "matching"]

ChosenPrograms = Callable[[], Collection[str]]
"""The names that the user chose, now."""
NONE: Final[frozenset[str]] = frozenset()
_COMM_BYTES: Final = 15
"""The kernel cuts a name in /proc/PID/comm after so many bytes."""
_READS_PER_FULL_SEARCH: Final = 8


def key_of(name: str) -> str:
    """Return what two ways to write a program's name have in common."""
    if "\\" in name:
        name = PureWindowsPath(name).name
    return PurePosixPath(name.strip()).name.casefold().removesuffix(".exe")


def matching(wanted: Collection[str], comm: str, file: str | None) -> frozenset[str]:
    """Return which of the wanted keys a process is.

    `comm`: its name as the kernel reports it, which is cut; `file`: the path of its program, None
    where that may not be read. Under Wine `file` is Wine's, and `comm` is the program's.
    """
    names = {key_of(comm)} | (set() if file is None else {key_of(file)})
    is_cut = len(comm.encode()) == _COMM_BYTES and not (file and key_of(file).startswith(comm))
    return frozenset(
        key
        for key in wanted
        if key in names or (is_cut and comm in {_cut(key), _cut(key + ".exe")})
    )


def _cut(key: str) -> str:
    return key.encode()[:_COMM_BYTES].decode("utf-8", "ignore")


class LinuxPrograms:
    """Reads /proc: each process's name, and its file where that may be read.

    A process that was seen twice under the same name is not looked at again for some time: most
    live long, and reading hundreds of them costs more than everything else here together.
    """

    def __init__(self, chosen: ChosenPrograms, proc: Path = Path("/proc")) -> None:
        self._chosen = chosen
        self._proc = str(proc)
        self._wanted: dict[str, str] = {}
        self._seen: dict[str, tuple[str, frozenset[str]]] = {}
        self._settled: dict[str, frozenset[str]] = {}
        self._reads = 0

    def read(self) -> frozenset[str]:
        """Return those of the chosen names that run; nothing is read where none is chosen."""
        wanted = {key_of(name): name for name in self._chosen()}
        if wanted != self._wanted or self._reads % _READS_PER_FULL_SEARCH == 0:
            self._seen, self._settled = {}, {}
        self._wanted = wanted
        self._reads += 1
        if not wanted:
            return NONE
        before, self._seen = self._seen, {}
        pids = {pid for pid in os.listdir(self._proc) if pid.isdigit()}  # noqa: PTH208
        self._settled = {pid: keys for pid, keys in self._settled.items() if pid in pids}
        for pid in pids - self._settled.keys():
            comm = _first_line(f"{self._proc}/{pid}/comm")
            if comm is None:
                continue
            if pid in before and before[pid][0] == comm:
                self._settled[pid] = before[pid][1]
            else:
                keys = matching(self._wanted, comm, _file_of(f"{self._proc}/{pid}/exe"))
                self._seen[pid] = comm, keys
        found = [keys for _, keys in self._seen.values()]
        running = NONE.union(*found, *self._settled.values())
        return frozenset(name for key, name in wanted.items() if key in running)


def _first_line(path: str) -> str | None:
    """Return the small file's line in lower case; None: the process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, 64).rstrip(b"\n").decode("utf-8", "replace").casefold()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _file_of(link: str) -> str | None:
    """Return the path that the link leads to; None: another user's, the kernel's, or gone."""
    try:
        return os.readlink(link).removesuffix(" (deleted)")  # noqa: PTH115 - a Path costs more
    except OSError:
        return None


class PsutilPrograms:
    """On Windows and macOS."""

    def __init__(self, chosen: ChosenPrograms) -> None:
        self._chosen = chosen

    def read(self) -> frozenset[str]:
        """Return those of the chosen names that run; nothing is read where none is chosen."""
        wanted = {key_of(name): name for name in self._chosen()}
        if not wanted:
            return NONE
        running = {key_of(process.info["name"] or "") for process in psutil.process_iter(["name"])}
        return frozenset(name for key, name in wanted.items() if key in running)
