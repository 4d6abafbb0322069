"""Removing a whole project, a batch of a table's rows at a time."""

from __future__ import annotations

from typing import Final

_OF_PROJECT: Final = (
    "traits",
    "lies",
    "pairs",
    "events",
    "uploads",
    "evaluations",
    "showings",
    "versions",
)
REMOVE_SOME_OF_PROJECT: Final = tuple(
    f"""
DELETE FROM {table} WHERE rowid IN (
    SELECT rowid FROM {table} WHERE project = :project LIMIT :limit
)
"""
    for table in (*_OF_PROJECT, "assignments", "units", "rounds")
)
DELTAS_OF_PROJECT: Final = """
SELECT d.assignment FROM deltas d JOIN assignments a ON a.id = d.assignment
WHERE a.project = :project LIMIT :limit
"""
OPEN_UPLOADS_OF_PROJECT: Final = """
SELECT token FROM uploads WHERE project = :project AND complete = 0
"""
REFERENCES_OF_PROJECT: Final = """
SELECT DISTINCT digest FROM blob_references WHERE project = :project
"""
REMOVE_PROJECT: Final = (
    *(
        f"DELETE FROM {table} WHERE host IN (SELECT id FROM hosts WHERE project = :project)"
        for table in ("replies", "host_networks", "calibrations")
    ),
    *(
        f"DELETE FROM {table} WHERE project = :project"
        for table in (
            "blob_references",
            "convictions",
            "alarms",
            "departed",
            "fleet_views",
            "received",
            "shares",
            "classes",
            "class_distances",
            "hosts",
            "metadata",
        )
    ),
    "DELETE FROM projects WHERE id = :project",
)
