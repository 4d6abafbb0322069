"""Assignments with their results."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Assignment, Purpose, StoredDelta, UnitRow
from pleb_coordinator.store.queries.parts import columns, insert

_ASSIGNMENT: Final = columns(Assignment)
_ASSIGNMENT_AND_UNIT: Final = f"{columns(Assignment, 'a.')}, {columns(UnitRow, 'u.')}"

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
IN_HAND: Final = f"""
SELECT {_ASSIGNMENT_AND_UNIT} FROM assignments a JOIN units u ON u.id = a.unit
WHERE a.host = :host AND a.state IN ('leased', 'uploading') ORDER BY a.id
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
SELECT {columns(UnitRow, "u.")} FROM assignments a JOIN units u ON u.id = a.unit
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
    insert("deltas", StoredDelta)
    + " ON CONFLICT (assignment) DO UPDATE SET size = excluded.size, data = excluded.data"
)
GET_DELTA: Final = f"SELECT {columns(StoredDelta)} FROM deltas WHERE assignment = :assignment"
REMOVE_DELTA: Final = "DELETE FROM deltas WHERE assignment = :assignment"
DELTAS_OF_ROUND: Final = """
SELECT a.id FROM units u JOIN assignments a ON a.unit = u.id JOIN deltas d ON d.assignment = a.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
"""
USELESS_DELTAS: Final = """
SELECT a.id FROM units u JOIN assignments a ON a.unit = u.id JOIN deltas d ON d.assignment = a.id
WHERE u.project = :project AND u.epoch = :epoch AND u.version = :version AND u.kind = 'train'
  AND (u.canonical IS NULL OR a.id <> u.canonical)
LIMIT :limit
"""
WITH_DELTA: Final = """
SELECT a.id FROM assignments a JOIN deltas d ON d.assignment = a.id
WHERE a.unit = :unit AND a.digest = :digest AND a.state <> 'invalid' LIMIT 1
"""
