"""Asking again before what cannot be undone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    import argparse

    from pleb_system.command_line import Output

__all__ = ["confirm"]


def confirm(options: argparse.Namespace, output: Output) -> None:
    """Return if a person types what is asked for, or the command line has `--yes`.

    Whoever deletes a project types its name.

    Raises:
        InputError: neither.
    """
    if options.yes:
        return
    word = options.project if options.command == "project" else "yes"
    if sys.stdin.isatty():
        output.progress(f"This cannot be undone. Type {word} to go on:")
        if sys.stdin.readline().strip() == word:
            return
    raise InputError(
        f"Nothing was done, since it cannot be undone: type {word} when you are asked, or give "
        "--yes."
    )
