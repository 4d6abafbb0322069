"""All SQL of the store, by name, with named parameters.

It is written in the SQL that SQLite and PostgreSQL share (RETURNING instead of a last row id,
ON CONFLICT instead of INSERT OR REPLACE, flags as 0 and 1). A method of the store and its query
here are the two places of a query. What runs for every request uses an index, however many
finished rows there are: a test asks SQLite's query planner. For a partial index to be used, the
query must repeat its condition literally.
"""
# ruff: noqa: S608 - the inserted names are our own records' fields, never anybody's input

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.leaning import Lie
from pleb_coordinator.core.peers import MOST_CANDIDATES
from pleb_coordinator.core.records import (
    Admin,
    AdminSession,
    Adopted,
    Alarm,
    Assignment,
    AuditEntry,
    CalibrationClass,
    Conviction,
    Evaluation,
    Event,
    Facts,
    Host,
    Invite,
    NewUnit,
    Project,
    Purpose,
    Round,
    Showing,
    StoredDelta,
    Tombstone,
    UnitRow,
    Upload,
    VersionInLog,
    VersionLoss,
    VersionNoise,
    VersionRestore,
    VersionRow,
)
from pleb_coordinator.core.suspicion import Traits
from pleb_coordinator.core.tolerance import ConfirmedPair

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Record


def _columns(record: type[Record], prefix: str = "", without: Collection[str] = ()) -> str:
    """Return the columns of a record in the order of its fields, each after `prefix`."""
    fields = msgspec.structs.fields(record)
    return ", ".join(prefix + field.name for field in fields if field.name not in without)


def _insert(table: str, record: type[Record]) -> str:
    """Return the INSERT of a whole record."""
    return f"INSERT INTO {table} ({_columns(record)}) VALUES ({_columns(record, ':')})"


_OF_VERSION: Final = "project = :project AND epoch = :epoch AND version = :version"
_ASSIGNMENT: Final = _columns(Assignment)
_CLASS: Final = _columns(CalibrationClass)
_EVENT: Final = _columns(Event)
_HOST: Final = _columns(Host)
_INVITE: Final = _columns(Invite)
_ROUND: Final = _columns(Round)
_TOMBSTONE: Final = _columns(Tombstone)
_UNIT: Final = _columns(UnitRow)
_UPLOAD: Final = _columns(Upload)
_VERSION: Final = _columns(VersionRow)
_ASSIGNMENT_AND_UNIT: Final = f"{_columns(Assignment, 'a.')}, {_columns(UnitRow, 'u.')}"

# Projects, metadata, evaluations

_PROJECT: Final = f"""
SELECT {_columns(Project, "p.", without=("facts", "metadata"))}, {_columns(Facts, "m.")}
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
INSERT INTO metadata (project, number, envelope, {_columns(Facts)}, published_at)
VALUES (:project, :number, :envelope, {_columns(Facts, ":")}, :now)
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
    _insert("evaluations", Evaluation)
    + """
ON CONFLICT (project, epoch, version) DO UPDATE SET
    assignment = excluded.assignment, metrics = excluded.metrics,
    examples = excluded.examples, made_at = excluded.made_at
"""
)
EVALUATIONS: Final = f"""
SELECT {_columns(Evaluation)} FROM evaluations
WHERE project = :project AND epoch = :epoch ORDER BY version
"""
THIN_EVALUATIONS: Final = """
DELETE FROM evaluations
WHERE project = :project AND epoch = :epoch AND version < :before AND version % :step <> 0
  AND version IN (SELECT number FROM versions
                  WHERE project = :project AND epoch = :epoch AND kept = 'listed')
"""
ADD_SHOWING: Final = (
    _insert("showings", Showing)
    + """
ON CONFLICT (project, epoch, version) DO UPDATE SET
    card = excluded.card, shown = excluded.shown, made_at = excluded.made_at
"""
)
_OF_CARD: Final = "project = :project AND epoch = :epoch AND card = :card"
SHOWN_VERSIONS: Final = f"SELECT version FROM showings WHERE {_OF_CARD} ORDER BY version"
SHOWING: Final = f"""
SELECT {_columns(Showing)} FROM showings WHERE {_OF_CARD} AND version = :version
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

# Which files must be there for the rows to mean anything

ADD_REFERENCE: Final = """
INSERT INTO blob_references (digest, project, epoch, version)
VALUES (:digest, :project, :epoch, :version) ON CONFLICT DO NOTHING
"""
REFERENCES_OF: Final = f"SELECT digest FROM blob_references WHERE {_OF_VERSION}"
REMOVE_REFERENCES: Final = f"DELETE FROM blob_references WHERE {_OF_VERSION}"
IS_REFERENCED: Final = "SELECT 1 FROM blob_references WHERE digest = :digest LIMIT 1"
REFERENCED_BLOBS: Final = "SELECT DISTINCT digest FROM blob_references"
DELTA_FILES: Final = """
SELECT d.assignment, CASE d.digest WHEN '' THEN a.digest ELSE d.digest END
FROM deltas d JOIN assignments a ON a.id = d.assignment
WHERE d.data IS NULL
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
SELECT {_columns(VersionLoss)} FROM versions
WHERE project = :project AND epoch = :epoch
  AND (number % :step = 0
       OR number = (SELECT max(number) FROM versions WHERE project = :project AND epoch = :epoch))
ORDER BY number
"""
ADD_VERSION: Final = (
    _insert("versions", VersionRow) + " ON CONFLICT (project, epoch, number) DO NOTHING"
)
HISTORY: Final = f"""
SELECT {_VERSION} FROM versions
WHERE project = :project AND epoch = :epoch AND number > :after ORDER BY number LIMIT :limit
"""
RESTORES: Final = f"""
SELECT {_columns(VersionRestore)} FROM versions
WHERE project = :project AND epoch = :epoch AND restores IS NOT NULL ORDER BY number
"""
NOISE: Final = f"""
SELECT {_columns(VersionNoise)} FROM versions
WHERE project = :project AND number > 0 AND restores IS NULL ORDER BY epoch, number
"""
IN_LOG: Final = f"""
SELECT {_columns(VersionInLog)} FROM versions WHERE project = :project ORDER BY epoch, number
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
GET_ROUND: Final = f"SELECT {_ROUND} FROM rounds WHERE {_OF_VERSION}"
ADD_ROUND: Final = _insert("rounds", Round) + " ON CONFLICT (project, epoch, version) DO NOTHING"
COUNT_IN_ROUND: Final = f"""
UPDATE rounds SET open = open + :open, valid = valid + :valid WHERE {_OF_VERSION}
"""
SET_QUORUM_AT: Final = f"UPDATE rounds SET quorum_at = :at WHERE {_OF_VERSION}"
SET_QUORUM: Final = f"""
UPDATE rounds SET quorum = valid, quorum_at = :at
WHERE {_OF_VERSION} AND valid = :valid AND closed_at IS NULL
"""
REPLAN_ROUND: Final = f"""
UPDATE rounds SET units = :units, quorum = :quorum, open = open + :units WHERE {_OF_VERSION}
"""
LOWER_QUORUM: Final = f"UPDATE rounds SET quorum = :quorum WHERE {_OF_VERSION}"
CLOSE_ROUND: Final = f"UPDATE rounds SET closed_at = :now WHERE {_OF_VERSION} AND closed_at IS NULL"
UNSWEPT_BEFORE: Final = f"""
SELECT {_ROUND} FROM rounds
WHERE project = :project AND (epoch, version) < (:epoch, :version)
  AND closed_at IS NOT NULL AND swept_at IS NULL
ORDER BY epoch, version LIMIT 1
"""
SET_SWEPT: Final = f"UPDATE rounds SET swept_at = :now WHERE {_OF_VERSION}"

# Units

ADD_UNIT: Final = f"""
INSERT INTO units (project, epoch, version, {_columns(NewUnit)}, state, planned_at)
VALUES (:project, :epoch, :version, {_columns(NewUnit, ":")}, 'open', :now) RETURNING id
"""
FIND_UNIT: Final = f"""
SELECT {_UNIT} FROM units
WHERE {_OF_VERSION} AND kind = :kind AND position = :position
"""
GET_UNIT: Final = f"SELECT {_UNIT} FROM units WHERE id = :unit"
LENGTHS_OF_ROUNDS: Final = """
SELECT closed_at - opened_at FROM rounds
WHERE project = :project AND epoch = :epoch AND version >= :since AND version < :version
  AND closed_at IS NOT NULL
"""
SET_CHUNK: Final = """
UPDATE units SET chunk = :chunk, memory_bytes = :memory_bytes WHERE id = :unit
"""
COUNT_CHUNK_UNITS: Final = """
SELECT count(*) FROM units
WHERE project = :project AND epoch = :epoch AND version = :version
  AND kind = 'train' AND memory_bytes > 0 AND chunk <> 'full' AND state <> 'cancelled'
"""
COUNT_STRONG: Final = """
SELECT count(*) FROM hosts
WHERE project = :project AND last_asked > :since AND banned_until <= :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""
SET_STEPS: Final = "UPDATE units SET local_steps = :local_steps WHERE id = :unit"
STEPS_OF_ROUND: Final = """
SELECT COALESCE(SUM(local_steps), 0) FROM units
WHERE project = :project AND epoch = :epoch AND version = :version
  AND kind = 'train' AND state = 'applied'
"""
# A host says how long it computed; nobody gains by seeming faster than the coordinator saw it be.
FIRST_TRIES_IN_HAND: Final = """
SELECT a.unit, a.host, u.local_steps, a.issued_at,
  CASE WHEN h.fastest_step_seconds > h.seconds_per_step THEN h.fastest_step_seconds
       ELSE h.seconds_per_step END, u.chunk
FROM units u JOIN assignments a ON a.unit = u.id JOIN hosts h ON h.id = a.host
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND u.state = 'open' AND a.state IN ('leased', 'uploading') AND a.purpose = 'primary'
  AND h.seconds_per_step > 0 AND u.position % :every = 0
"""
UNITS_OF_ROUND: Final = f"""
SELECT {_UNIT} FROM units
WHERE {_OF_VERSION} AND kind = 'train' ORDER BY position
"""
MOVE_UNIT: Final = """
UPDATE units SET state = :after, canonical = :canonical, decided_at = :now
WHERE id = :unit AND state = :before
"""
NEW_RESULT: Final = "UPDATE units SET revision = revision + 1, due = 1 WHERE id = :unit"
LOOKED_AT: Final = "UPDATE units SET due = 0 WHERE id = :unit AND revision = :revision AND due = 1"
SET_COUNTING: Final = """
UPDATE units SET counting = :counting, audit_rate = :audit_rate WHERE id = :unit
"""
OPEN_EXAM: Final = "UPDATE units SET counting = :counting, exam_at = :now WHERE id = :unit"
SET_DISPUTE: Final = """
UPDATE units SET disputed = :disputed, deciders = :deciders WHERE id = :unit
"""
SET_LOOK_AT: Final = "UPDATE units SET look_at = :at WHERE id = :unit"
LOOK_BY: Final = """
UPDATE units SET look_at = :at WHERE id = :unit AND (look_at IS NULL OR look_at > :at)
"""
NEXT_LOOK: Final = "SELECT min(look_at) FROM units WHERE look_at IS NOT NULL"
LOOK_NOW: Final = """
UPDATE units SET look_at = NULL, due = 1, revision = revision + 1
WHERE look_at IS NOT NULL AND look_at <= :now
"""
SET_SPOT_CHECK: Final = "UPDATE units SET spot_check = :spot_check WHERE id = :unit"
TO_SPOT_CHECK: Final = f"""
SELECT {_UNIT} FROM units
WHERE project = :project AND spot_check = :spot_check AND spot_check IN ('possible', 'wanted')
  AND epoch = :epoch AND version >= :version
ORDER BY version DESC LIMIT :limit
"""
EXAMS: Final = f"""
SELECT {_UNIT} FROM units
WHERE {_OF_VERSION} AND exam_at IS NOT NULL AND state IN ('open', 'valid')
"""
COUNT_EXAMS: Final = f"SELECT count(*) FROM units WHERE {_OF_VERSION} AND exam_at IS NOT NULL"
WAITING_DISPUTES: Final = f"""
SELECT {_UNIT} FROM units
WHERE project = :project AND disputed = 1 AND look_at IS NOT NULL LIMIT :limit
"""
DUE_UNITS: Final = f"""
SELECT {_UNIT} FROM units
WHERE project = :project AND due = 1 AND kind = 'train' ORDER BY id LIMIT :limit
"""
UNDECIDED_BEFORE: Final = f"""
SELECT {_UNIT} FROM units
WHERE project = :project AND (epoch, version) < (:epoch, :version)
  AND state IN ('open', 'late') AND kind <> 'calibrate'
ORDER BY epoch, version LIMIT :limit
"""
NEWEST_UNITS: Final = f"""
SELECT {_UNIT} FROM units WHERE project = :project
ORDER BY epoch DESC, version DESC, kind, position LIMIT :limit
"""

# Assignments

GET_ASSIGNMENT: Final = f"SELECT {_ASSIGNMENT} FROM assignments WHERE id = :assignment"
ASSIGNMENTS_OF_UNIT: Final = f"SELECT {_ASSIGNMENT} FROM assignments WHERE unit = :unit ORDER BY id"
REPORTED: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments WHERE unit = :unit AND state = 'reported' ORDER BY id
"""
ANSWERED: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments
WHERE unit = :unit AND state IN ('reported', 'valid') ORDER BY id
"""
UNJUDGED: Final = """
SELECT 1 FROM assignments
WHERE unit = :unit AND host = :host AND state IN ('uploading', 'reported') LIMIT 1
"""
IS_COMPUTED: Final = """
SELECT 1 FROM assignments
WHERE unit = :unit AND (
    state IN ('leased', 'uploading')
    OR EXISTS (SELECT 1 FROM deltas WHERE deltas.assignment = assignments.id)
) LIMIT 1
"""
LEASES: Final = """
SELECT id, purpose FROM assignments
WHERE host = :host AND state IN ('leased', 'uploading') ORDER BY id
"""
IN_HAND: Final = f"""
SELECT {_ASSIGNMENT_AND_UNIT} FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.host = :host AND a.state IN ('leased', 'uploading') AND a.state = 'leased'
ORDER BY a.id
"""
# An earlier assignment of the same unit rules a host out, unless it came to nothing: a host
# that gave the unit back may try again once it is forgiven.
_CANDIDATES: Final = f"""
SELECT {_ASSIGNMENT_AND_UNIT}, (SELECT count(*) FROM assignments c WHERE c.unit = a.unit)
FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.state = 'unsent' AND a.project = :project AND a.purpose = :purpose
  AND a.trusted_only = :trusted_only AND a.id >= :first AND a.for_host IS NULL
  AND a.for_class IN ('', :determinism_class)
  AND (u.memory_bytes <= :memory_bytes
       OR (a.purpose = 'primary' AND u.memory_bytes > 0 AND a.created_at <= :waiting_since))
  AND NOT EXISTS (
    SELECT 1 FROM assignments o
    WHERE o.unit = a.unit AND o.state NOT IN ('expired', 'cancelled', 'unsent')
      AND NOT (o.state = 'failed' AND o.reported_at < :forgiven_before)
"""
# The unsent assignments in their order, without whose they may be: see `store.beginnings`.
FIRST_UNSENT: Final = """
SELECT a.id FROM assignments a
WHERE a.state = 'unsent' AND a.project = :project AND a.purpose = :purpose
  AND a.trusted_only = :trusted_only AND a.id >= :first
ORDER BY a.id LIMIT 1
"""
CANDIDATES_FOR_HOST: Final = f"""
{_CANDIDATES}
      AND (o.account = :account OR o.host = :host
           OR (o.network = :network AND o.network <> ''))
  )
ORDER BY a.id LIMIT :limit
"""
CANDIDATES_FOR_TRUSTED: Final = f"""
{_CANDIDATES}
      AND o.host = :host AND NOT (a.purpose = 'decider' AND o.state IN ('reported', 'valid'))
  )
ORDER BY a.id LIMIT :limit
"""
DRAWN_FOR: Final = f"""
SELECT {_ASSIGNMENT_AND_UNIT} FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.for_host = :host AND a.for_host IS NOT NULL AND a.state = 'unsent' ORDER BY a.id
"""
COUNT_DRAWN_FOR: Final = """
SELECT count(*) FROM assignments
WHERE for_host = :host AND for_host IS NOT NULL AND state = 'unsent'
"""
CANCEL_DRAWN_FOR: Final = """
UPDATE assignments SET state = :after
WHERE for_host = :host AND for_host IS NOT NULL AND state = 'unsent' RETURNING unit
"""
NOT_FETCHED: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments
WHERE fetch_by IS NOT NULL AND state = 'unsent' AND fetch_by <= :now LIMIT :limit
"""
NEXT_FETCH: Final = """
SELECT min(fetch_by) FROM assignments WHERE fetch_by IS NOT NULL AND state = 'unsent'
"""
FOR_TRUSTED: Final = """
SELECT count(*) FROM assignments
WHERE project = :project AND purpose = :purpose AND trusted_only = 1 AND state = 'unsent'
"""
ONLY_FOR_TRUSTED: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments
WHERE project = :project AND purpose = :purpose AND trusted_only = 1 AND state = 'unsent'
  AND (SELECT u.memory_bytes FROM units u WHERE u.id = unit) > :memory_bytes
LIMIT :limit
"""
HAS_HAD: Final = """
SELECT 1 FROM assignments
WHERE unit = :unit AND state <> 'cancelled'
  AND (account = :account OR host = :host OR (network = :network AND network <> '')) LIMIT 1
"""
HAS_PART: Final = """
SELECT 1 FROM units u JOIN assignments a ON a.unit = u.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND a.account = :account AND a.state IN ('leased', 'uploading', 'reported', 'valid') LIMIT 1
"""
COUNT_EXAM_HOSTS: Final = """
SELECT count(*) FROM assignments
WHERE unit = :unit AND purpose = 'exam' AND state <> 'cancelled'
"""
LONE_RESULTS: Final = f"""
SELECT {_ASSIGNMENT_AND_UNIT} FROM units u JOIN assignments a ON a.id = u.canonical
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND u.state = 'valid' AND a.host = :host
"""
LONE_UNITS: Final = """
SELECT u.id FROM units u
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND u.state = 'valid' AND u.counting IN ('author', 'checked')
  AND NOT EXISTS (SELECT 1 FROM assignments a WHERE a.unit = u.id AND a.id <> u.canonical
                  AND a.state IN ('reported', 'valid'))
"""
CONFIRMED_OF: Final = f"""
SELECT {_columns(UnitRow, "u.")} FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.host = :host AND a.ripe_at IS NOT NULL AND a.state = 'valid'
  AND u.spot_check = 'possible'
ORDER BY a.ripe_at DESC LIMIT :limit
"""
# One probe of the index for each purpose, however many assignments are unsent.
UNSENT_PURPOSES: Final = " UNION ALL ".join(
    f"""
SELECT '{purpose}' WHERE EXISTS (
    SELECT 1 FROM assignments
    WHERE project = :project AND purpose = '{purpose}' AND state = 'unsent'
)
"""
    for purpose in Purpose
)
UNSENT_FOR_ALL: Final = " UNION ALL ".join(
    f"""
SELECT '{purpose}' WHERE EXISTS (
    SELECT 1 FROM assignments
    WHERE project = :project AND purpose = '{purpose}' AND trusted_only = 0 AND state = 'unsent'
      AND for_host IS NULL
)
"""
    for purpose in Purpose
)
HOSTS_DRAWN: Final = """
SELECT DISTINCT for_host FROM assignments WHERE for_host IS NOT NULL AND state = 'unsent'
"""
FIRST_ASSIGNMENTS: Final = f"""
INSERT INTO assignments (project, unit, epoch, version, purpose, state, trusted_only, created_at)
SELECT project, id, epoch, version, :purpose, 'unsent', :trusted_only, :now FROM units
WHERE {_OF_VERSION} AND kind = :kind ORDER BY id
"""
ADD_ASSIGNMENT: Final = """
INSERT INTO assignments (project, unit, epoch, version, purpose, state, trusted_only,
                         for_class, for_host, fetch_by, created_at)
SELECT project, id, epoch, version, :purpose, 'unsent', :trusted_only,
       :for_class, :for_host, :fetch_by, :created_at FROM units WHERE id = :unit
RETURNING id
"""
LEASE: Final = """
UPDATE assignments
SET state = :after, host = :host, account = :account, network = :network, nonce = :nonce,
    issued_at = :now, lease_until = :until, out_of_turn = :out_of_turn
WHERE id = :assignment AND state = :before
"""
COMMIT_RESULT: Final = """
UPDATE assignments
SET state = :after, digest = :digest, size = :size, loss_first = :loss_first,
    loss_last = :loss_last, compute_seconds = :compute_seconds, reported_at = :reported_at
WHERE id = :assignment AND state = :before
"""
MOVE_ASSIGNMENT: Final = """
UPDATE assignments SET state = :after WHERE id = :assignment AND state = :before
"""
EXTEND_LEASE: Final = """
UPDATE assignments SET lease_until = :until WHERE id = :assignment AND lease_until < :until
"""
JUDGE: Final = """
UPDATE assignments
SET state = :after, verdict = :verdict, credit = :credit, ripe_at = :ripe_at,
    reason = :reason, verdict_sent = 0
WHERE id = :assignment AND state = :before
"""
SET_NORM: Final = "UPDATE assignments SET norm = :norm WHERE id = :assignment"
NORMS: Final = """
SELECT a.norm FROM units u JOIN assignments a ON a.id = u.canonical
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND u.state IN ('valid', 'applied') AND a.norm IS NOT NULL
"""
CANCEL_UNSENT: Final = """
UPDATE assignments SET state = :after
WHERE unit = :unit AND state = 'unsent' AND purpose = :purpose
"""
CANCEL_UNSENT_BEFORE: Final = """
UPDATE assignments SET state = :after
WHERE project = :project AND (epoch, version) < (:epoch, :version) AND state = 'unsent'
"""
ANY_UNSENT_BEFORE: Final = """
SELECT 1 FROM assignments
WHERE project = :project AND (epoch, version) < (:epoch, :version) AND state = 'unsent' LIMIT 1
"""
EXPIRED: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments
WHERE state IN ('leased', 'uploading') AND lease_until <= :now
ORDER BY lease_until LIMIT :limit
"""
END_LEASES: Final = """
UPDATE assignments SET lease_until = :now
WHERE host = :host AND state IN ('leased', 'uploading') AND lease_until > :now
"""
NEXT_LEASE_END: Final = """
SELECT min(lease_until) FROM assignments WHERE state IN ('leased', 'uploading')
"""
IN_FLIGHT: Final = """
SELECT count(*) FROM assignments
WHERE state IN ('leased', 'uploading') AND project = :project
"""
UNSENT_VERDICTS: Final = f"""
SELECT {_ASSIGNMENT} FROM assignments
WHERE host = :host AND verdict IS NOT NULL AND verdict_sent = 0 ORDER BY id LIMIT :limit
"""
MARK_VERDICT_SENT: Final = "UPDATE assignments SET verdict_sent = 1 WHERE id = :assignment"
UNRIPE_CREDIT: Final = """
SELECT coalesce(sum(credit), 0.0) FROM assignments
WHERE host = :host AND ripe_at > :now AND ripe_at IS NOT NULL
"""
TAKE_BACK: Final = """
UPDATE assignments SET credit = 0
WHERE host = :host AND ripe_at > :now AND ripe_at IS NOT NULL
"""
PUT_DELTA: Final = (
    _insert("deltas", StoredDelta)
    + " ON CONFLICT (assignment) DO UPDATE SET size = excluded.size, data = excluded.data"
)
GET_DELTA: Final = f"SELECT {_columns(StoredDelta)} FROM deltas WHERE assignment = :assignment"
REMOVE_DELTA: Final = "DELETE FROM deltas WHERE assignment = :assignment"
WITH_DELTA: Final = """
SELECT a.id FROM assignments a JOIN deltas d ON d.assignment = a.id
WHERE a.unit = :unit AND a.digest = :digest AND a.state <> 'invalid' LIMIT 1
"""

# From where hosts got their blobs

ADD_RECEIVED: Final = """
INSERT INTO received (project, source, bytes) VALUES (:project, :source, :bytes)
ON CONFLICT (project, source) DO UPDATE SET bytes = received.bytes + excluded.bytes
"""
SHARDS_GIVEN: Final = """
SELECT DISTINCT u.shard_first, u.shard_count, a.host
FROM units u JOIN assignments a ON a.unit = u.id JOIN hosts h ON h.id = a.host
WHERE u.project = :project AND u.epoch = :epoch AND u.version >= :since AND u.kind = 'train'
      AND h.last_seen >= :seen
LIMIT :most
"""
RECEIVED: Final = "SELECT source, bytes FROM received WHERE project = :project"

# Shares

TAKEN: Final = f"SELECT taken FROM shares WHERE {_OF_VERSION} AND holder = :holder"
ADD_SHARE: Final = """
INSERT INTO shares (project, epoch, version, holder, taken)
VALUES (:project, :epoch, :version, :holder, CASE WHEN :change > 0 THEN :change ELSE 0 END)
ON CONFLICT (project, epoch, version, holder) DO UPDATE SET
    taken = CASE WHEN shares.taken + :change > 0 THEN shares.taken + :change ELSE 0 END
"""

# Hosts

# At most so many independent voices (core.voices): the fewest of accounts, teams and networks. One
# of the operator's own networks, or an unknown one, tells nobody apart, so accounts count there.
_BY_TEAM: Final = "count(DISTINCT CASE h.team WHEN '' THEN h.account ELSE h.team END)"
_BY_NETWORK: Final = """count(DISTINCT CASE
    WHEN h.network = '' OR h.network LIKE 'own:%' THEN h.account ELSE h.network END)"""
_VOICES: Final = f"CASE WHEN {_BY_TEAM} < {_BY_NETWORK} THEN {_BY_TEAM} ELSE {_BY_NETWORK} END"

FIND_HOST: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND fingerprint = :fingerprint
"""
FIND_HOST_OF: Final = f"""
SELECT {_HOST} FROM hosts
WHERE project = (SELECT id FROM projects WHERE name = :name) AND fingerprint = :fingerprint
"""
GET_HOST: Final = f"SELECT {_HOST} FROM hosts WHERE id = :host"
# Those that share on the internet: some are banned or gone since they were seen.
SHARING_HOSTS: Final = f"""
SELECT id, shards FROM hosts WHERE banned_until <= :now
  AND id IN ({", ".join(f":host{number}" for number in range(MOST_CANDIDATES))})
"""
# A host that had the unit twice comes twice: sorting rows takes longer than reading them again.
HOSTS_OF_UNIT: Final = f"""
SELECT {_columns(Host, "h.")} FROM assignments a JOIN hosts h ON h.id = a.host
WHERE a.unit = :unit ORDER BY a.id
"""
NETWORKS_OF_UNIT: Final = """
SELECT n.host, n.network FROM assignments a JOIN host_networks n ON n.host = a.host
WHERE a.unit = :unit AND n.seen_at > :since
"""
FIRST_CLASS: Final = """
SELECT h.determinism_class FROM assignments a JOIN hosts h ON h.id = a.host
WHERE a.unit = :unit ORDER BY a.id LIMIT 1
"""
HOSTS: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project ORDER BY last_seen DESC LIMIT :limit
"""
HOSTS_OF_ACCOUNT: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND account = :account
"""
MANY_HOSTS: Final = "SELECT 1 FROM hosts WHERE project = :project LIMIT 1 OFFSET :number"
COUNT_HOSTS: Final = "SELECT count(*) FROM hosts WHERE project = :project"
HOSTS_BY_FINGERPRINT: Final = f"""
SELECT {_HOST} FROM hosts
WHERE project = :project AND fingerprint >= :first AND fingerprint < :after LIMIT :limit
"""
HOSTS_BY_NAME: Final = f"""
SELECT {_HOST} FROM hosts WHERE project = :project AND display_name = :name LIMIT :limit
"""
ENROL: Final = f"""
INSERT INTO hosts (project, fingerprint, key, account, role, network, display_name, agent,
                   enrolled_at, last_seen, team, proven, invite, enrolled_from)
VALUES (:project, :fingerprint, :key, :account, :role, :network, :display_name, :agent,
        :now, :now,
        coalesce((SELECT max(team) FROM (
            SELECT team FROM hosts WHERE project = :project AND account = :account
            UNION ALL SELECT team FROM departed WHERE project = :project AND account = :account
        ) known), ''),
        :proven, :invite, :network)
ON CONFLICT (project, fingerprint) DO UPDATE SET
    network = excluded.network, agent = excluded.agent,
    proven = CASE WHEN excluded.proven = 1 AND excluded.invite <> '' THEN 1 ELSE hosts.proven END,
    invite = CASE excluded.invite WHEN '' THEN hosts.invite ELSE excluded.invite END,
    display_name = CASE excluded.display_name WHEN '' THEN hosts.display_name
                   ELSE excluded.display_name END,
    role = CASE excluded.role WHEN 'host' THEN hosts.role ELSE excluded.role END
RETURNING {_HOST}
"""
SAW: Final = """
UPDATE hosts
SET sequence = :sequence, request_digest = :request_digest, network = :network,
    agent = :agent, refuses = :refuses, memory_bytes = :memory_bytes, last_seen = :at,
    last_asked = CASE WHEN :asked = 1 THEN :at ELSE last_asked END,
    shards = coalesce(:shards, shards),
    paced_until = coalesce(:paced_until, paced_until)
WHERE id = :host
"""
SET_TEAM: Final = tuple(
    f"UPDATE {table} SET team = :team WHERE project = :project AND account = :account"
    for table in ("hosts", "departed")
)
NOTE_NETWORK: Final = """
INSERT INTO host_networks (host, network, seen_at) VALUES (:host, :network, :at)
ON CONFLICT (host, network) DO UPDATE SET seen_at = excluded.seen_at
"""
KEEP_NETWORKS: Final = """
DELETE FROM host_networks WHERE host = :host AND network NOT IN (
    SELECT network FROM host_networks WHERE host = :host
    ORDER BY seen_at DESC, network LIMIT :kept
)
"""
NETWORKS: Final = "SELECT network FROM host_networks WHERE host = :host AND seen_at > :since"
NETWORK_NAMES: Final = "SELECT DISTINCT network FROM host_networks"
FORGET_NETWORK: Final = "DELETE FROM host_networks WHERE network = :network"
FORGET_NETWORK_OF_HOSTS: Final = "UPDATE hosts SET network = '' WHERE network = :network"
NTH_NEWCOMER: Final = """
SELECT enrolled_at FROM hosts WHERE project = :project AND enrolled_from = :network
ORDER BY enrolled_at DESC LIMIT 1 OFFSET :before
"""
UNPROVEN_FROM: Final = """
SELECT count(*) FROM hosts
WHERE project = :project AND enrolled_from = :network AND last_seen > :since AND role = 'host'
  AND proven = 0
"""
PUT_REPLY: Final = """
INSERT INTO replies (host, reply) VALUES (:host, :reply)
ON CONFLICT (host) DO UPDATE SET reply = excluded.reply
"""
GET_REPLY: Final = "SELECT reply FROM replies WHERE host = :host"
SET_RUNTIME: Final = """
UPDATE hosts SET runtime = :runtime, determinism_class = :determinism_class WHERE id = :host
"""
SET_SPEED: Final = "UPDATE hosts SET seconds_per_step = :seconds_per_step WHERE id = :host"
SET_UPLOAD_SPEED: Final = "UPDATE hosts SET upload_bytes_per_second = :speed WHERE id = :host"
SET_STANDING: Final = """
UPDATE hosts
SET record = :record, proven = :proven, suspended_by = :suspended_by, recent = :recent,
    setbacks = :setbacks, refused = :refused, bans = :bans, banned_until = :banned_until,
    ban_reason = :ban_reason, credit = :credit, units_valid = :units_valid
WHERE id = :host
"""
SET_FASTEST: Final = "UPDATE hosts SET fastest_step_seconds = :seconds WHERE id = :host"
PROVEN_HOSTS: Final = "SELECT id FROM hosts WHERE project = :project AND proven = 1"
COUNT_FLEET: Final = f"""
SELECT {_VOICES}, count(CASE WHEN h.proven = 1 THEN 1 END),
       count(CASE WHEN h.proven = 0 THEN 1 END), count(h.seconds_per_step)
FROM hosts h
WHERE project = :project AND last_asked > :since AND banned_until <= :since AND role = 'host'
"""
MEDIAN_STEP_SECONDS: Final = """
SELECT seconds_per_step FROM hosts
WHERE project = :project AND last_asked > :since AND banned_until <= :since AND role = 'host'
  AND seconds_per_step IS NOT NULL
ORDER BY seconds_per_step LIMIT 1 OFFSET :place
"""
COUNT_TRUSTED: Final = """
SELECT count(*) FROM hosts WHERE project = :project AND role <> 'host' AND last_seen > :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""
TRUSTED_MEMORY: Final = """
SELECT max(COALESCE(memory_bytes, :any_memory)) FROM hosts
WHERE project = :project AND role <> 'host' AND last_seen > :since
"""
TRUSTED_ASKING: Final = """
SELECT count(*), min(seconds_per_step) FROM hosts
WHERE project = :project AND role <> 'host' AND last_asked > :since
  AND (memory_bytes IS NULL OR memory_bytes >= :memory_bytes)
"""
# What hosts have done that are here, or were.
_EVER: Final = """(
    SELECT account, display_name, team, 1 AS hosts, units_valid, refused, bans, credit
    FROM hosts WHERE project = :project
    UNION ALL
    SELECT account, display_name, team, 0, units_valid, refused, bans, credit
    FROM departed WHERE project = :project
)"""
FLEET: Final = f"""
SELECT coalesce(sum(hosts), 0), count(DISTINCT CASE hosts WHEN 1 THEN account END),
       coalesce(sum(units_valid), 0), coalesce(sum(refused), 0), coalesce(sum(bans), 0),
       coalesce(sum(credit), 0.0)
FROM {_EVER} e
"""
PUT_FLEET_VIEW: Final = """
INSERT INTO fleet_views (project, at, totals, contributors)
VALUES (:project, :at, :totals, :contributors)
ON CONFLICT (project) DO UPDATE SET
    at = excluded.at, totals = excluded.totals, contributors = excluded.contributors
"""
GET_FLEET_VIEW: Final = "SELECT at, totals, contributors FROM fleet_views WHERE project = :project"
CONTRIBUTORS: Final = f"""
SELECT account, max(display_name), sum(hosts), sum(units_valid), sum(credit), max(team)
FROM {_EVER} e GROUP BY account
ORDER BY sum(credit) DESC, sum(units_valid) DESC, account LIMIT :limit
"""
ACCOUNTS: Final = f"""
SELECT account, max(display_name), max(team), sum(hosts), sum(units_valid),
       sum(refused + bans * :ban_after), sum(credit)
FROM {_EVER} e GROUP BY account
ORDER BY sum(credit) DESC, sum(units_valid) DESC, account LIMIT :limit
"""
TEAMS: Final = f"""
SELECT team, count(DISTINCT account), sum(hosts), sum(units_valid),
       sum(refused + bans * :ban_after), sum(credit)
FROM {_EVER} e WHERE team <> '' GROUP BY team
ORDER BY sum(credit) DESC, sum(units_valid) DESC, team LIMIT :limit
"""

# Moving: what one coordinator tells the next one of hosts

FLEET_RECORDS: Final = """
SELECT key, account, display_name, team, credit, units_valid,
       CASE WHEN suspended_by IS NULL THEN record ELSE 0 END, refused, bans, banned_until,
       ban_reason, last_seen
FROM hosts WHERE project = :project
UNION ALL
SELECT NULL, account, display_name, team, credit, units_valid, 0, refused, bans, 0.0, NULL, 0.0
FROM departed WHERE project = :project
"""
ADOPT_HOST: Final = f"""
INSERT INTO hosts (role, {_columns(Adopted)}) VALUES ('host', {_columns(Adopted, ":")})
ON CONFLICT (project, fingerprint) DO UPDATE SET
    display_name = CASE hosts.display_name WHEN '' THEN excluded.display_name
                   ELSE hosts.display_name END,
    team = CASE hosts.team WHEN '' THEN excluded.team ELSE hosts.team END,
    record = CASE WHEN hosts.record < excluded.record THEN excluded.record ELSE hosts.record END,
    refused = hosts.refused + excluded.refused,
    bans = hosts.bans + excluded.bans,
    ban_reason = CASE WHEN hosts.banned_until < excluded.banned_until THEN excluded.ban_reason
                 ELSE hosts.ban_reason END,
    banned_until = CASE WHEN hosts.banned_until < excluded.banned_until THEN excluded.banned_until
                   ELSE hosts.banned_until END,
    credit = hosts.credit + excluded.credit,
    units_valid = hosts.units_valid + excluded.units_valid
"""
ADOPT_ACCOUNT: Final = """
INSERT INTO departed (project, account, display_name, team, units_valid, refused, bans, credit)
VALUES (:project, :account, :display_name, :team, :units_valid, :refused, :bans, :credit)
ON CONFLICT (project, account) DO UPDATE SET
    units_valid = departed.units_valid + excluded.units_valid,
    refused = departed.refused + excluded.refused,
    bans = departed.bans + excluded.bans,
    credit = departed.credit + excluded.credit
"""

# Convictions, alarm

ADD_CONVICTION: Final = _insert("convictions", Conviction) + " ON CONFLICT (unit, host) DO NOTHING"
CONVICTED_FOR: Final = "SELECT host FROM convictions WHERE unit = :unit"
TAKE_CONVICTION: Final = f"""
DELETE FROM convictions WHERE unit = :unit AND host = :host RETURNING {_columns(Conviction)}
"""
GET_ALARM: Final = f"SELECT {_columns(Alarm)} FROM alarms WHERE project = :project"
PUT_ALARM: Final = (
    _insert("alarms", Alarm)
    + """
ON CONFLICT (project) DO UPDATE SET
    audit_floor = excluded.audit_floor, audit_record = excluded.audit_record,
    raised_at = excluded.raised_at, counted = excluded.counted, surge_until = excluded.surge_until,
    spot_checks = excluded.spot_checks, lies = excluded.lies
"""
)

# Calibrations

CLASS_OF: Final = "SELECT digest FROM calibrations WHERE host = :host AND runtime = :runtime"
RUNTIMES_SINCE: Final = "SELECT count(*) FROM calibrations WHERE host = :host AND made_at > :since"
ADD_CALIBRATION: Final = """
INSERT INTO calibrations (host, runtime, project, account, trusted, digest, seconds_per_step,
                          made_at)
VALUES (:host, :runtime, :project, :account, :trusted, :digest, :seconds_per_step, :now)
ON CONFLICT (host, runtime) DO UPDATE SET
    project = excluded.project, account = excluded.account, trusted = excluded.trusted,
    digest = excluded.digest, seconds_per_step = excluded.seconds_per_step,
    made_at = excluded.made_at
"""
COUNT_CLASS: Final = f"""
UPDATE classes SET
    accounts = (SELECT {_VOICES} FROM calibrations c JOIN hosts h ON h.id = c.host
                WHERE c.project = :project AND c.digest = :digest),
    trusted = (SELECT coalesce(max(c.trusted), 0) FROM calibrations c
               WHERE c.project = :project AND c.digest = :digest)
WHERE project = :project AND digest = :digest
"""
ADD_CLASS: Final = """
INSERT INTO classes (project, digest, assignment, first_at)
VALUES (:project, :digest, :assignment, :now)
ON CONFLICT (project, digest) DO NOTHING
"""
FIND_CLASS: Final = f"SELECT {_CLASS} FROM classes WHERE project = :project AND digest = :digest"
CLASSES: Final = f"SELECT {_CLASS} FROM classes WHERE project = :project ORDER BY first_at, digest"
SET_MEASURED: Final = """
UPDATE classes SET measured = :measured WHERE project = :project AND digest = :digest
"""
SET_ISOLATED: Final = """
UPDATE classes SET isolated = :isolated WHERE project = :project AND digest = :digest
"""
PUT_DISTANCE: Final = """
INSERT INTO class_distances (project, first, second, distance)
VALUES (:project, :first, :second, :distance)
ON CONFLICT (project, first, second) DO UPDATE SET distance = excluded.distance
"""
DISTANCES: Final = "SELECT first, second, distance FROM class_distances WHERE project = :project"

# What results are compared with

ADD_TRAITS: Final = f"""
INSERT INTO traits (project, epoch, assignment, {_columns(Traits)})
VALUES (:project, :epoch, :assignment, {_columns(Traits, ":")})
ON CONFLICT (assignment) DO NOTHING
"""
FORGET_TRAITS: Final = """
DELETE FROM traits WHERE project = :project AND seq <= (
    SELECT seq FROM traits WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_TRAITS: Final = f"""
SELECT {_columns(Traits)} FROM traits
WHERE project = :project AND epoch = :epoch ORDER BY seq DESC LIMIT :limit
"""
ADD_LIE: Final = f"""
INSERT INTO lies (project, epoch, {_columns(Lie)})
VALUES (:project, :epoch, {_columns(Lie, ":")})
"""
FORGET_LIES: Final = """
DELETE FROM lies WHERE project = :project AND seq <= (
    SELECT seq FROM lies WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_LIES: Final = f"""
SELECT {_columns(Lie)} FROM lies
WHERE project = :project AND epoch = :epoch AND version >= :since ORDER BY seq DESC
"""
ADD_PAIR: Final = f"""
INSERT INTO pairs (project, epoch, {_columns(ConfirmedPair)})
VALUES (:project, :epoch, {_columns(ConfirmedPair, ":")})
"""
FORGET_PAIRS: Final = """
DELETE FROM pairs WHERE project = :project AND seq <= (
    SELECT seq FROM pairs WHERE project = :project ORDER BY seq DESC LIMIT 1 OFFSET :keep
)
"""
RECENT_PAIRS: Final = f"""
SELECT {_columns(ConfirmedPair)} FROM pairs
WHERE project = :project AND epoch = :epoch ORDER BY seq DESC
"""

# Uploads, invites, events

ADD_UPLOAD: Final = _insert("uploads", Upload)
GET_UPLOAD: Final = f"SELECT {_UPLOAD} FROM uploads WHERE token = :token"
UPLOAD_OF_ASSIGNMENT: Final = f"""
SELECT {_UPLOAD} FROM uploads WHERE assignment = :assignment AND complete = 0
"""
OPEN_BLOB: Final = f"""
SELECT {_UPLOAD} FROM uploads
WHERE digest = :digest AND project = :project AND assignment IS NULL AND complete = 0
"""
COMPLETE_UPLOAD: Final = "UPDATE uploads SET complete = 1 WHERE token = :token AND complete = 0"
LAND_UPLOAD: Final = """
UPDATE uploads SET landed_at = :now, check_at = :now, expires_at = :until
WHERE token = :token AND complete = 0 AND landed_at IS NULL
"""
UPLOADS_TO_CHECK: Final = f"""
SELECT {_UPLOAD} FROM uploads
WHERE project = :project AND complete = 0 AND check_at IS NOT NULL AND check_at <= :now
ORDER BY check_at LIMIT :limit
"""
ANY_LANDED_UPLOAD: Final = """
SELECT 1 FROM uploads WHERE project = :project AND complete = 0 AND check_at IS NOT NULL LIMIT 1
"""
CHECK_UPLOAD_AT: Final = """
UPDATE uploads SET check_at = :at WHERE token = :token AND complete = 0
"""
TAKE_EXPIRED_UPLOADS: Final = """
DELETE FROM uploads WHERE token IN (
    SELECT token FROM uploads WHERE complete = 0 AND expires_at <= :now LIMIT :limit
) RETURNING token, assignment
"""
ANY_EXPIRED_UPLOAD: Final = """
SELECT 1 FROM uploads WHERE complete = 0 AND expires_at <= :now LIMIT 1
"""
REMOVE_UPLOAD: Final = "DELETE FROM uploads WHERE token = :token"

# Background work

TAKE_CLAIM: Final = """
INSERT INTO claims (job, key, holder, expires_at) VALUES (:job, :key, :holder, :until)
ON CONFLICT (job, key) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE claims.expires_at <= :now OR claims.expires_at > :until
"""
# Claims exist only for work that is under way, so this reads a few rows without an index.
LIVE_CLAIMS: Final = """
SELECT job, key FROM claims WHERE expires_at > :now AND expires_at <= :latest
"""
CLAIMS_HELD: Final = "SELECT 1 FROM claims WHERE holder = :holder LIMIT 1"
RELEASE_CLAIM: Final = "DELETE FROM claims WHERE job = :job AND key = :key AND holder = :holder"
FORGET_CLAIMS: Final = "DELETE FROM claims"
RELEASE_CLAIMS: Final = "DELETE FROM claims WHERE holder = :holder"

ADD_TOMBSTONE: Final = """
INSERT INTO tombstones (kind, name, due_at) VALUES (:kind, :name, :due_at)
ON CONFLICT (kind, name) DO NOTHING
"""
REVIVE: Final = "DELETE FROM tombstones WHERE kind = :kind AND name = :name AND condemned = 0"
GET_TOMBSTONE: Final = f"SELECT {_TOMBSTONE} FROM tombstones WHERE kind = :kind AND name = :name"
COUNT_TOMBSTONES: Final = "SELECT count(*) FROM tombstones"
TOMBSTONES: Final = f"SELECT {_TOMBSTONE} FROM tombstones WHERE kind = :kind"
DUE_TOMBSTONES: Final = f"""
SELECT {_TOMBSTONE} FROM tombstones
WHERE condemned = 0 AND due_at <= :now ORDER BY due_at LIMIT :limit
"""
CONDEMN: Final = "UPDATE tombstones SET condemned = 1 WHERE kind = :kind AND name = :name"
CONDEMNED: Final = f"SELECT {_TOMBSTONE} FROM tombstones WHERE condemned = 1 LIMIT :limit"
REMOVE_TOMBSTONE: Final = "DELETE FROM tombstones WHERE kind = :kind AND name = :name"

UNSENT_SINCE: Final = """
SELECT for_host FROM assignments
WHERE state = 'unsent' AND project = :project AND created_at > :since
"""

# Invites and events

ADD_INVITE: Final = _insert("invites", Invite)
FIND_INVITE: Final = f"SELECT {_INVITE} FROM invites WHERE token_hash = :token_hash"
USE_INVITE: Final = """
UPDATE invites SET used_at = :now, used = used + 1
WHERE token_hash = :token_hash AND used < uses AND revoked = 0
"""
REVOKE_INVITE: Final = """
UPDATE invites SET revoked = 1 WHERE token_hash = :token_hash AND used < uses
"""
INVITES: Final = f"SELECT {_INVITE} FROM invites ORDER BY created_at DESC"

# Admins, and their browsers

PUT_ADMIN: Final = f"""
{_insert("admins", Admin)}
ON CONFLICT (name) DO UPDATE SET role = excluded.role, projects = excluded.projects,
    code_hash = excluded.code_hash,
    code_expires_at = excluded.code_expires_at, key = excluded.key,
    created_at = excluded.created_at, last_seen = excluded.last_seen,
    sequence = excluded.sequence, revoked = excluded.revoked
"""
FIND_ADMIN: Final = f"SELECT {_columns(Admin)} FROM admins WHERE name = :name"
ADMINS: Final = f"SELECT {_columns(Admin)} FROM admins ORDER BY name"
HAS_ADMIN_CODE: Final = "SELECT 1 FROM admins WHERE code_hash = :code_hash"
JOIN_ADMIN: Final = f"""
UPDATE admins SET key = :key, last_seen = :now
WHERE code_hash = :code_hash AND key = '' AND revoked = 0 AND code_expires_at > :now
RETURNING {_columns(Admin)}
"""
SAW_ADMIN: Final = """
UPDATE admins SET sequence = :sequence, last_seen = :now
WHERE name = :name AND key = :key AND revoked = 0 AND sequence < :sequence
"""
REVOKE_ADMIN: Final = "UPDATE admins SET revoked = 1 WHERE name = :name AND revoked = 0"
ADD_ADMIN_SESSION: Final = _insert("admin_sessions", AdminSession)
FIND_ADMIN_SESSION: Final = f"""
SELECT {_columns(AdminSession)} FROM admin_sessions WHERE token_hash = :token_hash
"""
END_ADMIN_SESSION: Final = "DELETE FROM admin_sessions WHERE token_hash = :token_hash"
END_ADMIN_SESSIONS: Final = "DELETE FROM admin_sessions WHERE admin = :admin"
FORGET_ADMIN_SESSIONS: Final = "DELETE FROM admin_sessions WHERE expires_at < :now"

ADD_EVENT: Final = """
INSERT INTO events (project, at, kind, unit, host, detail)
VALUES (:project, :at, :kind, :unit, :host, :detail)
"""
EVENTS_AFTER: Final = f"""
SELECT {_EVENT} FROM events WHERE project = :project AND seq > :seq ORDER BY seq LIMIT :limit
"""
LAST_EVENTS: Final = f"""
SELECT {_EVENT} FROM events WHERE project = :project ORDER BY seq DESC LIMIT :limit
"""
CASES_OF_HOST: Final = f"""
SELECT {_EVENT} FROM (
    SELECT {_EVENT} FROM events WHERE project = :project ORDER BY seq DESC LIMIT :limit
) e
WHERE host = :host
  AND kind IN ('proven', 'doubted', 'suspended', 'pardoned', 'convicted', 'banned')
ORDER BY seq
"""
EVENTS_OF_UNIT: Final = f"SELECT {_EVENT} FROM events WHERE unit = :unit ORDER BY seq"

ADD_AUDIT: Final = """
INSERT INTO audit (at, who, command, project, arguments)
VALUES (:at, :who, :command, :project, :arguments)
"""
LAST_AUDIT: Final = f"""
SELECT {_columns(AuditEntry)} FROM audit
WHERE :project = '' OR project = :project ORDER BY seq DESC LIMIT :limit
"""
FORGET_AUDIT: Final = """
DELETE FROM audit WHERE seq IN (
    SELECT seq FROM (SELECT seq, at FROM audit ORDER BY seq LIMIT :limit) a WHERE at < :before
)
"""
ANY_OLD_AUDIT: Final = """
SELECT 1 FROM (SELECT at FROM audit ORDER BY seq LIMIT 1) a WHERE at < :before
"""

# What an operator looks at

EVENT_COUNTS: Final = """
SELECT kind, count(*) FROM (
    SELECT kind, at FROM events WHERE project = :project ORDER BY seq DESC LIMIT :limit
) newest WHERE at >= :since GROUP BY kind ORDER BY kind
"""
VERSIONS_SINCE: Final = """
SELECT count(*), COALESCE(sum(results), 0) FROM versions
WHERE project = :project AND epoch = :epoch AND made_at >= :since AND number > 0
"""
HOSTS_BY_CLASS: Final = """
SELECT determinism_class, count(*),
    sum(CASE WHEN last_seen >= :active_since THEN 1 ELSE 0 END),
    sum(CASE WHEN role <> 'host' THEN 1 ELSE 0 END),
    sum(CASE WHEN proven = 1 THEN 1 ELSE 0 END),
    sum(CASE WHEN suspended_by IS NOT NULL THEN 1 ELSE 0 END),
    sum(CASE WHEN refused + bans > 0 THEN 1 ELSE 0 END),
    sum(CASE WHEN banned_until > :now THEN 1 ELSE 0 END)
FROM hosts WHERE project = :project GROUP BY determinism_class ORDER BY 2 DESC, 1 LIMIT 50
"""
HOSTS_BY_NETWORK: Final = """
SELECT network, count(*), count(DISTINCT account),
    sum(CASE WHEN proven = 1 THEN 1 ELSE 0 END),
    sum(CASE WHEN refused + bans > 0 THEN 1 ELSE 0 END),
    sum(CASE WHEN banned_until > :now THEN 1 ELSE 0 END)
FROM hosts WHERE project = :project AND role = 'host' AND network <> ''
GROUP BY network HAVING count(DISTINCT account) >= :least
ORDER BY 5 DESC, 3 DESC, 1 LIMIT :limit
"""
REFUSING_HOSTS: Final = """
SELECT refuses, count(*) FROM hosts
WHERE project = :project AND last_seen >= :since AND refuses <> ''
GROUP BY refuses ORDER BY 2 DESC, 1 LIMIT :limit
"""

# Removing a whole project, a batch of a table's rows at a time; the tables at the end at once

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

# Whether results of a host may still be compared with others

UNSETTLED_OF_HOST: Final = """
SELECT 1 FROM assignments
WHERE host = :host AND (
    state IN ('leased', 'uploading', 'reported')
    OR (epoch = :epoch AND version >= :version AND state NOT IN ('expired', 'cancelled', 'failed'))
) LIMIT 1
"""

# Retention: rows that are not needed any more, a batch at a time

# Numbers grow with time, so the oldest events are the first ones.
OLD_EVENTS: Final = """
SELECT seq FROM (SELECT seq, at FROM events ORDER BY seq LIMIT :limit) e WHERE at < :before
"""
REMOVE_EVENT: Final = "DELETE FROM events WHERE seq = :seq"
UNRETIRED: Final = f"""
SELECT {_ROUND} FROM rounds
WHERE project = :project AND swept_at IS NOT NULL AND retired_at IS NULL AND closed_at < :before
ORDER BY epoch, version LIMIT :limit
"""
ROUNDS_OF_SUSPENSIONS: Final = """
SELECT DISTINCT u.epoch, u.version FROM hosts h JOIN units u ON u.id = h.suspended_by
WHERE h.project = :project AND h.suspended_by IS NOT NULL
"""
REMOVE_CONVICTIONS: Final = f"""
DELETE FROM convictions WHERE unit IN (SELECT id FROM units WHERE {_OF_VERSION})
"""
SPENT_ROUNDS: Final = f"""
SELECT {_columns(Round, "r.")} FROM rounds r
LEFT JOIN versions v ON v.project = r.project AND v.epoch = r.epoch AND v.number = r.version + 1
WHERE r.project = :project AND r.retired_at IS NOT NULL AND (v.kept IS NULL OR v.kept <> 'exact')
ORDER BY r.epoch, r.version LIMIT :limit
"""
SET_RETIRED: Final = f"UPDATE rounds SET retired_at = :now WHERE {_OF_VERSION}"
REMOVE_SHARES: Final = f"DELETE FROM shares WHERE {_OF_VERSION}"
# All but what the log of versions and evaluations refers to.
COPIES_OF_ROUND: Final = """
SELECT a.id FROM units u JOIN assignments a ON a.unit = u.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version
  AND u.kind <> 'calibrate' AND (u.canonical IS NULL OR a.id <> u.canonical)
  AND a.state NOT IN ('unsent', 'leased', 'uploading', 'reported')
LIMIT :limit
"""
OLD_CALIBRATIONS: Final = """
SELECT a.id FROM units u JOIN assignments a ON a.unit = u.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = 0 AND u.kind = 'calibrate'
  AND a.created_at < :before
  AND a.state NOT IN ('unsent', 'leased', 'uploading', 'reported')
  AND NOT EXISTS (
    SELECT 1 FROM classes c WHERE c.project = :project AND c.assignment = a.id
  )
LIMIT :limit
"""
REMOVE_TRAITS: Final = "DELETE FROM traits WHERE assignment = :assignment"
REMOVE_ASSIGNMENT: Final = "DELETE FROM assignments WHERE id = :assignment"
# All that is left of a round that was retired; a calibration is not of a round.
ASSIGNMENTS_OF_ROUND: Final = """
SELECT a.id FROM units u JOIN assignments a ON a.unit = u.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version
  AND u.kind <> 'calibrate'
"""
REMOVE_UNITS_OF_ROUND: Final = f"DELETE FROM units WHERE {_OF_VERSION} AND kind <> 'calibrate'"
REMOVE_ROUND: Final = f"DELETE FROM rounds WHERE {_OF_VERSION}"
OPENED_AT: Final = f"SELECT opened_at FROM rounds WHERE {_OF_VERSION}"
# One that has done nothing goes sooner than one that has a record, good or bad.
ABSENT_HOSTS: Final = """
SELECT id FROM hosts
WHERE project = :project AND role = 'host' AND last_seen < :settled AND banned_until < :now
  AND suspended_by IS NULL
  AND (last_seen < :before
       OR (last_seen < :new_before AND units_valid = 0 AND refused = 0 AND bans = 0))
LIMIT :limit
"""
KEEP_CREDIT: Final = """
INSERT INTO departed (project, account, display_name, team, units_valid, refused, bans, credit)
SELECT project, account, display_name, team, units_valid, refused, bans, credit FROM hosts
WHERE id = :host AND (team <> '' OR units_valid > 0 OR refused > 0 OR bans > 0)
ON CONFLICT (project, account) DO UPDATE SET
    display_name = CASE excluded.display_name WHEN '' THEN departed.display_name
                   ELSE excluded.display_name END,
    team = excluded.team,
    units_valid = departed.units_valid + excluded.units_valid,
    refused = departed.refused + excluded.refused,
    bans = departed.bans + excluded.bans,
    credit = departed.credit + excluded.credit
"""
REMOVE_HOST: Final = tuple(
    f"DELETE FROM {table} WHERE {column} = :host"
    for table, column in (
        ("replies", "host"),
        ("host_networks", "host"),
        ("calibrations", "host"),
        ("hosts", "id"),
    )
)
OLD_RUNTIMES: Final = """
SELECT c.host, c.runtime FROM calibrations c JOIN hosts h ON h.id = c.host
WHERE c.project = :project AND c.made_at < :before AND c.runtime <> h.runtime LIMIT :limit
"""
REMOVE_RUNTIME: Final = "DELETE FROM calibrations WHERE host = :host AND runtime = :runtime"
CLASSES_OF_HOST: Final = "SELECT DISTINCT digest FROM calibrations WHERE host = :host"
EMPTY_CLASSES: Final = f"""
SELECT {_columns(CalibrationClass, "k.")} FROM classes k
WHERE k.project = :project AND k.first_at < :before AND NOT EXISTS (
    SELECT 1 FROM calibrations c WHERE c.project = :project AND c.digest = k.digest
)
LIMIT :limit
"""
REMOVE_CLASS: Final = "DELETE FROM classes WHERE project = :project AND digest = :digest"
REMOVE_DISTANCES: Final = """
DELETE FROM class_distances
WHERE project = :project AND (first = :digest OR second = :digest)
"""
OLD_UPLOADS: Final = """
SELECT token FROM uploads WHERE complete = 1 AND expires_at < :before LIMIT :limit
"""
