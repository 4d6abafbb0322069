"""Parse, run one command, turn errors into one sentence and an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.cli.output import Output
from pleb_coordinator.cli.parser import make_parser
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.home.layout import Home

__all__ = ["run"]


def run(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (they are listed in the package's docstring)."""
    options = make_parser().parse_args(argv)
    output = Output(as_json=options.json)
    try:
        return _dispatch(options, output)
    except PlebError as error:
        if options.debug:
            raise
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _dispatch(options: argparse.Namespace, output: Output) -> int:
    """Run the command; each group is imported when it is called, so that all start fast."""
    from pleb_coordinator.home import layout

    home = layout.Home((options.home or layout.default_home()).expanduser().absolute())
    match options.command:
        case "init" | "migrate":
            from pleb_coordinator.cli import setup

            return setup.COMMANDS[options.command](home, options, output)
        case "serve" | "work":
            from pleb_coordinator.cli import serve

            return serve.COMMANDS[options.command](home, options, output)
        case "doctor":
            from pleb_coordinator.cli import doctor

            return doctor.doctor(home, options, output)
        case "model":
            from pleb_coordinator.cli import models

            return models.COMMANDS[options.action](home, options, output)
        case "host":
            from pleb_coordinator.cli import hosts

            return hosts.COMMANDS[options.action](home, options, output)
        case _:
            return _dispatch_rest(home, options, output)


def _dispatch_rest(home: Home, options: argparse.Namespace, output: Output) -> int:
    match options.command:
        case "invite":
            from pleb_coordinator.cli import invites

            return invites.COMMANDS[options.action](home, options, output)
        case "unit":
            from pleb_coordinator.cli import units

            return units.COMMANDS[options.action](home, options, output)
        case "project":
            from pleb_coordinator.cli import projects

            return projects.COMMANDS[options.action](home, options, output)
        case _:
            from pleb_coordinator.cli import projects

            return projects.status(home, options, output)
