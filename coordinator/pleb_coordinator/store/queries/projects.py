"""Projects with their metadata, evaluations, versions and rounds."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import (
    Evaluation,
    Facts,
    Project,
    Round,
    Showing,
    VersionInLog,
    VersionLoss,
    VersionNoise,
    VersionRestore,
    VersionRow,
)
from pleb_coordinator.store.queries.parts import OF_VERSION, ROUND, columns, insert

_VERSION: Final = columns(VersionRow)

_PROJECT: Final = f"""
SELECT {columns(Project, "p.", without=("facts", "metadata"))}, {columns(Facts, "m.")}
FROM projects p JOIN metadata m ON m.project = p.id AND m.number = p.metadata_number
"""
FIND_PROJECT: Final = _PROJECT + " WHERE p.name = :name"
GET_PROJECT: Final = _PROJECT + " WHERE p.id = :project"
PROJECT_NAMES: Final = "SELECT name FROM projects WHERE metadata_number > 0 ORDER BY id"
ADD_PROJECT: Final = """
INSERT INTO projects
    (name, root_key, state, epoch, version, metadata_number, created_at, brought_keys)
VALUES (:name, :root_key, 'active', :epoch, 0, 0, :now, :brought_keys) RETURNING id
"""
SET_PROJECT_STATE: Final = """
UPDATE projects SET state = :after, stopped_for = :why WHERE id = :project AND state = :before
"""
SET_RECORDS_AT: Final = "UPDATE projects SET records_at = :at WHERE id = :project"
SET_BROUGHT_KEYS: Final = "UPDATE projects SET brought_keys = :keys WHERE id = :project"
SET_KEYS: Final = "UPDATE projects SET key_numbers = :numbers WHERE id = :project"
EXTEND_PROJECT: Final = "UPDATE projects SET extended = 1 WHERE id = :project AND extended = 0"
ADVANCE_PROJECT: Final = """
UPDATE projects SET version = :after
WHERE id = :project AND epoch = :epoch AND version = :before
"""
SET_TOLERANCE: Final = "UPDATE projects SET tolerance = :tolerance WHERE id = :project"
SET_RESTORING: Final = """
UPDATE projects SET restoring = :version, restoring_for = :cause WHERE id = :project
"""
SET_RESTORED: Final = "UPDATE projects SET restored_at = :at WHERE id = :project"
SET_FLEET: Final = """
UPDATE projects
SET active_accounts = :active_accounts, proven_hosts = :proven_hosts, new_hosts = :new_hosts,
    median_step_seconds = :median_step_seconds
WHERE id = :project
"""
ADD_METADATA: Final = f"""
INSERT INTO metadata (project, number, envelope, {columns(Facts)}, published_at)
VALUES (:project, :number, :envelope, {columns(Facts, ":")}, :now)
"""
SET_METADATA: Final = """
UPDATE projects SET metadata_number = :number, epoch = :epoch, root_key = :root_key
WHERE id = :project
"""
START_EPOCH: Final = """
UPDATE projects SET version = 0, tolerance = 0, restoring = NULL, restoring_for = NULL
WHERE id = :project
"""
CANCEL_EPOCHS_BEFORE: Final = """
UPDATE assignments SET state = 'cancelled'
WHERE project = :project AND epoch < :epoch AND state = 'unsent'
"""
CANCEL_LEASES_BEFORE: Final = """
UPDATE assignments SET state = 'cancelled'
WHERE project = :project AND epoch < :epoch AND state IN ('leased', 'uploading')
"""
END_UPLOADS: Final = """
UPDATE uploads SET expires_at = :now
WHERE project = :project AND assignment IS NOT NULL AND complete = 0 AND expires_at > :now
"""
NOTHING_DUE_BEFORE: Final = """
UPDATE units SET due = 0 WHERE project = :project AND epoch < :epoch AND due = 1
"""
FORGET_DISPUTES_BEFORE: Final = """
UPDATE units SET disputed = 0, look_at = NULL
WHERE project = :project AND epoch < :epoch AND (disputed = 1 OR look_at IS NOT NULL)
"""
FORGET_CALIBRATIONS: Final = "DELETE FROM calibrations WHERE project = :project"
FORGET_CLASSES: Final = "DELETE FROM classes WHERE project = :project"
FORGET_DISTANCES: Final = "DELETE FROM class_distances WHERE project = :project"
FORGET_MEASUREMENTS: Final = """
UPDATE hosts
SET runtime = '', determinism_class = '', seconds_per_step = NULL,
    fastest_step_seconds = NULL, shards = ''
WHERE project = :project
"""
GET_ENVELOPE: Final = "SELECT envelope FROM metadata WHERE project = :project AND number = :number"
NEWEST_ENVELOPE: Final = """
SELECT number, envelope FROM metadata WHERE project = :project ORDER BY number DESC LIMIT 1
"""
ADD_EVALUATION: Final = (
    insert("evaluations", Evaluation)
    + """
ON CONFLICT (project, epoch, version) DO UPDATE SET
    assignment = excluded.assignment, metrics = excluded.metrics,
    examples = excluded.examples, made_at = excluded.made_at
"""
)
EVALUATIONS: Final = f"""
SELECT {columns(Evaluation)} FROM evaluations
WHERE project = :project AND epoch = :epoch ORDER BY version
"""
THIN_EVALUATIONS: Final = """
DELETE FROM evaluations
WHERE project = :project AND epoch = :epoch AND version < :before AND version % :step <> 0
  AND version IN (SELECT number FROM versions
                  WHERE project = :project AND epoch = :epoch AND kept = 'listed')
"""
ADD_SHOWING: Final = (
    insert("showings", Showing)
    + """
ON CONFLICT (project, epoch, version) DO UPDATE SET
    card = excluded.card, shown = excluded.shown, made_at = excluded.made_at
"""
)
_OF_CARD: Final = "project = :project AND epoch = :epoch AND card = :card"
SHOWN_VERSIONS: Final = f"SELECT version FROM showings WHERE {_OF_CARD} ORDER BY version"
SHOWING: Final = f"""
SELECT {columns(Showing)} FROM showings WHERE {_OF_CARD} AND version = :version
"""
# The first answer to a card stays, as long as there is a later one.
THIN_SHOWINGS: Final = """
DELETE FROM showings
WHERE project = :project AND epoch = :epoch AND version < :before AND version % :step <> 0
  AND EXISTS (SELECT 1 FROM showings earlier
              WHERE earlier.project = :project AND earlier.epoch = :epoch
                AND earlier.card = showings.card AND earlier.version < showings.version)
  AND version IN (SELECT number FROM versions
                  WHERE project = :project AND epoch = :epoch AND kept = 'listed')
"""
OPEN_UNITS: Final = """
SELECT count(*),
       count(CASE WHEN EXISTS (
           SELECT 1 FROM assignments a WHERE a.unit = u.id AND a.state IN ('leased', 'uploading')
       ) THEN 1 END),
       count(CASE WHEN EXISTS (
           SELECT 1 FROM assignments a WHERE a.unit = u.id AND a.state = 'reported'
       ) THEN 1 END)
FROM units u
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version
  AND u.kind = 'train' AND u.state = 'open'
"""

# Versions and rounds

GET_VERSION: Final = f"""
SELECT {_VERSION} FROM versions
WHERE project = :project AND epoch = :epoch AND number = :number
"""
VERSION_NORMS: Final = """
SELECT norms FROM versions WHERE project = :project AND epoch = :epoch AND number = :number
"""
VERSION_SOURCE: Final = """
SELECT source FROM versions WHERE project = :project AND epoch = :epoch AND number = :number
"""
LOSSES: Final = f"""
SELECT {columns(VersionLoss)} FROM versions
WHERE project = :project AND epoch = :epoch
  AND (number % :step = 0
       OR number = (SELECT max(number) FROM versions WHERE project = :project AND epoch = :epoch))
ORDER BY number
"""
ADD_VERSION: Final = (
    insert("versions", VersionRow) + " ON CONFLICT (project, epoch, number) DO NOTHING"
)
HISTORY: Final = f"""
SELECT {_VERSION} FROM versions
WHERE project = :project AND epoch = :epoch AND number > :after ORDER BY number LIMIT :limit
"""
RESTORES: Final = f"""
SELECT {columns(VersionRestore)} FROM versions
WHERE project = :project AND epoch = :epoch AND restores IS NOT NULL ORDER BY number
"""
NOISE: Final = f"""
SELECT {columns(VersionNoise)} FROM versions
WHERE project = :project AND number > 0 AND restores IS NULL ORDER BY epoch, number
"""
IN_LOG: Final = f"""
SELECT {columns(VersionInLog)} FROM versions WHERE project = :project ORDER BY epoch, number
"""
EPOCHS: Final = "SELECT DISTINCT epoch FROM versions WHERE project = :project ORDER BY epoch"
HAS_VERSION: Final = """
SELECT 1 FROM versions WHERE project = :project AND epoch = :epoch AND number = :number
"""
KEEP_LESS: Final = """
UPDATE versions SET
    difference = :difference, outer_state = :outer_state, snapshot = :snapshot, inputs = :inputs,
    source = :source, norms = :norms, kept = :kept, delta_bytes = :delta_bytes,
    blob_bytes = :blob_bytes
WHERE project = :project AND epoch = :epoch AND number = :number
"""
VERSION_LOAD: Final = """
SELECT count(CASE WHEN kept = 'exact' THEN 1 END), coalesce(sum(delta_bytes), 0),
       count(CASE WHEN kept <> 'milestone' THEN 1 END),
       coalesce(sum(CASE WHEN kept <> 'milestone' THEN blob_bytes END), 0)
FROM versions WHERE project = :project AND kept <> 'listed'
"""
OLDEST_KEPT: Final = f"""
SELECT {_VERSION} FROM versions
WHERE project = :project AND kept <> 'listed' AND kept = :kept
  AND (epoch < :epoch OR (epoch = :epoch AND number <= :number))
ORDER BY epoch, number LIMIT :limit
"""
MILESTONES: Final = """
SELECT epoch, number FROM versions
WHERE project = :project AND kept <> 'listed' AND kept = 'milestone' ORDER BY epoch, number
"""
NEWEST_READABLE: Final = """
SELECT number FROM versions
WHERE project = :project AND epoch = :epoch AND number <= :number AND kept <> 'listed'
ORDER BY number DESC LIMIT 1
"""
LAST_NUMBER: Final = "SELECT max(number) FROM versions WHERE project = :project AND epoch = :epoch"
GET_ROUND: Final = f"SELECT {ROUND} FROM rounds WHERE {OF_VERSION}"
ADD_ROUND: Final = insert("rounds", Round) + " ON CONFLICT (project, epoch, version) DO NOTHING"
SET_QUORUM_AT: Final = f"UPDATE rounds SET quorum_at = :at WHERE {OF_VERSION}"
SET_QUORUM: Final = f"""
UPDATE rounds SET quorum = valid, quorum_at = :at
WHERE {OF_VERSION} AND valid = :valid AND closed_at IS NULL
"""
REPLAN_ROUND: Final = f"""
UPDATE rounds SET units = :units, quorum = :quorum, open = open + :units WHERE {OF_VERSION}
"""
LOWER_QUORUM: Final = f"UPDATE rounds SET quorum = :quorum WHERE {OF_VERSION}"
CLOSE_ROUND: Final = f"UPDATE rounds SET closed_at = :now WHERE {OF_VERSION} AND closed_at IS NULL"
UNSWEPT_BEFORE: Final = f"""
SELECT {ROUND} FROM rounds
WHERE project = :project AND (epoch, version) < (:epoch, :version)
  AND closed_at IS NOT NULL AND swept_at IS NULL
ORDER BY epoch, version LIMIT 1
"""
SET_SWEPT: Final = f"UPDATE rounds SET swept_at = :now WHERE {OF_VERSION}"

LENGTHS_OF_ROUNDS: Final = """
SELECT closed_at - opened_at FROM rounds
WHERE project = :project AND epoch = :epoch AND version >= :since AND version < :version
  AND closed_at IS NOT NULL
"""

# From where hosts got their blobs

ADD_RECEIVED: Final = """
INSERT INTO received (project, source, bytes) VALUES (:project, :source, :bytes)
ON CONFLICT (project, source) DO UPDATE SET bytes = received.bytes + excluded.bytes
"""
RECEIVED: Final = "SELECT source, bytes FROM received WHERE project = :project"
