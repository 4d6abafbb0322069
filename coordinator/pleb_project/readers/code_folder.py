"""Where the researcher's Python files run."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["CodeFolder"]


class CodeFolder:
    """Python as the researcher's file expects it: in its folder, and able to import its siblings.

    Inside a `with` block only: the working folder, the search path and the loaded modules are as
    before afterwards. Two projects' `helpers.py` are two modules.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._modules: dict[str, ModuleType] = {}

    def __enter__(self) -> None:
        self._before = (Path.cwd(), list(sys.path), set(sys.modules))
        os.chdir(self._folder)
        sys.path.insert(0, str(self._folder))
        sys.modules.update(self._modules)

    def __exit__(self, *_: object) -> None:
        folder, path, modules = self._before
        with contextlib.suppress(OSError):  # somebody has deleted it
            os.chdir(folder)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            path_of = Path(getattr(sys.modules[name], "__file__", None) or "/")
            # An environment may be in the folder, too: what is installed there stays loaded.
            if "site-packages" not in path_of.parts and path_of.is_relative_to(self._folder):
                self._modules[name] = sys.modules.pop(name)
