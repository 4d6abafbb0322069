"""What administrators have done."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import AuditEntry
from pleb_coordinator.store.queries.parts import columns

ADD_AUDIT: Final = """
INSERT INTO audit (at, who, command, project, arguments)
VALUES (:at, :who, :command, :project, :arguments)
"""
LAST_AUDIT: Final = f"""
SELECT {columns(AuditEntry)} FROM audit
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
