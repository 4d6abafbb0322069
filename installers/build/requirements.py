"""Prints what a frozen agent is made of, one requirement a line: the agent's, without torch.

Runs on the standard library alone, before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["closure", "requirements"]

PYPROJECT: Final = Path(__file__).resolve().parents[2] / "pyproject.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def requirements() -> list[str]:
    """Return the requirements of the agent, but for torch."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["agent"]]
    return [line for line in wanted if not line.startswith("torch")]


def closure(*wanted: str | Iterable[str]) -> set[str]:
    """Return the names of installed distributions that are wanted, and all that those require.

    What is not installed here is for other systems. Extras are followed only where they are
    asked for by a name that stands in `wanted`.
    """
    lines = [line for item in wanted for line in ([item] if isinstance(item, str) else item)]
    found: set[str] = set()
    open_names = [_name(line) for line in lines]
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        try:
            required = list(_required(name))
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        open_names += required
    return found


def _required(name: str) -> Iterator[str]:
    for line in importlib.metadata.requires(name) or ():
        if "extra" not in line.partition(";")[2]:
            yield _name(line)


def _name(line: str) -> str:
    match = _NAME.match(line)
    if match is None:
        raise ValueError(f"{line!r} names no distribution.")
    return match[0].lower().replace("_", "-")


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements()) + "\n")
