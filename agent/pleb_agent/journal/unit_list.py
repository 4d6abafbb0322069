"""The units in the journal as a list for people: by part, by pages, and how many each part has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.unit_parts import UnitPart
from pleb_agent.journal.rows import AssignmentRow, read_assignment

if TYPE_CHECKING:
    from pleb_agent.journal.journal import Journal

__all__ = ["count_parts", "units_of_part"]

_COUNTS: Final = "SELECT part, count(*) AS units FROM assignments GROUP BY part"
_PAGE: Final = """SELECT * FROM assignments
    WHERE part = ? AND id < ? ORDER BY id DESC LIMIT ?"""


def units_of_part(
    journal: Journal, part: UnitPart, before: int | None, count: int
) -> list[AssignmentRow]:
    """Return at most `count` units of a part that came before the one with this id, newest first.

    `before`: None: the newest.
    """
    rows = journal.rows(_PAGE, (part.value, 2**62 if before is None else before, count))
    return [read_assignment(row) for row in rows]


def count_parts(journal: Journal) -> dict[UnitPart, int]:
    """Return how many units each part has."""
    found = {row["part"]: row["units"] for row in journal.rows(_COUNTS)}
    return {part: found.get(part.value, 0) for part in UnitPart}
