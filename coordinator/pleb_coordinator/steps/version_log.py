"""The signed log of versions, as it is handed out and as mirrors have it.

Nothing of it is stored: the lines follow from the versions' rows, of which a log needs only what
never changes, and the end is signed when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import sign_payload
from pleb_shared.protocol.version_log import FIRST, LogEntry, LogHead, log_lines

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, VersionInLog
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["log_of", "sign_head"]


def log_of(tx: Transaction, project: Project) -> list[bytes]:
    """Return the lines of a project's log, oldest first."""
    return list(log_lines(_entry(row) for row in tx.versions.in_log(project.id)))


def sign_head(deps: Deps, project: Project, lines: list[bytes]) -> bytes:
    """Return the signed end of the log that has these lines."""
    head = LogHead(
        project=project.name,
        entries=len(lines),
        last=digest_of(lines[-1]),
        epoch=project.epoch,
        version=project.version,
        issued_at=int(deps.clock()),
    )
    online_key = deps.online_keys.of(project.metadata.delegation.online_key)
    return sign_payload(strict_json.encode(head), PayloadType.LOG_HEAD, online_key)


def _entry(row: VersionInLog) -> LogEntry:
    return LogEntry(
        epoch=row.epoch,
        number=row.number,
        digest=row.digest,
        restores=row.restores,
        results=row.leaves,
        previous=FIRST,
    )
