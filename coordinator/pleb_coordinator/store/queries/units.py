"""Units, and how many of them an account or a network has."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import NewUnit, UnitRow
from pleb_coordinator.store.queries.parts import OF_VERSION, columns

_UNIT: Final = columns(UnitRow)

COUNT_IN_ROUND: Final = f"""
UPDATE rounds SET open = open + :open, valid = valid + :valid WHERE {OF_VERSION}
"""

ADD_UNIT: Final = f"""
INSERT INTO units (project, epoch, version, {columns(NewUnit)}, state, planned_at)
VALUES (:project, :epoch, :version, {columns(NewUnit, ":")}, 'open', :now) RETURNING id
"""
FIND_UNIT: Final = f"""
SELECT {_UNIT} FROM units
WHERE {OF_VERSION} AND kind = :kind AND position = :position
"""
GET_UNIT: Final = f"SELECT {_UNIT} FROM units WHERE id = :unit"
SET_CHUNK: Final = """
UPDATE units SET chunk = :chunk, memory_bytes = :memory_bytes WHERE id = :unit
"""
COUNT_CHUNK_UNITS: Final = """
SELECT count(*) FROM units
WHERE project = :project AND epoch = :epoch AND version = :version
  AND kind = 'train' AND memory_bytes > 0 AND chunk <> 'full' AND state <> 'cancelled'
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
FROM assignments a JOIN units u ON u.id = a.unit JOIN hosts h ON h.id = a.host
WHERE a.project = :project AND a.epoch = :epoch AND a.version = :version
  AND a.state IN ('leased', 'uploading') AND a.purpose = 'primary'
  AND u.kind = 'train' AND u.state = 'open' AND h.seconds_per_step > 0 AND u.position % :every = 0
"""
UNITS_OF_ROUND: Final = f"""
SELECT {_UNIT} FROM units
WHERE {OF_VERSION} AND kind = 'train' ORDER BY position
"""
MOVE_UNIT: Final = """
UPDATE units SET state = :after, canonical = :canonical, decided_at = :now
WHERE id = :unit AND state = :before
"""
NEW_RESULT: Final = "UPDATE units SET revision = revision + 1, due = 1 WHERE id = :unit"
CHECKS_IN_VAIN: Final = """
UPDATE units SET revision = revision + 1, due = 1
WHERE state IN ('valid', 'applied', 'credited') AND id IN (
    SELECT unit FROM assignments
    WHERE project = :project AND epoch = :epoch AND version < :version AND state = 'unsent'
)
"""
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
WHERE {OF_VERSION} AND exam_at IS NOT NULL AND state IN ('open', 'valid')
"""
COUNT_EXAMS: Final = f"SELECT count(*) FROM units WHERE {OF_VERSION} AND exam_at IS NOT NULL"
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

FIRST_ASSIGNMENTS: Final = f"""
INSERT INTO assignments (project, unit, epoch, version, purpose, state, trusted_only, created_at)
SELECT project, id, epoch, version, :purpose, 'unsent', :trusted_only, :now FROM units
WHERE {OF_VERSION} AND kind = :kind ORDER BY id
"""

# Shares

TAKEN: Final = f"SELECT taken FROM shares WHERE {OF_VERSION} AND holder = :holder"
ADD_SHARE: Final = """
INSERT INTO shares (project, epoch, version, holder, taken)
VALUES (:project, :epoch, :version, :holder, CASE WHEN :change > 0 THEN :change ELSE 0 END)
ON CONFLICT (project, epoch, version, holder) DO UPDATE SET
    taken = CASE WHEN shares.taken + :change > 0 THEN shares.taken + :change ELSE 0 END
"""
