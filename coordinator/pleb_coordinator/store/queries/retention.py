"""Rows that are not needed any more, a batch at a time."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import CalibrationClass, Round
from pleb_coordinator.store.queries.parts import OF_VERSION, ROUND, columns

# Whether results of a host may still be compared with others

UNSETTLED_OF_HOST: Final = """
SELECT 1 FROM assignments
WHERE host = :host AND (
    state IN ('leased', 'uploading', 'reported')
    OR (epoch = :epoch AND version >= :version AND state NOT IN ('expired', 'cancelled', 'failed'))
) LIMIT 1
"""

# Numbers grow with time, so the oldest events are the first ones.
OLDEST_EVENT: Final = "SELECT at FROM events ORDER BY seq LIMIT 1"
OLD_EVENTS: Final = """
SELECT seq FROM (SELECT seq, at FROM events ORDER BY seq LIMIT :limit) e WHERE at < :before
"""
REMOVE_EVENT: Final = "DELETE FROM events WHERE seq = :seq"
UNRETIRED: Final = f"""
SELECT {ROUND} FROM rounds
WHERE project = :project AND swept_at IS NOT NULL AND retired_at IS NULL AND closed_at < :before
ORDER BY epoch, version LIMIT :limit
"""
ROUNDS_OF_SUSPENSIONS: Final = """
SELECT DISTINCT u.epoch, u.version FROM hosts h JOIN units u ON u.id = h.suspended_by
WHERE h.project = :project AND h.suspended_by IS NOT NULL
"""
REMOVE_CONVICTIONS: Final = f"""
DELETE FROM convictions WHERE unit IN (SELECT id FROM units WHERE {OF_VERSION})
"""
SPENT_ROUNDS: Final = f"""
SELECT {columns(Round, "r.")} FROM rounds r
LEFT JOIN versions v ON v.project = r.project AND v.epoch = r.epoch AND v.number = r.version + 1
WHERE r.project = :project AND r.retired_at IS NOT NULL AND (v.kept IS NULL OR v.kept <> 'exact')
ORDER BY r.epoch, r.version LIMIT :limit
"""
SET_RETIRED: Final = f"UPDATE rounds SET retired_at = :now WHERE {OF_VERSION}"
REMOVE_SHARES: Final = f"DELETE FROM shares WHERE {OF_VERSION}"
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
REMOVE_UNITS_OF_ROUND: Final = f"DELETE FROM units WHERE {OF_VERSION} AND kind <> 'calibrate'"
REMOVE_ROUND: Final = f"DELETE FROM rounds WHERE {OF_VERSION}"
OPENED_AT: Final = f"SELECT opened_at FROM rounds WHERE {OF_VERSION}"
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
SELECT {columns(CalibrationClass, "k.")} FROM classes k
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
