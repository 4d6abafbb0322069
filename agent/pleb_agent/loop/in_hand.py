"""What is in hand: the journal's open assignments, with results that it does not have yet.

A result is written with the request that reports it, so that a unit costs two transactions. Until
then it is here; `keep` writes it when no request will carry it soon.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.journal.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import AssignmentRow

__all__ = ["InHand"]


class InHand:
    """All projects' units whose end is not known."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._results: dict[int, AssignmentRow] = {}

    def __bool__(self) -> bool:
        return bool(self._journal.open_assignments())

    def received(self) -> set[int]:
        """Return the projects with units that still have to be computed."""
        return {
            row.project
            for row in self._journal.open_assignments()
            if row.state is AssignmentState.RECEIVED and row.id not in self._results
        }

    def of(self, project: int) -> list[AssignmentRow]:
        """Return a project's units, oldest first."""
        rows = self._journal.open_assignments(project)
        return [
            self._results.get(row.id, row) if row.state is AssignmentState.RECEIVED else row
            for row in rows
        ]

    def take(self, result: AssignmentRow) -> None:
        """Remember a unit that was computed, or that failed."""
        self._results[result.id] = result

    def written(self, results: Sequence[AssignmentRow]) -> None:
        """A request has carried these, and the journal has them."""
        for row in results:
            self._results.pop(row.id, None)

    def keep(self) -> None:
        """Write results that no request carries yet; if that fails they stay in memory."""
        with suppress(JournalError):
            for row in list(self._results.values()):
                self._journal.save_result(row)
                del self._results[row.id]
