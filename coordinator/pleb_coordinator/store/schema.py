"""The schema, as SQLAlchemy Core tables: the one place that says what columns there are.

Columns stand in the order of the record's fields in `core.records`; the hand-written SQL
relies on it, and a test holds both to it. Imported only by `migrate` and by tests, because
SQLAlchemy takes long to import.

Every index serves a named query. Partial indices hold only what is still in the works, so
they stay small however many finished rows there are.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

__all__ = ["metadata"]

metadata: Final = MetaData()

LIVE_LEASES: Final = "state IN ('leased', 'uploading')"


def _filled(name: str, kind: type[String | Integer | Float[float]], value: str) -> Column[object]:
    """Return a column that is never null and starts as `value`."""
    return Column(name, kind, nullable=False, server_default=text(value))


Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("root_key", String, nullable=False),
    Column("state", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("metadata_number", Integer, nullable=False),
    _filled("tolerance", Float, "0"),
    _filled("active_accounts", Integer, "0"),
    Column("created_at", Float, nullable=False),
)

Table(
    "metadata",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("flops_per_step", Integer, nullable=False),
    Column("train_shards", Integer, nullable=False),
    Column("holdout_shards", Integer, nullable=False),
    Column("holdout_examples", Integer, nullable=False),
    Column("published_at", Float, nullable=False),
)

Table(
    "versions",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String, nullable=False),
    Column("metadata_number", Integer, nullable=False),
    Column("difference", String, nullable=False),
    Column("outer_state", String, nullable=False),
    Column("snapshot", String, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("train_loss", Float),
    Column("made_at", Float, nullable=False),
    Index("versions_by_outer_state", "outer_state", sqlite_where=text("outer_state <> ''")),
)

Table(
    "rounds",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("units", Integer, nullable=False),
    Column("quorum", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    Column("valid", Integer, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("quorum_at", Float),
    Column("closed_at", Float),
    Column("swept_at", Float),
    Index(
        "rounds_unswept",
        "project",
        "epoch",
        "version",
        sqlite_where=text("closed_at IS NOT NULL AND swept_at IS NULL"),
    ),
    CheckConstraint("open >= 0 AND valid >= 0", name="counters"),
)

Table(
    "units",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", ForeignKey("projects.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("shard_first", Integer, nullable=False),
    Column("shard_count", Integer, nullable=False),
    Column("local_steps", Integer, nullable=False),
    Column("state", String, nullable=False),
    _filled("revision", Integer, "0"),
    Column("due", Boolean, nullable=False, server_default=text("0")),
    Column("canonical", Integer),
    Column("planned_at", Float, nullable=False),
    Column("decided_at", Float),
    UniqueConstraint("project", "epoch", "version", "kind", "position"),
    Index("units_due", "project", "id", sqlite_where=text("due = 1")),
    Index(
        "units_undecided",
        "project",
        "epoch",
        "version",
        sqlite_where=text("state IN ('open', 'late')"),
    ),
)

Table(
    "assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", Integer, nullable=False),
    Column("unit", ForeignKey("units.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("purpose", String, nullable=False),
    Column("state", String, nullable=False),
    Column("trusted_only", Boolean, nullable=False, server_default=text("0")),
    _filled("trusted_from", Float, "0"),
    _filled("for_class", String, "''"),
    Column("created_at", Float, nullable=False),
    Column("host", ForeignKey("hosts.id")),
    _filled("account", String, "''"),
    _filled("network", String, "''"),
    _filled("nonce", String, "''"),
    Column("issued_at", Float),
    Column("lease_until", Float),
    Column("reported_at", Float),
    _filled("digest", String, "''"),
    _filled("size", Integer, "0"),
    Column("loss_first", Float),
    Column("loss_last", Float),
    Column("compute_seconds", Float),
    Column("norm", Float),
    Column("verdict", String),
    _filled("credit", Float, "0"),
    Column("ripe_at", Float),
    Column("reason", LargeBinary),
    Column("told", Boolean, nullable=False, server_default=text("0")),
    Index("assignments_of_unit", "unit"),
    Index(
        "assignments_unsent",
        "project",
        "purpose",
        "trusted_only",
        "id",
        sqlite_where=text("state = 'unsent'"),
    ),
    Index(
        "assignments_unsent_versions",
        "project",
        "epoch",
        "version",
        sqlite_where=text("state = 'unsent'"),
    ),
    Index("assignments_reported", "unit", sqlite_where=text("state = 'reported'")),
    Index(
        "assignments_unjudged",
        "unit",
        "host",
        sqlite_where=text("state IN ('uploading', 'reported')"),
    ),
    Index("assignments_in_hand", "host", sqlite_where=text(LIVE_LEASES)),
    Index("assignments_leases", "lease_until", sqlite_where=text(LIVE_LEASES)),
    Index(
        "assignments_untold",
        "host",
        sqlite_where=text("verdict IS NOT NULL AND told = 0"),
    ),
    Index("assignments_unripe", "host", "ripe_at", sqlite_where=text("ripe_at IS NOT NULL")),
)

Table(
    "hosts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", ForeignKey("projects.id"), nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("key", String, nullable=False),
    Column("account", String, nullable=False),
    Column("role", String, nullable=False),
    _filled("network", String, "''"),
    _filled("display_name", String, "''"),
    _filled("agent", String, "''"),
    _filled("sequence", Integer, "0"),
    _filled("request_digest", String, "''"),
    _filled("runtime", String, "''"),
    _filled("determinism_class", String, "''"),
    Column("seconds_per_step", Float),
    _filled("consecutive_valid", Integer, "0"),
    _filled("refused", Integer, "0"),
    _filled("bans", Integer, "0"),
    _filled("banned_until", Float, "0"),
    Column("ban_reason", LargeBinary),
    _filled("credit", Float, "0"),
    _filled("units_valid", Integer, "0"),
    Column("enrolled_at", Float, nullable=False),
    _filled("last_seen", Float, "0"),
    _filled("last_asked", Float, "0"),
    _filled("last_shard", Integer, "-1"),
    UniqueConstraint("project", "fingerprint"),
    Index("hosts_trusted", "project", "last_seen", sqlite_where=text("role <> 'host'")),
)

Table(
    "replies",
    metadata,
    Column("host", ForeignKey("hosts.id"), primary_key=True),
    Column("reply", LargeBinary, nullable=False),
)

Table(
    "shares",
    metadata,
    Column("project", Integer, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("holder", String, primary_key=True),
    Column("taken", Integer, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "calibrations",
    metadata,
    Column("host", ForeignKey("hosts.id"), primary_key=True),
    Column("runtime", String, primary_key=True),
    Column("project", Integer, nullable=False),
    Column("account", String, nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("digest", String, nullable=False),
    Column("seconds_per_step", Float, nullable=False),
    Column("made_at", Float, nullable=False),
    Index("calibrations_by_digest", "project", "digest"),
)

Table(
    "classes",
    metadata,
    Column("project", Integer, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("assignment", Integer, nullable=False),
    Column("measured", Boolean, nullable=False, server_default=text("0")),
    _filled("accounts", Integer, "0"),
    Column("trusted", Boolean, nullable=False, server_default=text("0")),
    Column("isolated", Boolean, nullable=False, server_default=text("0")),
    Column("first_at", Float, nullable=False),
)

Table(
    "class_distances",
    metadata,
    Column("project", Integer, primary_key=True),
    Column("first", String, primary_key=True),
    Column("second", String, primary_key=True),
    Column("distance", Float, nullable=False),
)

Table(
    "deltas",
    metadata,
    Column("assignment", ForeignKey("assignments.id"), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary),
)

Table(
    "uploads",
    metadata,
    Column("token", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("project", Integer, nullable=False),
    Column("assignment", Integer),
    Column("digest", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("complete", Boolean, nullable=False, server_default=text("0")),
    Index("uploads_by_assignment", "assignment"),
    Index("uploads_by_digest", "digest"),
    Index("uploads_open", "expires_at", sqlite_where=text("complete = 0")),
)

Table(
    "claims",
    metadata,
    Column("job", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("expires_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "tombstones",
    metadata,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("due_at", Float, nullable=False),
    Column("condemned", Boolean, nullable=False, server_default=text("0")),
    Index("tombstones_due", "due_at", sqlite_where=text("condemned = 0")),
    Index("tombstones_condemned", "name", sqlite_where=text("condemned = 1")),
)

Table(
    "invites",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("role", String, nullable=False),
    _filled("note", String, "''"),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("revoked", Boolean, nullable=False, server_default=text("0")),
)

Table(
    "evaluations",
    metadata,
    Column("project", Integer, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("assignment", Integer, nullable=False),
    Column("metrics", LargeBinary, nullable=False),
    Column("examples", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
)

Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("project", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("unit", Integer),
    Column("host", Integer),
    Column("detail", LargeBinary, nullable=False),
    Index("events_of_project", "project", "seq"),
    Index("events_of_unit", "unit", sqlite_where=text("unit IS NOT NULL")),
    sqlite_autoincrement=True,
)
