"""`main`: parse the command line, run one command, return its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.cli.parser import make_parser
from pleb_system.command_line import Output, run_command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from pleb_coordinator.home.layout import Home

    Command = Callable[[Home, argparse.Namespace, Output], int]

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = make_parser().parse_args(argv)

    def run(output: Output) -> int:
        from pleb_coordinator.home.layout import Home, default_home

        home = Home((options.home or default_home()).expanduser().absolute())
        commands = _commands(options.command)
        return commands[options.action or options.command](home, options, output)

    return run_command("pleb-coordinator", options, run)


def _commands(name: str) -> Mapping[str, Command]:
    """Return the commands of a module, imported only now so that all others start fast."""
    match name:
        case "init" | "migrate":
            from pleb_coordinator.cli import setup

            return setup.COMMANDS
        case "serve" | "work":
            from pleb_coordinator.cli import serve

            return serve.COMMANDS
        case "doctor":
            from pleb_coordinator.cli import doctor

            return {"doctor": doctor.doctor}
        case "model":
            from pleb_coordinator.cli import models

            return models.COMMANDS
        case "unit":
            from pleb_coordinator.cli import units

            return units.COMMANDS
        case "host":
            from pleb_coordinator.cli import hosts

            return hosts.COMMANDS
        case "invite":
            from pleb_coordinator.cli import invites

            return invites.COMMANDS
        case _:
            from pleb_coordinator.cli import projects

            return projects.COMMANDS
