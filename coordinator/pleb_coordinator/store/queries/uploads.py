"""Uploads and deltas."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Upload
from pleb_coordinator.store.queries.parts import columns, insert

_UPLOAD: Final = columns(Upload)

ADD_UPLOAD: Final = insert("uploads", Upload)
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
