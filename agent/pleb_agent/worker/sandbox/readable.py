"""Which folders hold this Python and its packages."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

__all__ = ["python_folders"]


def python_folders() -> list[Path]:
    """Return them as they are written, links too, but never a folder that holds much else."""
    prefixes = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *sys.path}
    packages = [Path(prefix).absolute() for prefix in prefixes if prefix]
    too_much = {Path("/"), Path("/usr"), Path.home().resolve()}
    return [path for path in packages if path.resolve() not in too_much]
