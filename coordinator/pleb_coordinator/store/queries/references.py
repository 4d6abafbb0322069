"""Which files must be there for the rows to mean anything."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.store.queries.parts import OF_VERSION

ADD_REFERENCE: Final = """
INSERT INTO blob_references (digest, project, epoch, version)
VALUES (:digest, :project, :epoch, :version) ON CONFLICT DO NOTHING
"""
REFERENCES_OF: Final = f"SELECT digest FROM blob_references WHERE {OF_VERSION}"
REMOVE_REFERENCES: Final = f"DELETE FROM blob_references WHERE {OF_VERSION}"
IS_REFERENCED: Final = "SELECT 1 FROM blob_references WHERE digest = :digest LIMIT 1"
REFERENCED_BLOBS: Final = "SELECT DISTINCT digest FROM blob_references"
DELTA_FILES: Final = """
SELECT d.assignment, CASE d.digest WHEN '' THEN a.digest ELSE d.digest END
FROM deltas d JOIN assignments a ON a.id = d.assignment
WHERE d.data IS NULL
"""
