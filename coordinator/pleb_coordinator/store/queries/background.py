"""Claims of background work, and files that are to be deleted."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Tombstone
from pleb_coordinator.store.queries.parts import columns

_TOMBSTONE: Final = columns(Tombstone)

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
