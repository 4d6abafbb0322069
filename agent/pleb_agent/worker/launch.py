"""How the worker's process is started: its command line, environment and group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.program.command import module_command
from pleb_agent.worker.sandbox.limits import die_with_starter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.worker.job import WorkerSettings

__all__ = ["child_environment", "group_options", "worker_command"]

_INHERITED: Final = (
    "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "TZ", "VIRTUAL_ENV", "WINDIR",
)  # fmt: skip


def worker_command(packages: Path | None = None) -> list[str]:
    """Return the worker's command line. `packages`: the torch runtime of a frozen build.

    -P: the work directory is no place to import from. -B: nothing is written beside the code.
    """
    options = ("-P", "-B", "-X", "faulthandler")
    return module_command("pleb_agent.worker.main", *options, packages=packages)


def child_environment(
    environment: Mapping[str, str], work_dir: Path, settings: WorkerSettings
) -> dict[str, str]:
    """Return the worker's whole environment: what it must inherit, and its threads.

    Secrets in the agent's environment stay there. Thread counts must be here because the
    libraries read them when they are loaded; OpenBLAS, which only numpy uses, gets one, or it
    would start threads before the sandbox is closed.
    """
    threads = str(settings.threads)
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    if "PYTHONPATH" in inherited:  # the child has another working directory
        entries = inherited["PYTHONPATH"].split(os.pathsep)
        inherited["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in entries)
    return inherited | {
        "HOME": str(work_dir),
        "TMPDIR": str(work_dir),
        "OMP_NUM_THREADS": threads,
        "OMP_DYNAMIC": "false",
        "MKL_NUM_THREADS": threads,
        "MKL_DYNAMIC": "false",
        "OPENBLAS_NUM_THREADS": "1",
    }


def group_options() -> dict[str, Any]:
    """Return the options that make the child independent of the agent's terminal.

    On Linux and macOS it leads a session of its own, which also is its scheduling autogroup. On
    Linux it dies with the thread that starts it.
    """
    if sys.platform == "win32":
        return {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.IDLE_PRIORITY_CLASS
            | subprocess.CREATE_NO_WINDOW
        }
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "linux":
        options["preexec_fn"] = die_with_starter
    return options
