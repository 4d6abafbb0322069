"""`main`: parse the command line, run one command, return its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from pleb_project.cli.parser import make_parser
from pleb_system.command_line import run_command

if TYPE_CHECKING:
    from pleb_system.command_line import Output

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = make_parser().parse_args(argv)

    def run(output: Output) -> int:
        from pleb_project.cli.commands import COMMANDS
        from pleb_project.server.records import Home

        path = options.home or Path(platformdirs.user_data_dir("pleb-project", appauthor=False))
        home = Home(path.expanduser().absolute())
        return COMMANDS[options.command](home, options, output)

    return run_command("pleb-project", options, run)
