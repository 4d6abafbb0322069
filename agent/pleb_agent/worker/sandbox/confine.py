"""Closes the sandbox around this process, layer by layer, and says which layers hold."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.worker.job import OUTPUTS, LayerState
from pleb_agent.worker.sandbox.landlock import FileRules, restrict_files
from pleb_agent.worker.sandbox.limits import (
    limit_files,
    limit_memory,
    limit_threads,
    no_core_dumps,
)
from pleb_agent.worker.sandbox.namespaces import enter_namespaces
from pleb_agent.worker.sandbox.seccomp import restrict_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pleb_agent.worker.job import Bounds
    from pleb_agent.worker.sandbox.driver import Driver

__all__ = ["LAYERS", "confine", "file_rules"]

LAYERS: Final = ("names", "dumps", "memory", "sizes", "threads", "files", "calls")
"""In the order in which they close: namespaces first, which need what the others deny."""
_NEWEST: Final = 99


def confine(
    folder: Path,
    bounds: Bounds,
    layers: Collection[str] = LAYERS,
    landlock_version: int = _NEWEST,
    *,
    driver: Driver | None = None,
) -> list[LayerState]:
    """Restrict this process for good to `folder`, its project's, and to `bounds`.

    Called when all modules are loaded and before the second thread is started, since Landlock
    holds for the calling thread and those that it starts. What a layer denies:

    - `names`: that anything else exists: files, other processes, networks.
    - `dumps`: core files, and being read by other processes of the same user.
    - `memory`: mapping more than the limit.
    - `sizes`: longer files than the limit, many open ones.
    - `threads`: a great many threads; exactly so many as are needed, where `names` holds.
    - `files`: reading but Python, its packages and the folder; writing but the files that are in
      the folder's `out`.
    - `calls`: all system calls but those that computing needs: network, programs, processes,
      debugging, other processes' signals and priority, files that are made, memory that is shared.

    `driver`: what stays open for that of a card, which is started afterwards, in here.

    `layers` and `landlock_version` leave some out, by which a test does what an older kernel can.
    """
    megabytes = bounds.memory_bytes >> 20
    threads = bounds.most_threads
    rules = file_rules(folder, driver)
    closing: dict[str, tuple[Callable[[], object], str, str]] = {
        "names": (
            lambda: enter_namespaces(rules),
            "nothing but the project's folder and Python is seen, and no network",
            (
                "a worker could find out which files there are, not what is in them; Ubuntu "
                "denies user namespaces to programs without an AppArmor profile"
            ),
        ),
        "dumps": (
            no_core_dumps,
            "core files and other processes' eyes are shut out",
            "other programs of yours could read a worker's memory",
        ),
        "memory": (
            lambda: limit_memory(bounds.memory_bytes, bounds.threads, mapped=driver is None),
            f"no more than {megabytes} MiB beyond the runtime can be allocated",
            "the agent ends a worker that takes too much memory, up to two seconds later",
        ),
        "sizes": (
            lambda: limit_files(bounds.file_bytes, bounds.most_files),
            f"no file gets longer than {bounds.file_bytes >> 20} MiB",
            "the agent ends a worker that writes too much, up to two seconds later",
        ),
        "threads": (
            lambda: limit_threads(
                threads, apart=any(s.holds for s in states if s.layer == "names")
            ),
            "the number of threads is limited",
            "the agent ends a worker with too many threads, up to two seconds later",
        ),
        "files": (
            lambda: _restrict_files(rules, landlock_version),
            "only the project's outputs can be written, only its folder and Python can be read",
            (
                "where `names` does not hold either, a worker could read and change your files; "
                "Landlock comes with Linux 5.13"
            ),
        ),
        "calls": (
            lambda: restrict_calls(os.getpid(), driver),
            "all system calls but those that computing needs are denied",
            "a worker could use what other layers leave open, such as other processes' priority",
        ),
    }
    states: list[LayerState] = []
    for name in LAYERS:
        if name in layers:
            states += [_layer(name, *closing[name])]
    return states


def file_rules(folder: Path, driver: Driver | None = None) -> FileRules:
    """Return what a worker reads: this Python, its packages, the C libraries, the CPU's facts.

    A card's worker reads what its driver needs, and has its device files; but no /dev/zero, which
    it could map as shared memory that nothing counts.

    Links are kept as they are: in a new root they must be there to be followed. A path that this
    user cannot read, such as one on a PYTHONPATH of root's, is left out.
    """
    prefixes = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *sys.path}
    packages = [Path(prefix).absolute() for prefix in prefixes if prefix]
    system = [
        Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"), Path("/lib"), Path("/lib64"),
        Path("/etc/ld.so.cache"), Path("/etc/localtime"), Path("/usr/share/zoneinfo"),
        Path("/proc/self"), Path("/proc/cpuinfo"), Path("/proc/meminfo"),
        Path("/sys/devices/system/cpu"), Path("/sys/devices/system/node"),
        Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom"), Path("/dev/random"),
    ]  # fmt: skip
    too_much = {Path("/"), Path("/usr"), Path.home().resolve()}
    readable = [path for path in packages if path.resolve() not in too_much]
    if driver is not None:
        system = [path for path in system if path != Path("/dev/zero")] + list(driver.readable)
    readable = [path for path in [*readable, *system] if os.access(path, os.R_OK)]
    folder = folder.absolute()
    return FileRules(
        (*readable, folder),
        (folder / OUTPUTS, Path("/dev/null")),
        () if driver is None else driver.nodes,
    )


def _restrict_files(rules: FileRules, version: int) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        message = f"{threads - 1} threads run already and would stay free"
        raise OSError(message)
    restrict_files(rules, version)


def _layer(name: str, restrict: Callable[[], object], holding: str, otherwise: str) -> LayerState:
    try:
        restrict()
    except OSError as error:
        sentence = f"does not hold ({error}): {otherwise}"
        return LayerState(layer=name, holds=False, sentence=sentence)
    return LayerState(layer=name, holds=True, sentence=holding)
