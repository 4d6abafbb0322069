"""Administrators, and their browsers."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Admin, AdminSession
from pleb_coordinator.store.queries.parts import columns, insert

PUT_ADMIN: Final = f"""
{insert("admins", Admin)}
ON CONFLICT (name) DO UPDATE SET role = excluded.role, projects = excluded.projects,
    code_hash = excluded.code_hash,
    code_expires_at = excluded.code_expires_at, key = excluded.key,
    created_at = excluded.created_at, last_seen = excluded.last_seen,
    sequence = excluded.sequence, revoked = excluded.revoked
"""
FIND_ADMIN: Final = f"SELECT {columns(Admin)} FROM admins WHERE name = :name"
ADMINS: Final = f"SELECT {columns(Admin)} FROM admins ORDER BY name"
HAS_ADMIN_CODE: Final = "SELECT 1 FROM admins WHERE code_hash = :code_hash"
JOIN_ADMIN: Final = f"""
UPDATE admins SET key = :key, last_seen = :now
WHERE code_hash = :code_hash AND key = '' AND revoked = 0 AND code_expires_at > :now
RETURNING {columns(Admin)}
"""
SAW_ADMIN: Final = """
UPDATE admins SET sequence = :sequence, last_seen = :now
WHERE name = :name AND key = :key AND revoked = 0 AND sequence < :sequence
"""
REVOKE_ADMIN: Final = "UPDATE admins SET revoked = 1 WHERE name = :name AND revoked = 0"
ADD_ADMIN_SESSION: Final = insert("admin_sessions", AdminSession)
FIND_ADMIN_SESSION: Final = f"""
SELECT {columns(AdminSession)} FROM admin_sessions WHERE token_hash = :token_hash
"""
END_ADMIN_SESSION: Final = "DELETE FROM admin_sessions WHERE token_hash = :token_hash"
END_ADMIN_SESSIONS: Final = "DELETE FROM admin_sessions WHERE admin = :admin"
FORGET_ADMIN_SESSIONS: Final = "DELETE FROM admin_sessions WHERE expires_at < :now"
