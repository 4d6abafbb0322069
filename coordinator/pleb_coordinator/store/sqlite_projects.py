"""Projects, versions and rounds in SQLite. `store.interface` says what each method does."""
# ruff: noqa: D102

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pleb_coordinator.core.records import (
    Evaluation,
    Facts,
    Project,
    ProjectState,
    Round,
    VersionRow,
)
from pleb_coordinator.store import sqlite_queries as sql
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.signing import peek_payload

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MetadataCache", "SqliteProjects", "SqliteRounds", "SqliteVersions"]

MetadataCache = dict[tuple[int, int], ProjectMetadata]
"""Decoded metadata by (project, number): it never changes."""


class SqliteProjects:
    """Implements `store.interface.Projects`."""

    def __init__(self, connection: sqlite3.Connection, decoded: MetadataCache) -> None:
        self._db = connection
        self._decoded = decoded

    def find(self, name: str) -> Project:
        return self._project(self._db.execute(sql.FIND_PROJECT, (name,)).fetchone(), name)

    def get(self, project: int) -> Project:
        row = self._db.execute(sql.GET_PROJECT, (project,)).fetchone()
        return self._project(row, str(project))

    def names(self) -> list[str]:
        return [name for (name,) in self._db.execute(sql.PROJECT_NAMES)]

    def add(self, name: str, root_key: str, epoch: int, now: float) -> int:
        cursor = self._db.execute(sql.ADD_PROJECT, (name, root_key, epoch, now))
        return _row_id(cursor)

    def set_state(self, project: int, expected: ProjectState, state: ProjectState) -> bool:
        parameters = (state.value, project, expected.value)
        return self._db.execute(sql.SET_PROJECT_STATE, parameters).rowcount == 1

    def put_metadata(
        self, project: int, metadata: ProjectMetadata, envelope: bytes, facts: Facts, now: float
    ) -> None:
        row = (project, metadata.number, envelope, *msgspec.structs.astuple(facts), now)
        self._db.execute(sql.ADD_METADATA, row)
        self._db.execute(sql.SET_METADATA, (metadata.number, metadata.epoch, project))

    def envelope(self, project: int, number: int) -> bytes:
        row = self._db.execute(sql.GET_ENVELOPE, (project, number)).fetchone()
        if row is None:
            message = f"There is no metadata {number} of project {project}."
            raise LookupError(message)
        return bytes(row[0])

    def metadata_at(self, project: int, number: int) -> ProjectMetadata:
        metadata = self._decoded.get((project, number))
        if metadata is None:
            payload = peek_payload(
                self.envelope(project, number),
                PayloadType.METADATA,
                most_bytes=LIMITS.metadata_bytes,
            )
            metadata = strict_json.decode(
                payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes
            )
            self._decoded[project, number] = metadata
        return metadata

    def advance(self, project: int, epoch: int, expected: int, version: int) -> bool:
        parameters = (version, project, epoch, expected)
        return self._db.execute(sql.ADVANCE_PROJECT, parameters).rowcount == 1

    def set_tolerance(self, project: int, tolerance: float) -> None:
        self._db.execute(sql.SET_TOLERANCE, (tolerance, project))

    def set_active_accounts(self, project: int, accounts: int) -> None:
        self._db.execute(sql.SET_ACTIVE_ACCOUNTS, (accounts, project))

    def add_evaluation(self, evaluation: Evaluation) -> None:
        self._db.execute(sql.ADD_EVALUATION, msgspec.structs.astuple(evaluation))

    def evaluations(self, project: int, epoch: int) -> list[Evaluation]:
        return [Evaluation(*row) for row in self._db.execute(sql.EVALUATIONS, (project, epoch))]

    def _project(self, row: tuple[Any, ...] | None, name: str) -> Project:
        if row is None:
            message = f"There is no project {name!r} here: check the attach link."
            raise Refusal(RefusalCode.UNKNOWN_PROJECT, message)
        return Project(
            id=row[0],
            name=row[1],
            root_key=row[2],
            state=ProjectState(row[3]),
            epoch=row[4],
            version=row[5],
            metadata_number=row[6],
            tolerance=row[7],
            active_accounts=row[8],
            created_at=row[9],
            facts=Facts(*row[10:]),
            metadata=self.metadata_at(row[0], row[6]),
        )


class SqliteVersions:
    """Implements `store.interface.Versions`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, project: int, epoch: int, number: int) -> VersionRow:
        row = self._db.execute(sql.GET_VERSION, (project, epoch, number)).fetchone()
        if row is None:
            message = f"Project {project} has no version {number} in epoch {epoch}."
            raise LookupError(message)
        return VersionRow(*row)

    def add(self, row: VersionRow) -> bool:
        cursor = self._db.execute(sql.ADD_VERSION, msgspec.structs.astuple(row))
        return cursor.rowcount == 1

    def forget_outer_state(self, project: int, epoch: int, number: int) -> None:
        self._db.execute(sql.FORGET_OUTER_STATE, (project, epoch, number))

    def history(self, project: int, epoch: int, *, after: int, limit: int) -> list[VersionRow]:
        rows = self._db.execute(sql.HISTORY, (project, epoch, after, limit))
        return [VersionRow(*row) for row in rows]


class SqliteRounds:
    """Implements `store.interface.Rounds`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, project: int, epoch: int, version: int) -> Round | None:
        row = self._db.execute(sql.GET_ROUND, (project, epoch, version)).fetchone()
        return None if row is None else Round(*row)

    def add(self, row: Round) -> bool:
        return self._db.execute(sql.ADD_ROUND, msgspec.structs.astuple(row)).rowcount == 1

    def set_quorum_at(self, row: Round, at: float | None) -> None:
        self._db.execute(sql.SET_QUORUM_AT, (at, row.project, row.epoch, row.version))

    def close(self, row: Round, now: float) -> bool:
        parameters = (now, row.project, row.epoch, row.version)
        return self._db.execute(sql.CLOSE_ROUND, parameters).rowcount == 1

    def unswept_before(self, project: int, epoch: int, version: int) -> Round | None:
        row = self._db.execute(sql.UNSWEPT_BEFORE, (project, epoch, version)).fetchone()
        return None if row is None else Round(*row)

    def set_swept(self, row: Round, now: float) -> None:
        self._db.execute(sql.SET_SWEPT, (now, row.project, row.epoch, row.version))


def _row_id(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:
        message = "SQLite gave no row id for an INSERT."
        raise LookupError(message)
    return cursor.lastrowid
