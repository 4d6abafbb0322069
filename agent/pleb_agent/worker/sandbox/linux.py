"""The layers of a sandbox on Linux: namespaces, limits, Landlock, seccomp."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.worker.sandbox.landlock import FileRules, restrict_files
from pleb_agent.worker.sandbox.layer import Layer, dumps, sizes
from pleb_agent.worker.sandbox.limits import limit_memory, limit_threads
from pleb_agent.worker.sandbox.namespaces import enter_namespaces
from pleb_agent.worker.sandbox.readable import python_folders
from pleb_agent.worker.sandbox.seccomp import restrict_calls

if TYPE_CHECKING:
    from pleb_agent.worker.job import Bounds
    from pleb_agent.worker.sandbox.driver import Driver

__all__ = ["LAYERS", "file_rules", "linux_layers"]

LAYERS: Final = ("names", "dumps", "memory", "sizes", "threads", "files", "calls")
"""In the order in which they close: namespaces first, which need what the others deny."""


def linux_layers(
    folder: Path, outputs: Path, bounds: Bounds, driver: Driver | None, landlock_version: int
) -> list[Layer]:
    """Return the layers in the order in which they close.

    - `names`: that anything else exists: files, other processes, networks.
    - `dumps`: core files, and being read by other processes of the same user.
    - `memory`: mapping more than the limit.
    - `sizes`: longer files than the limit, many open ones.
    - `threads`: a great many threads; exactly so many as are needed, where `names` holds.
    - `files`: reading but Python, its packages and the folder; writing but the files that are in
      `outputs`.
    - `calls`: all system calls but those that computing needs: network, programs, processes,
      debugging, other processes' signals and priority, files that are made, memory that is shared.
    """
    megabytes = bounds.memory_bytes >> 20
    rules = file_rules(folder, outputs, driver)
    apart = False

    def enter() -> None:
        nonlocal apart
        enter_namespaces(rules)
        apart = True

    return [
        Layer(
            "names",
            enter,
            "nothing but the project's folder and Python is seen, and no network",
            (
                "a worker could find out which files there are, not what is in them; Ubuntu "
                "denies user namespaces to programs without an AppArmor profile"
            ),
        ),
        dumps(),
        Layer(
            "memory",
            lambda: limit_memory(bounds.memory_bytes, bounds.threads, mapped=driver is None),
            f"no more than {megabytes} MiB beyond the runtime can be allocated",
            "the agent ends a worker that takes too much memory, up to two seconds later",
        ),
        sizes(bounds),
        Layer(
            "threads",
            lambda: limit_threads(bounds.most_threads, apart=apart),
            "the number of threads is limited",
            "the agent ends a worker with too many threads, up to two seconds later",
        ),
        Layer(
            "files",
            lambda: _restrict_files(rules, landlock_version),
            "only the project's outputs can be written, only its folder and Python can be read",
            (
                "where `names` does not hold either, a worker could read and change your files; "
                "Landlock comes with Linux 5.13"
            ),
        ),
        Layer(
            "calls",
            lambda: restrict_calls(os.getpid(), driver),
            "all system calls but those that computing needs are denied",
            "a worker could use what other layers leave open, such as other processes' priority",
        ),
    ]


def file_rules(folder: Path, outputs: Path, driver: Driver | None = None) -> FileRules:
    """Return what a worker reads: this Python, its packages, the C libraries, the CPU's facts.

    A card's worker reads what its driver needs, and has its device files; but no /dev/zero, which
    it could map as shared memory that nothing counts.

    Links are kept as they are: in a new root they must be there to be followed. A path that this
    user cannot read, such as one on a PYTHONPATH of root's, is left out.
    """
    system = [
        Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"), Path("/lib"), Path("/lib64"),
        Path("/etc/ld.so.cache"), Path("/etc/localtime"), Path("/usr/share/zoneinfo"),
        Path("/proc/self"), Path("/proc/cpuinfo"), Path("/proc/meminfo"),
        Path("/sys/devices/system/cpu"), Path("/sys/devices/system/node"),
        Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"), Path("/dev/random"),
    ]  # fmt: skip
    if driver is not None:
        system = [path for path in system if path != Path("/dev/zero")] + list(driver.readable)
    readable = [path for path in [*python_folders(), *system] if os.access(path, os.R_OK)]
    return FileRules(
        (*readable, folder),
        (outputs, Path("/dev/null")),
        () if driver is None else driver.nodes,
    )


def _restrict_files(rules: FileRules, version: int) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        message = f"{threads - 1} threads run already and would stay free"
        raise OSError(message)
    restrict_files(rules, version)
