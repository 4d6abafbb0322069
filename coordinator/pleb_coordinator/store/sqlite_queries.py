"""All SQL of the SQLite store, by name. `?` in the order of the calling method's arguments.

`SELECT *` gives the columns in the order of the schema, which is that of the records. What
runs for every request uses an index, however many finished rows there are: a test asks
SQLite's query planner.
"""

from __future__ import annotations

from typing import Final

# Projects, metadata, evaluations

_PROJECT: Final = """
SELECT p.id, p.name, p.root_key, p.state, p.epoch, p.version, p.metadata_number, p.tolerance,
       p.active_accounts, p.created_at, m.flops_per_step, m.train_shards, m.holdout_shards,
       m.holdout_examples, m.delta_bytes, m.calibration_bytes
FROM projects p JOIN metadata m ON m.project = p.id AND m.number = p.metadata_number
"""
FIND_PROJECT: Final = _PROJECT + " WHERE p.name = ?"
GET_PROJECT: Final = _PROJECT + " WHERE p.id = ?"
PROJECT_NAMES: Final = "SELECT name FROM projects WHERE metadata_number > 0 ORDER BY id"
ADD_PROJECT: Final = """
INSERT INTO projects (name, root_key, state, epoch, version, metadata_number, created_at)
VALUES (?, ?, 'active', ?, 0, 0, ?)
"""
SET_PROJECT_STATE: Final = "UPDATE projects SET state = ? WHERE id = ? AND state = ?"
ADVANCE_PROJECT: Final = """
UPDATE projects SET version = ? WHERE id = ? AND epoch = ? AND version = ?
"""
SET_TOLERANCE: Final = "UPDATE projects SET tolerance = ? WHERE id = ?"
SET_ACTIVE_ACCOUNTS: Final = "UPDATE projects SET active_accounts = ? WHERE id = ?"
ADD_METADATA: Final = "INSERT INTO metadata VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SET_METADATA: Final = "UPDATE projects SET metadata_number = ?, epoch = ? WHERE id = ?"
GET_ENVELOPE: Final = "SELECT envelope FROM metadata WHERE project = ? AND number = ?"
ADD_EVALUATION: Final = "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?)"
EVALUATIONS: Final = "SELECT * FROM evaluations WHERE project = ? AND epoch = ? ORDER BY version"

# Versions and rounds

GET_VERSION: Final = "SELECT * FROM versions WHERE project = ? AND epoch = ? AND number = ?"
ADD_VERSION: Final = """
INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, epoch, number) DO NOTHING
"""
HISTORY: Final = """
SELECT * FROM versions WHERE project = ? AND epoch = ? AND number > ? ORDER BY number LIMIT ?
"""
GET_ROUND: Final = "SELECT * FROM rounds WHERE project = ? AND epoch = ? AND version = ?"
ADD_ROUND: Final = """
INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, epoch, version) DO NOTHING
"""
COUNT_IN_ROUND: Final = """
UPDATE rounds SET open = open + ?, valid = valid + ?
WHERE project = ? AND epoch = ? AND version = ?
"""
SET_QUORUM_AT: Final = """
UPDATE rounds SET quorum_at = ? WHERE project = ? AND epoch = ? AND version = ?
"""
CLOSE_ROUND: Final = """
UPDATE rounds SET closed_at = ?
WHERE project = ? AND epoch = ? AND version = ? AND closed_at IS NULL
"""
UNSWEPT_BEFORE: Final = """
SELECT * FROM rounds
WHERE project = ? AND (epoch, version) < (?, ?) AND closed_at IS NOT NULL AND swept_at IS NULL
ORDER BY epoch, version LIMIT 1
"""
SET_SWEPT: Final = """
UPDATE rounds SET swept_at = ? WHERE project = ? AND epoch = ? AND version = ?
"""
FORGET_OUTER_STATE: Final = """
UPDATE versions SET outer_state = '' WHERE project = ? AND epoch = ? AND number = ?
"""

# Units

ADD_UNIT: Final = """
INSERT INTO units (project, epoch, version, kind, position, seed, shard_first, shard_count,
                   local_steps, state, planned_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)
"""
FIND_UNIT: Final = """
SELECT * FROM units
WHERE project = ? AND epoch = ? AND version = ? AND kind = ? AND position = ?
"""
GET_UNIT: Final = "SELECT * FROM units WHERE id = ?"
UNITS_OF_ROUND: Final = """
SELECT * FROM units WHERE project = ? AND epoch = ? AND version = ? AND kind = 'train'
ORDER BY position
"""
MOVE_UNIT: Final = """
UPDATE units SET state = ?, canonical = ?, decided_at = ? WHERE id = ? AND state = ?
"""
SET_CANONICAL: Final = "UPDATE units SET canonical = ? WHERE id = ?"
NEW_RESULT: Final = "UPDATE units SET revision = revision + 1, due = 1 WHERE id = ?"
LOOKED_AT: Final = "UPDATE units SET due = 0 WHERE id = ? AND revision = ? AND due = 1"
DUE_UNITS: Final = """
SELECT * FROM units
WHERE project = ? AND due = 1 AND kind = 'train' ORDER BY id LIMIT ?
"""
UNDECIDED_BEFORE: Final = """
SELECT * FROM units
WHERE project = ? AND (epoch, version) < (?, ?) AND state IN ('open', 'late')
  AND kind <> 'calibrate'
ORDER BY epoch, version LIMIT ?
"""

# Assignments

GET_ASSIGNMENT: Final = "SELECT * FROM assignments WHERE id = ?"
ASSIGNMENTS_OF_UNIT: Final = "SELECT * FROM assignments WHERE unit = ? ORDER BY id"
REPORTED: Final = """
SELECT * FROM assignments WHERE unit = ? AND state = 'reported' ORDER BY id
"""
UNJUDGED: Final = """
SELECT 1 FROM assignments
WHERE unit = ? AND host = ? AND state IN ('uploading', 'reported') LIMIT 1
"""
LEASES: Final = """
SELECT id, purpose FROM assignments
WHERE host = ? AND state IN ('leased', 'uploading') ORDER BY id
"""
IN_HAND: Final = """
SELECT a.*, u.* FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.host = ? AND a.state IN ('leased', 'uploading') AND a.state = 'leased' ORDER BY a.id
"""

_CANDIDATES: Final = """
SELECT a.*, u.* FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.state = 'unsent' AND a.project = ? AND a.purpose = ? AND a.trusted_only = ?
  AND a.trusted_from <= ? AND a.for_class IN ('', ?)
  AND NOT EXISTS (
    SELECT 1 FROM assignments o
    WHERE o.unit = a.unit AND o.state NOT IN ('expired', 'cancelled', 'unsent')
      AND NOT (o.state = 'failed' AND o.reported_at < ?)
"""
CANDIDATES_FOR_HOST: Final = (
    _CANDIDATES
    + """
      AND (o.account = ? OR o.host = ? OR (o.network = ? AND o.network <> ''))
  )
ORDER BY a.id LIMIT ?
"""
)
CANDIDATES_FOR_TRUSTED: Final = (
    _CANDIDATES
    + """
      AND o.host = ?
  )
ORDER BY a.id LIMIT ?
"""
)
ANY_UNSENT: Final = """
SELECT 1 FROM assignments WHERE project = ? AND purpose = ? AND state = 'unsent' LIMIT 1
"""
FIRST_ASSIGNMENTS: Final = """
INSERT INTO assignments (project, unit, epoch, version, purpose, state, trusted_only, created_at)
SELECT project, id, epoch, version, ?, 'unsent', ?, ? FROM units
WHERE project = ? AND epoch = ? AND version = ? AND kind = ? ORDER BY position
"""
ADD_ASSIGNMENT: Final = """
INSERT INTO assignments (project, unit, epoch, version, purpose, state, trusted_only,
                         trusted_from, for_class, created_at)
SELECT project, id, epoch, version, ?, 'unsent', ?, ?, ?, ? FROM units WHERE id = ?
"""
LEASE: Final = """
UPDATE assignments
SET state = 'leased', host = ?, account = ?, network = ?, nonce = ?, issued_at = ?,
    lease_until = ?
WHERE id = ? AND state = 'unsent'
"""
COMMIT_RESULT: Final = """
UPDATE assignments
SET state = ?, digest = ?, size = ?, loss_first = ?, loss_last = ?, compute_seconds = ?,
    reported_at = ?
WHERE id = ? AND state = ?
"""
MOVE_ASSIGNMENT: Final = "UPDATE assignments SET state = ? WHERE id = ? AND state = ?"
JUDGE: Final = """
UPDATE assignments SET state = ?, verdict = ?, credit = ?, ripe_at = ?, reason = ?, told = 0
WHERE id = ? AND state = ?
"""
SET_NORM: Final = "UPDATE assignments SET norm = ? WHERE id = ?"
NORMS: Final = """
SELECT a.norm FROM units u JOIN assignments a ON a.id = u.canonical
WHERE u.project = ? AND u.epoch = ? AND u.version = ? AND u.kind = 'train'
  AND u.state IN ('valid', 'applied') AND a.norm IS NOT NULL
"""
CANCEL_UNSENT: Final = """
UPDATE assignments SET state = 'cancelled' WHERE unit = ? AND state = 'unsent' AND purpose = ?
"""
CANCEL_UNSENT_BEFORE: Final = """
UPDATE assignments SET state = 'cancelled'
WHERE project = ? AND (epoch, version) < (?, ?) AND state = 'unsent'
"""
EXPIRED: Final = """
SELECT * FROM assignments WHERE state IN ('leased', 'uploading') AND lease_until <= ?
ORDER BY lease_until LIMIT ?
"""
END_LEASES: Final = """
UPDATE assignments SET lease_until = ?
WHERE host = ? AND state IN ('leased', 'uploading') AND lease_until > ?
"""
NEXT_LEASE_END: Final = """
SELECT min(lease_until) FROM assignments WHERE state IN ('leased', 'uploading')
"""
UNTOLD: Final = """
SELECT * FROM assignments WHERE host = ? AND verdict IS NOT NULL AND told = 0
ORDER BY id LIMIT ?
"""
TELL: Final = "UPDATE assignments SET told = 1 WHERE id = ?"
UNRIPE_CREDIT: Final = """
SELECT coalesce(sum(credit), 0.0) FROM assignments
WHERE host = ? AND ripe_at > ? AND ripe_at IS NOT NULL
"""
TAKE_BACK: Final = """
UPDATE assignments SET credit = 0 WHERE host = ? AND ripe_at > ? AND ripe_at IS NOT NULL
"""
PUT_DELTA: Final = "INSERT OR REPLACE INTO deltas VALUES (?, ?, ?)"
GET_DELTA: Final = "SELECT * FROM deltas WHERE assignment = ?"
REMOVE_DELTA: Final = "DELETE FROM deltas WHERE assignment = ?"
WITH_DELTA: Final = """
SELECT a.id FROM assignments a JOIN deltas d ON d.assignment = a.id
WHERE a.unit = ? AND a.digest = ? AND a.state <> 'invalid' LIMIT 1
"""

# Shares

TAKEN: Final = """
SELECT taken FROM shares WHERE project = ? AND epoch = ? AND version = ? AND holder = ?
"""
ADD_SHARE: Final = """
INSERT INTO shares VALUES (?, ?, ?, ?, max(0, ?))
ON CONFLICT (project, epoch, version, holder) DO UPDATE SET taken = max(0, taken + ?)
"""

# Hosts

FIND_HOST: Final = "SELECT * FROM hosts WHERE project = ? AND fingerprint = ?"
GET_HOST: Final = "SELECT * FROM hosts WHERE id = ?"
HOSTS: Final = "SELECT * FROM hosts WHERE project = ? ORDER BY last_seen DESC LIMIT ?"
HOSTS_OF_ACCOUNT: Final = "SELECT * FROM hosts WHERE project = ? AND account = ? ORDER BY id"
ENROL: Final = """
INSERT INTO hosts (project, fingerprint, key, account, role, network, display_name, agent,
                   enrolled_at, last_seen)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, fingerprint) DO UPDATE SET
    network = excluded.network, agent = excluded.agent,
    display_name = CASE excluded.display_name WHEN '' THEN display_name
                   ELSE excluded.display_name END,
    role = CASE excluded.role WHEN 'host' THEN role ELSE excluded.role END
"""
SAW: Final = """
UPDATE hosts
SET sequence = ?, request_digest = ?, network = ?, agent = ?, last_seen = ?,
    last_asked = CASE WHEN ? THEN ? ELSE last_asked END
WHERE id = ?
"""
PUT_REPLY: Final = "INSERT OR REPLACE INTO replies VALUES (?, ?)"
GET_REPLY: Final = "SELECT reply FROM replies WHERE host = ?"
SET_RUNTIME: Final = "UPDATE hosts SET runtime = ?, determinism_class = ? WHERE id = ?"
SET_SPEED: Final = "UPDATE hosts SET seconds_per_step = ? WHERE id = ?"
SET_LAST_SHARD: Final = "UPDATE hosts SET last_shard = ? WHERE id = ?"
SET_STANDING: Final = """
UPDATE hosts
SET consecutive_valid = ?, refused = ?, bans = ?, banned_until = ?, ban_reason = ?, credit = ?,
    units_valid = ?
WHERE id = ?
"""
ACTIVE_ACCOUNTS: Final = """
SELECT count(DISTINCT account) FROM hosts
WHERE project = ? AND last_asked > ? AND banned_until <= ? AND role = 'host'
"""
HAS_TRUSTED: Final = """
SELECT 1 FROM hosts WHERE project = ? AND role <> 'host' AND last_seen > ? LIMIT 1
"""

# Calibrations

CLASS_OF: Final = "SELECT digest FROM calibrations WHERE host = ? AND runtime = ?"
RUNTIMES_SINCE: Final = "SELECT count(*) FROM calibrations WHERE host = ? AND made_at > ?"
ADD_CALIBRATION: Final = """
INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
COUNT_CLASS: Final = """
UPDATE classes SET
    accounts = (SELECT min(count(DISTINCT c.account),
                           count(DISTINCT CASE h.network WHEN '' THEN c.account
                                          ELSE h.network END))
                FROM calibrations c JOIN hosts h ON h.id = c.host
                WHERE c.project = classes.project AND c.digest = classes.digest),
    trusted = (SELECT coalesce(max(c.trusted), 0) FROM calibrations c
               WHERE c.project = classes.project AND c.digest = classes.digest)
WHERE project = ? AND digest = ?
"""
ADD_CLASS: Final = """
INSERT INTO classes (project, digest, assignment, first_at) VALUES (?, ?, ?, ?)
ON CONFLICT (project, digest) DO NOTHING
"""
FIND_CLASS: Final = "SELECT * FROM classes WHERE project = ? AND digest = ?"
CLASSES: Final = "SELECT * FROM classes WHERE project = ? ORDER BY first_at, digest"
SET_MEASURED: Final = "UPDATE classes SET measured = ? WHERE project = ? AND digest = ?"
SET_ISOLATED: Final = "UPDATE classes SET isolated = ? WHERE project = ? AND digest = ?"
PUT_DISTANCE: Final = "INSERT OR REPLACE INTO class_distances VALUES (?, ?, ?, ?)"
DISTANCES: Final = "SELECT first, second, distance FROM class_distances WHERE project = ?"

# Uploads, invites, events

ADD_UPLOAD: Final = "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
GET_UPLOAD: Final = "SELECT * FROM uploads WHERE token = ?"
UPLOAD_OF_ASSIGNMENT: Final = "SELECT * FROM uploads WHERE assignment = ? AND complete = 0"
OPEN_BLOB: Final = """
SELECT * FROM uploads WHERE digest = ? AND project = ? AND kind = 'blob' AND complete = 0
"""
COMPLETE_UPLOAD: Final = "UPDATE uploads SET complete = 1 WHERE token = ? AND complete = 0"
EXPIRED_UPLOADS: Final = """
SELECT token FROM uploads WHERE complete = 0 AND expires_at <= ? LIMIT ?
"""
REMOVE_UPLOAD: Final = "DELETE FROM uploads WHERE token = ?"

ADD_INVITE: Final = "INSERT INTO invites VALUES (?, ?, ?, ?, ?, ?, ?)"
FIND_INVITE: Final = "SELECT * FROM invites WHERE token_hash = ?"
USE_INVITE: Final = """
UPDATE invites SET used_at = ? WHERE token_hash = ? AND used_at IS NULL AND revoked = 0
"""
REVOKE_INVITE: Final = """
UPDATE invites SET revoked = 1 WHERE token_hash = ? AND used_at IS NULL
"""
INVITES: Final = "SELECT * FROM invites ORDER BY created_at DESC"

ADD_EVENT: Final = """
INSERT INTO events (project, at, kind, unit, host, detail) VALUES (?, ?, ?, ?, ?, ?)
"""
EVENTS_AFTER: Final = """
SELECT * FROM events WHERE project = ? AND seq > ? ORDER BY seq LIMIT ?
"""
LAST_EVENTS: Final = "SELECT * FROM events WHERE project = ? ORDER BY seq DESC LIMIT ?"
EVENTS_OF_UNIT: Final = "SELECT * FROM events WHERE unit = ? ORDER BY seq"
