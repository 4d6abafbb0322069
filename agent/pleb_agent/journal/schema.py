"""The journal's tables, as the sum of their migrations."""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS"]

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
)
"""Applied in order; `PRAGMA user_version` counts them."""
