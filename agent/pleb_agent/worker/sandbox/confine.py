"""Closes the sandbox around this process, layer by layer, and says which layers hold."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_agent.worker.job import LayerState
from pleb_agent.worker.sandbox.landlock import FileRules, restrict_files
from pleb_agent.worker.sandbox.limits import limit_memory, no_core_dumps
from pleb_agent.worker.sandbox.seccomp import restrict_calls

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["confine", "file_rules"]


def confine(work_dir: Path, memory_bytes: int) -> list[LayerState]:
    """Restrict this process for good; `memory_bytes` is what it may take beyond what it has.

    Called when all modules are loaded and before the second thread is started, since Landlock
    holds for the calling thread and those that it starts. What a layer denies:

    - `files`: reading but Python, its packages and the work directory; writing but the latter.
    - `calls`: network, programs, processes, debugging, other processes' signals, mounting.
    - `memory`: allocating more than the limit.
    - `dumps`: core files, and being read by other processes of the same user.
    """
    return [
        _layer("dumps", no_core_dumps, "core files and other processes' eyes are shut out"),
        _layer(
            "memory",
            lambda: limit_memory(memory_bytes),
            f"no more than {memory_bytes >> 20} MiB beyond the runtime can be allocated",
        ),
        _layer(
            "files",
            lambda: _restrict_files(work_dir),
            "only the work directory can be written, only it and Python can be read",
        ),
        _layer(
            "calls",
            lambda: restrict_calls(os.getpid()),
            "sockets, programs, processes and debugging are denied",
        ),
    ]


def file_rules(work_dir: Path) -> FileRules:
    """Return what a worker reads: this Python, its packages, the C libraries, the CPU's facts."""
    prefixes = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *sys.path}
    packages = [Path(prefix).resolve() for prefix in prefixes if prefix]
    system = [
        Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"), Path("/lib"), Path("/lib64"),
        Path("/etc/ld.so.cache"), Path("/etc/localtime"), Path("/usr/share/zoneinfo"),
        Path("/proc/self"), Path("/proc/cpuinfo"), Path("/proc/meminfo"),
        Path("/sys/devices/system/cpu"), Path("/sys/devices/system/node"),
        Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"), Path("/dev/random"),
    ]  # fmt: skip
    readable = [path for path in packages if path not in {Path("/"), Path("/usr"), Path.home()}]
    return FileRules(tuple(readable + system), (work_dir.resolve(), Path("/dev/null")))


def _restrict_files(work_dir: Path) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        message = f"{threads - 1} threads run already and would stay free"
        raise OSError(message)
    restrict_files(file_rules(work_dir))


def _layer(name: str, restrict: Callable[[], object], sentence: str) -> LayerState:
    try:
        restrict()
    except OSError as error:
        return LayerState(layer=name, holds=False, sentence=f"does not hold: {error}")
    return LayerState(layer=name, holds=True, sentence=sentence)
