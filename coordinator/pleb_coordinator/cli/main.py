"""`main`: parse the command line, run one command, return its exit code."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Final

from pleb_coordinator.cli.parser import make_parser
from pleb_system.command_line import Output, parse, run_command
from pleb_system.start_up import loading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_coordinator.cli.desk import Asker
    from pleb_coordinator.home.layout import Home

    AskingCommand = Callable[[Asker, argparse.Namespace, Output], int]
    Command = Callable[[Home, argparse.Namespace, Output], int]

__all__ = ["main"]

_MODULES: Final = {
    "init": "setup",
    "migrate": "setup",
    "serve": "serve",
    "work": "serve",
    "backup": "backups",
    "restore": "backups",
    "compact": "compact",
    "doctor": "doctor",
    "log": "logs",
    "status": "projects",
    "project": "projects",
    "family": "families",
    "model": "models",
    "unit": "units",
    "host": "hosts",
    "account": "people",
    "team": "people",
    "invite": "invites",
    "key": "keys",
    "mirror": "mirrors",
    "packages": "packages",
    "open": "admins",
    "overview": "overview",
    "simulate": "simulate",
    "login": "login",
    "admin": "admins",
}
"""Where each command, or group of commands, is."""
_LASTING: Final = frozenset({"serve", "work", "backup"})
"""Commands that go on until they are stopped: who started them is written down at the start."""


_parser: Final = cache(make_parser)
"""Making it takes far longer than a command does, and a process may run several."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = parse(_parser(), argv)

    def run(output: Output) -> int:
        from pleb_coordinator.home.layout import Home, default_home

        home = Home((options.home or default_home()).expanduser().absolute())
        # Only the command's own module is imported, so that all of them start fast.
        with loading():
            from pleb_coordinator.admin.access import now
            from pleb_coordinator.admin.table import TABLE
            from pleb_coordinator.cli.audit import CHANGING, note
            from pleb_coordinator.cli.confirm import confirm
            from pleb_coordinator.cli.desk import Asker

            module = importlib.import_module(f"pleb_coordinator.cli.{_MODULES[options.command]}")
        found = module.COMMANDS[options.action or options.command]
        entry = TABLE.get(" ".join(filter(None, (options.command, options.action))))
        if entry is not None:
            if entry.final:
                confirm(options, output)
            asking: AskingCommand = found
            return asking(Asker(home, options, output), options, output)
        command: Command = found
        changing = options.command in CHANGING and not getattr(options, "again", False)
        if changing and options.command in _LASTING and home.exists:
            note(home, options, now(), output.progress)
        code = command(home, options, output)
        if changing and options.command not in _LASTING and code == 0:
            note(home, options, now())
        return code

    return run_command("pleb-coordinator", options, run)
