"""Prints what a frozen agent is made of, one requirement a line: the agent's, without torch."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

PYPROJECT: Final = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements() -> list[str]:
    """Return the requirements."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["agent"]]
    return [line for line in wanted if not line.startswith("torch")]


if __name__ == "__main__":
    print("\n".join(requirements()))
