"""Volunteers: accounts and teams, with their credit."""

from __future__ import annotations

from typing import ClassVar, Final

from pleb_coordinator.admin.command import Command, Desk, Limit, Text
from pleb_coordinator.store.fleets import Account, Team

__all__ = ["COMMANDS", "ListAccounts", "ListTeams"]


class ListAccounts(Command[list[Account]], frozen=True):
    """The accounts of a project, most credit first."""

    words: ClassVar[str] = "account list"
    project: Text
    limit: Limit = 200

    def carry_out(self, desk: Desk) -> list[Account]:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            ban_after = project.metadata.verification.ban_after
            return tx.fleets.accounts(project.id, ban_after=ban_after, limit=self.limit)


class ListTeams(Command[list[Team]], frozen=True):
    """The teams of a project, most credit first."""

    words: ClassVar[str] = "team list"
    project: Text
    limit: Limit = 200

    def carry_out(self, desk: Desk) -> list[Team]:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            ban_after = project.metadata.verification.ban_after
            return tx.fleets.teams(project.id, ban_after=ban_after, limit=self.limit)


COMMANDS: Final = (ListAccounts, ListTeams)
