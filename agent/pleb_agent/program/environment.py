"""The environment for programs that we start, without what a frozen build's loader left in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["fresh_environment", "restore_library_path"]

_LIBRARY_PATHS: Final = ("LD_LIBRARY_PATH", "LIBPATH")
_LOADERS_OWN: Final = "_PYI_"


def restore_library_path(environment: MutableMapping[str, str] = os.environ) -> None:
    """Give children the user's own library path again.

    PyInstaller's loader puts its folder there before Python starts, and keeps the old value in
    `..._ORIG`. This process has read it already; a browser that we open must not.
    """
    for name in _LIBRARY_PATHS:
        original = environment.pop(f"{name}_ORIG", None)
        if original:
            environment[name] = original
        elif _was_set_by_loader(environment):
            environment.pop(name, None)


def fresh_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for another frozen build: its loader shall start from nothing."""
    return {
        name: value for name, value in environment.items() if not name.startswith(_LOADERS_OWN)
    } | {"PYINSTALLER_RESET_ENVIRONMENT": "1"}


def _was_set_by_loader(environment: Mapping[str, str]) -> bool:
    return any(name.startswith(_LOADERS_OWN) for name in environment)
