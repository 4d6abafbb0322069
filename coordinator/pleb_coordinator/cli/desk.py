"""Where a command is carried out: in the home of this machine, or at a coordinator elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.command import Actor, Desk
from pleb_coordinator.admin.table import carry_out
from pleb_coordinator.cli.audit import who
from pleb_coordinator.core.admins import AdminRole

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.admin.command import Command
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["Asker", "local_desk"]

T = TypeVar("T")


class Asker:
    """Carries commands out where the command line says."""

    def __init__(self, home: Home, options: argparse.Namespace, output: Output) -> None:
        self._home, self._output = home, output
        self._coordinator: str | None = options.coordinator

    def ask(self, command: Command[T]) -> T:
        """Return what the command returns.

        Raises:
            PlebError: it cannot be done.
        """
        if self._coordinator is not None or not self._home.exists:
            from pleb_coordinator.cli.remote import find_login, send

            login = find_login(self._home, self._coordinator)
            if login is not None:
                return send(login, command)
        return carry_out(local_desk(self._home, self._output), command)


def local_desk(home: Home, output: Output) -> Desk:
    """Return the desk of this machine: whoever can write the home's files is an operator."""
    return Desk(home, now, Actor("", who(), AdminRole.OPERATOR), output.progress)
