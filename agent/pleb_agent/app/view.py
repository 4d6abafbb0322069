"""What `status` and the page show, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pleb_agent.core.agent_state import AgentState
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import AssignmentRow, ProjectRow
    from pleb_agent.loop.status import LiveStatus

__all__ = ["projects_view", "status_view", "stopped_view"]

_HISTORY = 10


def status_view(
    journal: Journal, state: AgentState, live: LiveStatus, problems: dict[int, str]
) -> dict[str, Any]:
    """Return the state of a running agent."""
    return {
        "running": True,
        "activity": state.activity.value,
        "sentence": str(state.sentence),
        "next_look_at": state.next_look_at,
        "unit": msgspec.to_builtins(live.unit),
        "units_finished": live.units_finished,
        **_durable(journal, problems),
    }


def stopped_view(journal: Journal) -> dict[str, Any]:
    """Return what is known while no agentd runs."""
    return {
        "running": False,
        "activity": "stopped",
        "sentence": "The agent is not running: `pleb-agent start`.",
        "next_look_at": None,
        "unit": None,
        "units_finished": 0,
        **_durable(journal, {}),
    }


def projects_view(journal: Journal, problems: dict[int, str]) -> list[dict[str, Any]]:
    """Return the attached projects."""
    return [
        _project(journal, row, problems.get(row.id, ""))
        for row in journal.projects()
        if not row.detaching
    ]


def _durable(journal: Journal, problems: dict[int, str]) -> dict[str, Any]:
    return {
        "projects": projects_view(journal, problems),
        "open": [_assignment(row) for row in journal.open_assignments()],
        "history": [_assignment(row) for row in journal.history(_HISTORY)],
    }


def _project(journal: Journal, row: ProjectRow, problem: str) -> dict[str, Any]:
    return {
        "project": row.name,
        "url": row.base_url,
        "host": row.host,
        "role": row.role,
        "latest_version": row.memory.latest_version,
        "problem": problem,
        "counters": journal.counters(row.id),
    }


def _assignment(row: AssignmentRow) -> dict[str, Any]:
    return {
        "assignment": row.assignment,
        "kind": row.manifest.unit.kind.value,
        "version": row.manifest.unit.version,
        "state": row.state.value,
        "lease_ends_at": row.lease_ends_at,
        "verdict": row.verdict,
        "credit": row.credit,
        "note": row.note,
    }
