"""From SQL rows to the journal's values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.core.trust import Memory
from pleb_agent.journal.rows import AssignmentRow, ProjectRow, RequestRow
from pleb_shared.protocol.manifest import Manifest

if TYPE_CHECKING:
    import sqlite3

__all__ = ["read_assignment", "read_project", "read_request"]


def read_project(row: sqlite3.Row) -> ProjectRow:
    """Return a project from its row."""
    return ProjectRow(
        id=row["id"],
        link=row["link"],
        name=row["name"],
        base_url=row["base_url"],
        host_key_file=row["host_key_file"],
        account_key_file=row["account_key_file"],
        host=row["host"],
        role=row["role"],
        metadata=row["metadata"],
        memory=Memory(
            row["metadata_number"], row["metadata_digest"], row["epoch"], row["latest_version"]
        ),
        sequence=row["sequence"],
        detaching=bool(row["detaching"]),
        attached_at=row["attached_at"],
    )


def read_assignment(row: sqlite3.Row) -> AssignmentRow:
    """Return an assignment from its row."""
    values = dict(row)
    del values["envelope"]
    values["state"] = AssignmentState(row["state"])
    values["manifest"] = msgspec.json.decode(row["manifest"], type=Manifest)
    return AssignmentRow(**values)


def read_request(row: sqlite3.Row) -> RequestRow:
    """Return a request from its row."""
    return RequestRow(
        project=row["project"],
        sequence=row["sequence"],
        body=row["body"],
        reported=tuple(json.loads(row["reported"])),
        wait_seconds=row["wait_seconds"],
        expires_at=row["expires_at"],
    )
