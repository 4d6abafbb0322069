"""The command line that runs one of our modules in a process of its own.

From source or a wheel that is this Python with `-m`. A frozen build is one binary that has no
`-m`: it takes `--run-module NAME` as its first argument (`program/frozen.py`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PACKAGES", "RUN_MODULE", "is_frozen", "module_command", "stable_program"]

RUN_MODULE: Final = "--run-module"
PACKAGES: Final = "--packages"
"""After the module's name, in a frozen build: one more folder to import from."""


def is_frozen() -> bool:
    """Whether this runs inside of a frozen build."""
    return bool(getattr(sys, "frozen", False))


def module_command(module: str, *options: str, packages: Path | None = None) -> list[str]:
    """Return the start of a command line; arguments for the module may follow.

    `options`: of the Python interpreter; a frozen build has its own, fixed ones. `packages`:
    a folder that a frozen build imports from too; from source all packages are there.
    """
    if is_frozen():
        more = [] if packages is None else [PACKAGES, str(packages)]
        return [sys.executable, RUN_MODULE, module, *more]
    return [sys.executable, *options, "-m", module]


def stable_program() -> list[str]:
    """Return the start of a command line that is still right after an update.

    For autostart entries and links: a self-updating archive runs from `versions/0.1.0`, which
    will be gone, while `pleb-agent` beside `versions` stays (Windows: `current`).
    """
    if not is_frozen():
        return [sys.executable, "-m", "pleb_agent.cli"]
    from pathlib import Path  # 1 MB, which the tray and the probe do without

    program = Path(sys.executable).resolve()
    versions = program.parent.parent
    if versions.name == "versions":
        for stable in (versions.parent / program.name, versions.parent / "current" / program.name):
            if stable.exists():
                return [str(stable)]
    return [str(program)]


def cli_command(*words: str) -> list[str]:
    """Return the command line of `pleb-agent WORDS`, which also holds after an update."""
    return [*stable_program(), *words]
