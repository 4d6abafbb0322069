"""What happened in a project, and what operators did."""

from __future__ import annotations

from typing import ClassVar, Final

from pleb_coordinator.admin.command import Command, Desk, Limit, Text
from pleb_coordinator.core.records import AuditEntry, Event

__all__ = ["COMMANDS", "ReadAudit", "ReadLog"]


class ReadLog(Command[list[Event]], frozen=True):
    """The newest events of a project, the newest last."""

    words: ClassVar[str] = "log"
    project: Text
    limit: Limit = 50

    def carry_out(self, desk: Desk) -> list[Event]:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            return tx.events.last(tx.projects.find(self.project).id, self.limit)


class ReadAudit(Command[list[AuditEntry]], frozen=True):
    """The newest commands that changed something, the newest last."""

    words: ClassVar[str] = "log --audit"
    project: Text = ""
    """Empty: of all."""
    limit: Limit = 50

    def carry_out(self, desk: Desk) -> list[AuditEntry]:
        """Read them."""
        with desk.opened() as store, store.read() as tx:
            return tx.audit.last(self.project, self.limit)


COMMANDS: Final = (ReadLog, ReadAudit)
