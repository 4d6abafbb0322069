"""`login`: become an admin of a coordinator elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.cli.remote import log_in

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def login(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Use a code that `admin new` printed on the coordinator's machine."""
    found = log_in(home, options.address)
    value = {"url": found.url, "name": found.name, "role": found.role}
    lines = [
        f"You are {found.name} ({found.role}) at {found.url}.",
        f"Commands go there with --coordinator {found.url}",
    ]
    output.result(value, lines)
    return 0


COMMANDS: Final = {"login": login}
