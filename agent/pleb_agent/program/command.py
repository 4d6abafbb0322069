"""The command line that runs one of our modules in a process of its own.

From source or a wheel that is this Python with `-m`. A frozen build is one binary that has no
`-m`: it takes `--run-module NAME` as its first argument (`program/frozen.py`).
"""

from __future__ import annotations

import sys

__all__ = ["RUN_MODULE", "is_frozen", "module_command"]

RUN_MODULE = "--run-module"


def is_frozen() -> bool:
    """Whether this runs inside of a frozen build."""
    return bool(getattr(sys, "frozen", False))


def module_command(module: str, *options: str) -> list[str]:
    """Return the start of a command line; arguments for the module may follow.

    `options`: of the Python interpreter; a frozen build has its own, fixed ones.
    """
    if is_frozen():
        return [sys.executable, RUN_MODULE, module]
    return [sys.executable, *options, "-m", module]
