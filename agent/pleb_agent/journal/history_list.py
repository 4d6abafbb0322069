"""The history as a list for people: units folded by day, with filters, by pages.

500 units a day are a few rows: of each project one for every way in which its units ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.journal.activity_log import read_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.history import Event
    from pleb_agent.journal.activity_log import ActivityLog

__all__ = ["HistoryFilter", "folded_events"]

# With max() as the only aggregate besides count(), SQLite takes the other columns from the row
# that has the maximum: https://www.sqlite.org/lang_select.html#bareagg
_FOLDED: Final = """SELECT max(id) AS id, at, kind, project, template, "values", count(*) AS folded
FROM (
    SELECT *, CASE kind
        WHEN 'unit' THEN date(at, 'unixepoch', 'localtime') || ' ' || project || ' ' || template
        ELSE id END AS fold
    FROM events
    WHERE at >= :since AND (:project = '' OR project = :project)
        AND (:kinds = '' OR instr(:kinds, ' ' || kind || ' ') > 0)
        AND (:templates = '' OR instr(:templates, char(10) || template || char(10)) > 0)
)
GROUP BY fold HAVING max(id) < :before ORDER BY max(id) DESC LIMIT :count"""


@dataclass(frozen=True)
class HistoryFilter:
    """Which events are wanted; empty: all. `since`: seconds since 1970."""

    kinds: Sequence[str] = ()
    templates: Sequence[str] = ()
    project: str = ""
    since: float = 0.0


def folded_events(
    log: ActivityLog, wanted: HistoryFilter, before: int | None, count: int
) -> list[tuple[Event, int]]:
    """Return events, newest first, each with how many it stands for; it is the newest of them.

    `before`: the id of the last one of the page before; None: begin with the newest.
    """
    values = {
        "since": wanted.since,
        "project": wanted.project,
        "kinds": f" {' '.join(wanted.kinds)} " if wanted.kinds else "",
        "templates": "\n{}\n".format("\n".join(wanted.templates)) if wanted.templates else "",
        "before": 2**62 if before is None else before,
        "count": count,
    }
    return [(read_event(row), row["folded"]) for row in log.rows(_FOLDED, values)]
