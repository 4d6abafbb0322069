"""Where a command is carried out: in the home of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.command import Desk
from pleb_coordinator.admin.table import Actor, AdminRole, carry_out
from pleb_coordinator.cli.audit import who

if TYPE_CHECKING:
    from pleb_coordinator.admin.command import Command
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["ask"]

T = TypeVar("T")


def ask(home: Home, command: Command[T], output: Output) -> T:
    """Return what the command returns. Whoever can write the home's files is an operator.

    Raises:
        PlebError: it cannot be done.
    """
    desk = Desk(home, now, output.progress)
    return carry_out(desk, command, Actor(who(), AdminRole.OPERATOR))
