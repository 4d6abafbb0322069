"""Who may ask for which command, and carrying one out: the same rule for the CLI and HTTPS."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pleb_coordinator.core.admins import AdminRole
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.admin.command import Actor, Command, Desk

__all__ = ["TABLE", "Entry", "carry_out", "command_type", "permit"]

T = TypeVar("T")


_VIEWER, _PUBLISHER, _OPERATOR = AdminRole


@dataclass(frozen=True)
class Entry:
    """A command in the table."""

    role: AdminRole
    """The least that its admin must have."""
    module: str
    """Of `pleb_coordinator.admin`; only it is imported, so that commands start fast."""
    changes: bool = False
    """Whether it is written to the audit log."""
    lasting: bool = False
    """Whether it takes so long that the HTTP process lets another process do it."""
    final: bool = False
    """Whether it cannot be undone: a person is asked again, a program has to give `--yes`."""
    here_alone: bool = False
    """Whether it has to be typed on the coordinator's machine."""


TABLE: Final[Mapping[str, Entry]] = {
    "status": Entry(_VIEWER, "projects"),
    "overview": Entry(_VIEWER, "overview"),
    "project list": Entry(_VIEWER, "projects"),
    "project show": Entry(_VIEWER, "projects"),
    "family show": Entry(_VIEWER, "projects"),
    "project pause": Entry(_PUBLISHER, "projects", changes=True),
    "project resume": Entry(_PUBLISHER, "projects", changes=True),
    "project archive": Entry(_PUBLISHER, "projects", changes=True),
    "project extend": Entry(_PUBLISHER, "projects", changes=True),
    "project delete": Entry(_OPERATOR, "projects", changes=True, lasting=True, final=True),
    "unit list": Entry(_VIEWER, "units"),
    "unit show": Entry(_VIEWER, "units"),
    "unit cancel": Entry(_PUBLISHER, "units", changes=True, final=True),
    "host list": Entry(_VIEWER, "hosts"),
    "host show": Entry(_VIEWER, "hosts"),
    "host ban": Entry(_OPERATOR, "hosts", changes=True),
    "host unban": Entry(_OPERATOR, "hosts", changes=True),
    "host team": Entry(_OPERATOR, "hosts", changes=True),
    "host detach": Entry(_OPERATOR, "hosts", changes=True),
    "host delete": Entry(_OPERATOR, "hosts", changes=True, final=True),
    "account list": Entry(_VIEWER, "people"),
    "team list": Entry(_VIEWER, "people"),
    "model list": Entry(_VIEWER, "models"),
    "model show": Entry(_VIEWER, "models"),
    "model verify": Entry(_PUBLISHER, "models", lasting=True),
    "model rollback": Entry(_PUBLISHER, "models", changes=True, lasting=True),
    "invite new": Entry(_OPERATOR, "invites", changes=True),
    "invite list": Entry(_OPERATOR, "invites"),
    "invite revoke": Entry(_OPERATOR, "invites", changes=True),
    "key list": Entry(_VIEWER, "keys"),
    "key rotate": Entry(_OPERATOR, "keys", changes=True),
    "key delete": Entry(_OPERATOR, "keys", changes=True, final=True),
    "log": Entry(_VIEWER, "logs"),
    "log --audit": Entry(_OPERATOR, "logs"),
    "doctor": Entry(_VIEWER, "doctor", lasting=True),
    "compact": Entry(_OPERATOR, "compact", changes=True, lasting=True),
    "backup --again": Entry(_OPERATOR, "backups", changes=True, lasting=True),
    "mirror sync": Entry(_OPERATOR, "mirrors", changes=True, here_alone=True),
    "mirror list": Entry(_VIEWER, "mirrors"),
    "mirror check": Entry(_VIEWER, "mirrors", lasting=True),
    "packages list": Entry(_VIEWER, "packages"),
    "packages add": Entry(_OPERATOR, "packages", changes=True, here_alone=True),
    "packages fetch": Entry(_OPERATOR, "packages", changes=True, lasting=True),
    "packages remove": Entry(_OPERATOR, "packages", changes=True),
    "admin new": Entry(_OPERATOR, "admins", changes=True, here_alone=True),
    "admin list": Entry(_OPERATOR, "admins"),
    "admin revoke": Entry(_OPERATOR, "admins", changes=True),
    "open": Entry(_VIEWER, "admins"),
}


def command_type(words: str) -> type[Command[Any]]:
    """Return the command that these words are.

    Raises:
        Refusal: `malformed`: there is no such command.
    """
    entry = TABLE.get(words)
    if entry is None:
        message = f"There is no command {words[:40]!r}: is the coordinator's version another one?"
        raise Refusal(RefusalCode.MALFORMED, message)
    commands: tuple[type[Command[Any]], ...] = import_module(
        f"pleb_coordinator.admin.{entry.module}"
    ).COMMANDS
    return next(command for command in commands if command.words == words)


def permit(words: str, actor: Actor) -> None:
    """Return if the actor may ask for the command with these words.

    Raises:
        Refusal: `not_permitted`.
    """
    entry = TABLE[words]
    if entry.here_alone and actor.admin:
        message = f"`{words}` works only on the coordinator's machine: ask who runs it."
        raise Refusal(RefusalCode.NOT_PERMITTED, message)
    if not actor.role.allows(entry.role):
        message = (
            f"`{words}` is for the role {entry.role}, and {actor.admin} has {actor.role}: ask an "
            "operator."
        )
        raise Refusal(RefusalCode.NOT_PERMITTED, message)


def carry_out(desk: Desk, command: Command[T]) -> T:
    """Do what is asked for, if who asks may; write it down if it changed something.

    Raises:
        Refusal: `not_permitted`.
        PlebError: it cannot be done.
    """
    permit(command.words, desk.actor)
    changes, project = TABLE[command.words].changes, getattr(command, "project", "")
    if changes and project:
        desk.actor.check_project(project)
    found = command.carry_out(desk)
    if changes:
        with desk.opened() as store, store.write() as tx:
            tx.audit.add(desk.clock(), desk.actor.who, command.words, project, command.told(found))
    return found
