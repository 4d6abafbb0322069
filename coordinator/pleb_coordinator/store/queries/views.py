"""What an operator and the pages look at."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Event
from pleb_coordinator.store.queries.parts import EVER, columns

_EVENT: Final = columns(Event)

IN_FLIGHT: Final = """
SELECT count(*) FROM assignments
WHERE state IN ('leased', 'uploading') AND project = :project
"""

UNDECIDED: Final = """
SELECT count(*) FROM assignments
WHERE state = 'reported' AND project = :project
  AND epoch = (SELECT epoch FROM projects WHERE id = :project)
"""

SHARDS_GIVEN: Final = """
SELECT DISTINCT u.shard_first, u.shard_count, a.host
FROM units u JOIN assignments a ON a.unit = u.id JOIN hosts h ON h.id = a.host
WHERE u.project = :project AND u.epoch = :epoch AND u.version >= :since AND u.kind = 'train'
      AND h.last_seen >= :seen
LIMIT :most
"""

FLEET: Final = f"""
SELECT coalesce(sum(hosts), 0), count(DISTINCT CASE hosts WHEN 1 THEN account END),
       coalesce(sum(units_valid), 0), coalesce(sum(refused), 0), coalesce(sum(bans), 0),
       coalesce(sum(credit), 0.0)
FROM {EVER} e
"""
PUT_FLEET_VIEW: Final = """
INSERT INTO fleet_views (project, at, totals, contributors, teams)
VALUES (:project, :at, :totals, :contributors, :teams)
ON CONFLICT (project) DO UPDATE SET
    at = excluded.at, totals = excluded.totals, contributors = excluded.contributors,
    teams = excluded.teams
"""
GET_FLEET_VIEW: Final = """
SELECT at, totals, contributors, teams FROM fleet_views WHERE project = :project
"""
CONTRIBUTORS: Final = f"""
SELECT account, max(display_name), sum(hosts), sum(units_valid), sum(credit), max(team)
FROM {EVER} e GROUP BY account
ORDER BY sum(credit) DESC, sum(units_valid) DESC, account LIMIT :limit
"""

FLEET_RECORDS: Final = """
SELECT key, account, display_name, team, credit, units_valid,
       CASE WHEN suspended_by IS NULL THEN record ELSE 0 END, refused, bans, banned_until,
       ban_reason, last_seen
FROM hosts WHERE project = :project
UNION ALL
SELECT NULL, account, display_name, team, credit, units_valid, 0, refused, bans, 0.0, NULL, 0.0
FROM departed WHERE project = :project
"""

ADDED_AFTER: Final = """
SELECT id, state, for_host FROM assignments WHERE id > :number AND +project = :project ORDER BY id
"""
"""The plus keeps SQLite from reading all of the project's, of which nearly all are older."""

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
