"""How one of our modules or programs is started in a process of its own: command, environment.

From source or a wheel a module is run by this Python with `-m`. A frozen build is one binary that
has no `-m`: it takes `--run-module NAME` as its first argument (`program/frozen.py`).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from pathlib import Path

__all__ = [
    "PACKAGES",
    "RUN_MODULE",
    "cli_command",
    "fresh_environment",
    "is_frozen",
    "module_command",
    "restore_library_path",
    "stable_program",
]

RUN_MODULE: Final = "--run-module"
PACKAGES: Final = "--packages"
"""After the module's name, in a frozen build: one more folder to import from."""


_LIBRARY_PATHS: Final = ("LD_LIBRARY_PATH", "LIBPATH")
_LOADERS_OWN: Final = "_PYI_"


def is_frozen() -> bool:
    """Whether this runs in a frozen build."""
    return bool(getattr(sys, "frozen", False))


def module_command(module: str, *options: str, packages: Path | None = None) -> list[str]:
    """Return the start of a command line; arguments for the module may follow.

    `options` are the Python interpreter's; a frozen build has its own, fixed ones. `packages` is
    one more folder that a frozen build imports from; from source all packages are there.
    """
    if is_frozen():
        more = [] if packages is None else [PACKAGES, str(packages)]
        return [sys.executable, RUN_MODULE, module, *more]
    return [sys.executable, *options, "-m", module]


def stable_program() -> list[str]:
    """Return the start of a command line that stays valid after an update.

    For autostart entries and links: a self-updating archive runs from `versions/0.1.0`, which an
    update removes, while `pleb-agent` beside `versions` stays (Windows: `current`).
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
    """Return the command line of `pleb-agent WORDS`, which stays valid after an update."""
    return [*stable_program(), *words]


def restore_library_path(environment: MutableMapping[str, str] = os.environ) -> None:
    """Restore the user's library path for child processes.

    PyInstaller's loader puts its folder there before Python starts, and keeps the old value in
    `..._ORIG`. This process has used it already; a browser that we open must not.
    """
    for name in _LIBRARY_PATHS:
        original = environment.pop(f"{name}_ORIG", None)
        if original:
            environment[name] = original
        elif any(other.startswith(_LOADERS_OWN) for other in environment):
            environment.pop(name, None)


def fresh_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for another frozen build, without what our loader left in it."""
    return {
        name: value for name, value in environment.items() if not name.startswith(_LOADERS_OWN)
    } | {"PYINSTALLER_RESET_ENVIRONMENT": "1"}
