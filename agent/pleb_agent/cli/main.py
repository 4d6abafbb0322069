"""`main`: parse, run one command, turn errors into one sentence and an exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pleb_agent.cli.parser import parse
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (they are listed in the package's docstring)."""
    arguments = parse(argv)
    try:
        return _run(arguments)
    except PlebError as error:
        if arguments.debug:
            raise
        _print_error(error, as_json=arguments.json)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        if arguments.debug or error.filename is None:
            raise
        _print_error(_unusable(error), as_json=arguments.json)
        return PlebError.exit_code


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; each is imported when it is called, so that all start fast."""
    from pleb_agent.app.home import Home, default_home

    home = Home((arguments.home or default_home()).expanduser().absolute())
    if arguments.command == "start":
        from pleb_agent.cli.start import start

        return start(home, arguments)
    if arguments.command == "doctor":
        from pleb_agent.cli.doctor import doctor

        return doctor(home, arguments)
    if arguments.command == "prefs":
        from pleb_agent.cli.prefs import prefs

        return prefs(home, arguments)
    from pleb_agent.cli import commands, desktop

    if arguments.command in desktop.COMMANDS:
        return desktop.COMMANDS[arguments.command](home, arguments)
    return commands.COMMANDS[arguments.command](home, arguments)


def _unusable(error: OSError) -> PlebError:
    """Return what a file says that is not ours, is none, or has no room; the log has the place."""
    import logging

    log = logging.getLogger("pleb.agent")
    if log.parent is not None and log.parent.handlers:  # agentd had begun
        log.error("failed", exc_info=error)
    return PlebError(
        f"{error.filename} cannot be used ({error.strerror}): look at its rights and at the room "
        "on the disk, move away what stands in its place, or take another folder with --home."
    )


def _print_error(error: PlebError, *, as_json: bool) -> None:
    if as_json:
        import json

        value = {"error": type(error).__name__, "message": str(error), "exit": error.exit_code}
        print(json.dumps(value))
    else:
        from pleb_shared.protocol.shown import shown

        print(shown(f"pleb-agent: {error}"), file=sys.stderr)
