"""Where the demo's project and its liar are: beside the source, or inside the wheel."""

from __future__ import annotations

from pathlib import Path

from pleb_shared.errors import InputError

__all__ = ["example_folder"]


def example_folder(name: str) -> Path:
    """Return the folder of an example.

    The wheel holds copies of those that the demo needs (`force-include` in pyproject.toml), so
    there is one source of them.

    Raises:
        InputError: neither is there.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "examples" / name, here.parents[2] / "examples" / name):
        if folder.is_dir():
            return folder
    raise InputError(f"The example {name!r} is missing: install pleb-cluster again.")
