"""The journal's file: its tables, migrations, and transactions that are on the disk on return."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pleb_shared.errors import PlebError
from pleb_system.regular_files import require_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["MIGRATIONS", "Database", "JournalError"]


class JournalError(PlebError):
    """The journal cannot be read or written: disk full, damaged, or written by a newer agent."""


class Database:
    """One SQLite file in WAL mode with synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        try:
            require_regular(path)
        except OSError as error:
            raise _unusable(error.strerror or str(error)) from error
        with _journal_errors():
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self.db.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF"):
                self.db.execute(f"PRAGMA {pragma}")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise JournalError("The journal was written by a newer agent; update this one.")
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                self.db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
            # Not before: a migration that makes a table anew would delete what refers to it.
            self.db.execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block's changes together, or none of them.

        Raises:
            JournalError: they cannot be written.
        """
        with _journal_errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            finally:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    def rows(self, sql: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return a query's rows."""
        with _journal_errors():
            return self.db.execute(sql, values).fetchall()


@contextmanager
def _journal_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _unusable(str(error)) from error


_REMEDIES: Final = (
    ("full", "free some disk space"),
    ("readonly", "let this user write its folder and its file"),
    ("unable to open", "let this user write its folder and its file"),
    ("Permission denied", "let this user read and write its file"),
    ("disk I/O", "look whether the disk is well; the journal itself may be"),
    ("locked", "end the other program that has it open"),
    ("is in its place", "move that away"),
)
"""What a person can do, by words of the reason."""
_ANEW: Final = (
    "move journal.sqlite away, keep the folder keys, and attach your projects by the same links: "
    "their accounts go on"
)


def _unusable(reason: str) -> JournalError:
    remedy = next((said for sign, said in _REMEDIES if sign in reason), _ANEW)
    return JournalError(f"The journal cannot be used ({reason}): {remedy}.")


MIGRATIONS: Final = (
    # 1: first layout
    """
    CREATE TABLE projects (
        id INTEGER PRIMARY KEY,
        link TEXT NOT NULL,
        base_url TEXT NOT NULL,
        name TEXT NOT NULL,
        host_key_file TEXT NOT NULL,
        account_key_file TEXT NOT NULL,
        host TEXT NOT NULL,
        role TEXT NOT NULL,
        metadata BLOB NOT NULL,
        metadata_number INTEGER NOT NULL,
        metadata_digest TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        latest_version INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        detaching INTEGER NOT NULL DEFAULT 0,
        attached_at REAL NOT NULL,
        UNIQUE (base_url, name)
    ) STRICT;

    CREATE TABLE assignments (
        id INTEGER PRIMARY KEY,
        project INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
        assignment INTEGER NOT NULL,
        nonce TEXT NOT NULL,
        state TEXT NOT NULL,
        manifest BLOB NOT NULL,
        envelope BLOB NOT NULL,
        lease_ends_at REAL NOT NULL,
        report BLOB NOT NULL DEFAULT x'',
        delta_file TEXT NOT NULL DEFAULT '',
        upload TEXT NOT NULL DEFAULT '',
        tries INTEGER NOT NULL DEFAULT 0,
        note TEXT NOT NULL DEFAULT '',
        verdict TEXT NOT NULL DEFAULT '',
        credit REAL NOT NULL DEFAULT 0,
        received_at REAL NOT NULL,
        ended_at REAL,
        UNIQUE (project, nonce)
    ) STRICT;
    CREATE INDEX open_assignments ON assignments (project, id) WHERE ended_at IS NULL;
    CREATE INDEX ended_assignments ON assignments (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX assignment_numbers ON assignments (project, assignment);

    CREATE TABLE requests (
        project INTEGER PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
        sequence INTEGER NOT NULL,
        body BLOB NOT NULL,
        reported TEXT NOT NULL,
        wait_seconds REAL NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT;

    CREATE TABLE counters (
        project INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    """,
    # 2: history, sums of each day, versions that units of ours went into
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        project TEXT NOT NULL,
        template TEXT NOT NULL,
        "values" TEXT NOT NULL
    ) STRICT;

    CREATE TABLE daily (
        day TEXT NOT NULL,
        project TEXT NOT NULL,
        name TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (day, project, name)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO daily (day, project, name, value)
        SELECT '', projects.name, CASE counters.name
                WHEN 'units_done' THEN 'units'
                WHEN 'verdicts_valid' THEN 'accepted'
                ELSE counters.name END, sum(value)
        FROM counters JOIN projects ON projects.id = counters.project
        WHERE counters.name IN ('units_done', 'verdicts_valid', 'credit_flops', 'bytes_received',
            'bytes_sent')
        GROUP BY projects.name, counters.name;

    CREATE TABLE our_versions (
        project INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        PRIMARY KEY (project, version)
    ) STRICT, WITHOUT ROWID;
    """,
    # 3: a failure is a kind of report; a request says how many units it asks for
    """
    UPDATE assignments SET state = 'computed' WHERE state = 'failed';
    ALTER TABLE assignments DROP COLUMN envelope;
    ALTER TABLE requests ADD COLUMN max_units INTEGER NOT NULL DEFAULT 1;
    """,
    # 4: the newest root key that was followed; empty: the attach link's
    """
    ALTER TABLE projects ADD COLUMN root TEXT NOT NULL DEFAULT '';
    """,
    # 5: when the coordinator was restored from a backup
    """
    ALTER TABLE projects ADD COLUMN restored_at INTEGER NOT NULL DEFAULT 0;
    """,
    # 6: each device that computes for a project is a host of it
    """
    CREATE TABLE new_projects (
        id INTEGER PRIMARY KEY,
        link TEXT NOT NULL,
        base_url TEXT NOT NULL,
        name TEXT NOT NULL,
        host_key_file TEXT NOT NULL,
        account_key_file TEXT NOT NULL,
        host TEXT NOT NULL,
        role TEXT NOT NULL,
        metadata BLOB NOT NULL,
        metadata_number INTEGER NOT NULL,
        metadata_digest TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        latest_version INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        detaching INTEGER NOT NULL DEFAULT 0,
        attached_at REAL NOT NULL,
        root TEXT NOT NULL DEFAULT '',
        restored_at INTEGER NOT NULL DEFAULT 0,
        device TEXT NOT NULL DEFAULT 'cpu',
        UNIQUE (base_url, name, device)
    ) STRICT;
    INSERT INTO new_projects SELECT id, link, base_url, name, host_key_file, account_key_file, host,
        role, metadata, metadata_number, metadata_digest, epoch, latest_version, sequence,
        detaching, attached_at, root, restored_at, 'cpu' FROM projects;
    DROP TABLE projects;
    ALTER TABLE new_projects RENAME TO projects;
    """,
    # 7: the number that the project's page has for a unit, what a refusal rests on, what the user
    # did to a unit; projects that are to give no new work
    """
    ALTER TABLE assignments ADD COLUMN unit INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE assignments ADD COLUMN distance REAL;
    ALTER TABLE assignments ADD COLUMN tolerance REAL;
    ALTER TABLE assignments ADD COLUMN reason TEXT NOT NULL DEFAULT '';
    ALTER TABLE assignments ADD COLUMN held TEXT NOT NULL DEFAULT '';
    -- where the user finds it (`core.unit_parts`): a verdict has the last word
    ALTER TABLE assignments ADD COLUMN part TEXT GENERATED ALWAYS AS (CASE
        WHEN verdict = 'invalid' OR (verdict = '' AND state = 'refused') THEN 'refused'
        WHEN verdict = 'valid' THEN 'accepted'
        WHEN verdict = 'late' OR state IN ('late', 'given_back') THEN 'uncounted'
        -- compared with a known result, so it gets no verdict
        WHEN state = 'done' AND instr(CAST(manifest AS TEXT), '"kind":"calibrate"') THEN 'uncounted'
        WHEN state = 'done' THEN 'waiting'
        ELSE 'in_hand' END) VIRTUAL;
    CREATE INDEX assignment_parts ON assignments (part, id);
    ALTER TABLE projects ADD COLUMN no_new_work INTEGER NOT NULL DEFAULT 0;
    """,
    # 8: projects that were attached together
    """
    ALTER TABLE projects ADD COLUMN family TEXT NOT NULL DEFAULT '';
    """,
    # 9: what a unit took, of which so much was measured; what was accepted, for longer than units
    # and projects are kept
    """
    ALTER TABLE assignments ADD COLUMN kwh REAL NOT NULL DEFAULT 0;
    ALTER TABLE assignments ADD COLUMN measured_kwh REAL NOT NULL DEFAULT 0;
    CREATE TABLE receipts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        base_url TEXT NOT NULL,
        project TEXT NOT NULL,
        host TEXT NOT NULL,
        nonce TEXT NOT NULL,
        digest TEXT NOT NULL,
        unit INTEGER NOT NULL,
        kind TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        version INTEGER NOT NULL,
        at REAL NOT NULL,
        day TEXT NOT NULL,
        credit REAL NOT NULL,
        compute_seconds REAL NOT NULL,
        kwh REAL NOT NULL,
        measured_kwh REAL NOT NULL,
        proof TEXT NOT NULL DEFAULT '',
        UNIQUE (base_url, project, nonce)
    ) STRICT;
    CREATE INDEX receipts_by_day ON receipts (day, id);
    CREATE INDEX receipts_to_prove ON receipts (base_url, project, epoch, version)
        WHERE kind = 'train';
    -- of units that were accepted before there were receipts the energy is not known
    INSERT INTO receipts (base_url, project, host, nonce, digest, unit, kind, epoch, version, at,
            day, credit, compute_seconds, kwh, measured_kwh)
        SELECT projects.base_url, projects.name, projects.host, nonce,
            coalesce(json_extract(CAST(report AS TEXT), '$.result.digest'), ''), unit,
            json_extract(CAST(manifest AS TEXT), '$.unit.kind'),
            json_extract(CAST(manifest AS TEXT), '$.unit.epoch'),
            json_extract(CAST(manifest AS TEXT), '$.unit.version') + 1,
            coalesce(ended_at, received_at),
            date(coalesce(ended_at, received_at), 'unixepoch', 'localtime'), credit,
            coalesce(json_extract(CAST(report AS TEXT), '$.compute_seconds'), 0.0), 0, 0
        FROM assignments JOIN projects ON projects.id = assignments.project
        WHERE verdict = 'valid' AND report <> x'' ORDER BY assignments.id;
    """,
    # 10: where the user's own data for a project are
    """
    ALTER TABLE projects ADD COLUMN own_folder TEXT NOT NULL DEFAULT '';
    """,
)
"""Applied in order; `PRAGMA user_version` counts them."""
