"""`main`: parse the command line, run one command, return its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.cli.parser import parse
from pleb_agent.program.left_out import leave_out_unused
from pleb_system.command_line import Output, run_command
from pleb_system.start_up import loading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home

    Command = Callable[[Home, argparse.Namespace, Output], int]

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = parse(argv)

    def run(output: Output) -> int:
        from pleb_agent.app.home import Home, default_home

        home = Home((options.home or default_home()).expanduser().absolute())
        with loading():
            command = _command(options.command)
        return command(home, options, output)

    return run_command("pleb-agent", options, run)


def _command(name: str) -> Command:
    """Return a command; its module is imported now, so that all others start fast."""
    match name:
        case "start":
            leave_out_unused()
            from pleb_agent.cli.start import start

            return start
        case "doctor":
            from pleb_agent.cli.doctor import doctor

            return doctor
        case "prefs":
            from pleb_agent.cli.prefs import prefs

            return prefs
        case "rules" | "hook":
            from pleb_agent.cli import rules

            return rules.COMMANDS[name]
        case "receipts" | "verify":
            from pleb_agent.cli import receipts

            return receipts.COMMANDS[name]
        case "household":
            from pleb_agent.cli.household import household

            return household
        case "open" | "autostart":
            from pleb_agent.cli import desktop

            return desktop.COMMANDS[name]
        case _:
            from pleb_agent.cli import commands

            return commands.COMMANDS[name]
