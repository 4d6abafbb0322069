"""The first schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:  # noqa: PLR0915 - a statement for each table and index
    op.create_table(
        "claims",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "class_distances",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("first", sa.String(), nullable=False),
        sa.Column("second", sa.String(), nullable=False),
        sa.Column("distance", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "first", "second"),
    )
    op.create_table(
        "classes",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("assignment", sa.Integer(), nullable=False),
        sa.Column("measured", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("accounts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("trusted", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("isolated", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "digest"),
    )
    op.create_table(
        "evaluations",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("assignment", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.LargeBinary(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "epoch", "version"),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=True),
        sa.Column("host", sa.Integer(), nullable=True),
        sa.Column("detail", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_project", "events", ["project", "seq"], unique=False)
    op.create_index(
        "events_of_unit", "events", ["unit"], unique=False, sqlite_where=sa.text("unit IS NOT NULL")
    )
    op.create_table(
        "invites",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("note", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("team", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("proven", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("uses", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("used", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("root_key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("stopped_for", sa.LargeBinary(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("metadata_number", sa.Integer(), nullable=False),
        sa.Column("tolerance", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("active_accounts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("proven_hosts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("new_hosts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("median_step_seconds", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("restoring", sa.Integer(), nullable=True),
        sa.Column("restoring_for", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("restored_at", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shares",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", "epoch", "version", "holder"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tombstones",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("condemned", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_index(
        "tombstones_condemned",
        "tombstones",
        ["name"],
        unique=False,
        sqlite_where=sa.text("condemned = 1"),
    )
    op.create_index(
        "tombstones_due",
        "tombstones",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("condemned = 0"),
    )
    op.create_table(
        "uploads",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("assignment", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("complete", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_index("uploads_by_assignment", "uploads", ["assignment"], unique=False)
    op.create_index("uploads_by_digest", "uploads", ["digest"], unique=False)
    op.create_index(
        "uploads_open",
        "uploads",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("complete = 0"),
    )
    op.create_table(
        "alarms",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("audit_floor", sa.Float(), nullable=False),
        sa.Column("audit_record", sa.Float(), nullable=False),
        sa.Column("raised_at", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.Column("surge_until", sa.Integer(), nullable=False),
        sa.Column("spot_checks", sa.Integer(), nullable=False),
        sa.Column("lies", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "convictions",
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("credit", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("unit", "host"),
    )
    op.create_table(
        "departed",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("units_valid", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("bans", sa.Integer(), nullable=False),
        sa.Column("credit", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project", "account"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("network", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("display_name", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("agent", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("sequence", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("request_digest", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("runtime", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("determinism_class", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("seconds_per_step", sa.Float(), nullable=True),
        sa.Column("record", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("proven", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("suspended_by", sa.Integer(), nullable=True),
        sa.Column("recent", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("setbacks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("fastest_step_seconds", sa.Float(), nullable=True),
        sa.Column("paced_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("bans", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("banned_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("ban_reason", sa.LargeBinary(), nullable=True),
        sa.Column("credit", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("units_valid", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("enrolled_at", sa.Float(), nullable=False),
        sa.Column("last_seen", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_asked", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_shard", sa.Integer(), server_default=sa.text("-1"), nullable=False),
        sa.Column("team", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("invite", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("enrolled_from", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("refuses", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("memory_bytes", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "fingerprint"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "hosts_from_network", "hosts", ["project", "enrolled_from", "enrolled_at"], unique=False
    )
    op.create_index("hosts_of_account", "hosts", ["project", "account"], unique=False)
    op.create_index(
        "hosts_proven", "hosts", ["project"], unique=False, sqlite_where=sa.text("proven = 1")
    )
    op.create_index("hosts_seen", "hosts", ["project", "last_seen"], unique=False)
    op.create_index(
        "hosts_trusted",
        "hosts",
        ["project", "last_seen"],
        unique=False,
        sqlite_where=sa.text("role <> 'host'"),
    )
    op.create_table(
        "metadata",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("flops_per_step", sa.Integer(), nullable=False),
        sa.Column("train_shards", sa.Integer(), nullable=False),
        sa.Column("holdout_shards", sa.Integer(), nullable=False),
        sa.Column("holdout_examples", sa.Integer(), nullable=False),
        sa.Column("chunk_flops", sa.LargeBinary(), nullable=False),
        sa.Column("published_at", sa.Float(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project", "number"),
    )
    op.create_table(
        "lies",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("length", sa.Float(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("chunk", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("lies_of_project", "lies", ["project", "seq"], unique=False)
    op.create_table(
        "pairs",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("own_class", sa.String(), nullable=False),
        sa.Column("anchor_class", sa.String(), nullable=False),
        sa.Column("distance", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("pairs_of_project", "pairs", ["project", "seq"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("quorum", sa.Integer(), nullable=False),
        sa.Column("open", sa.Integer(), nullable=False),
        sa.Column("valid", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("quorum_at", sa.Float(), nullable=True),
        sa.Column("closed_at", sa.Float(), nullable=True),
        sa.Column("swept_at", sa.Float(), nullable=True),
        sa.Column("retired_at", sa.Float(), nullable=True),
        sa.CheckConstraint("open >= 0 AND valid >= 0", name="counters"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project", "epoch", "version"),
    )
    op.create_index(
        "rounds_unretired",
        "rounds",
        ["project", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("swept_at IS NOT NULL AND retired_at IS NULL"),
    )
    op.create_index(
        "rounds_unswept",
        "rounds",
        ["project", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("closed_at IS NOT NULL AND swept_at IS NULL"),
    )
    op.create_table(
        "units",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("shard_first", sa.Integer(), nullable=False),
        sa.Column("shard_count", sa.Integer(), nullable=False),
        sa.Column("local_steps", sa.Integer(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=True),
        sa.Column("chunk", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("canonical", sa.Integer(), nullable=True),
        sa.Column("planned_at", sa.Float(), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=True),
        sa.Column("counting", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("audit_rate", sa.Float(), nullable=True),
        sa.Column("exam_at", sa.Float(), nullable=True),
        sa.Column("disputed", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("deciders", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("look_at", sa.Float(), nullable=True),
        sa.Column("spot_check", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("memory_bytes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "epoch", "version", "kind", "position"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "units_disputed", "units", ["project"], unique=False, sqlite_where=sa.text("disputed = 1")
    )
    op.create_index(
        "units_due", "units", ["project", "id"], unique=False, sqlite_where=sa.text("due = 1")
    )
    op.create_index(
        "units_exams",
        "units",
        ["project", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("exam_at IS NOT NULL"),
    )
    op.create_index(
        "units_to_look_at",
        "units",
        ["look_at"],
        unique=False,
        sqlite_where=sa.text("look_at IS NOT NULL"),
    )
    op.create_index(
        "units_to_spot_check",
        "units",
        ["project", "spot_check", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("spot_check IN ('possible', 'wanted')"),
    )
    op.create_index(
        "units_undecided",
        "units",
        ["project", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("state IN ('open', 'late')"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("arguments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "fleet_views",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("totals", sa.LargeBinary(), nullable=False),
        sa.Column("contributors", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "blob_references",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("digest", "project", "epoch", "version"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "blob_references_of_version",
        "blob_references",
        ["project", "epoch", "version"],
        unique=False,
    )
    op.create_table(
        "versions",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("metadata_number", sa.Integer(), nullable=False),
        sa.Column("difference", sa.String(), nullable=False),
        sa.Column("outer_state", sa.String(), nullable=False),
        sa.Column("snapshot", sa.String(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=True),
        sa.Column("train_loss", sa.Float(), nullable=True),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("restored_for", sa.String(), nullable=True),
        sa.Column("norms", sa.LargeBinary(), nullable=False),
        sa.Column("kept", sa.String(), nullable=False),
        sa.Column("results", sa.Integer(), nullable=False),
        sa.Column("delta_bytes", sa.Integer(), nullable=False),
        sa.Column("blob_bytes", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project", "epoch", "number"),
    )
    op.create_index(
        "versions_kept",
        "versions",
        ["project", "epoch", "number", "kept", "delta_bytes", "blob_bytes"],
        unique=False,
        sqlite_where=sa.text("kept <> 'listed'"),
    )
    op.create_index(
        "versions_restored",
        "versions",
        ["project", "epoch", "number"],
        unique=False,
        sqlite_where=sa.text("restores IS NOT NULL"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("trusted_only", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("for_class", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("for_host", sa.Integer(), nullable=True),
        sa.Column("fetch_by", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("host", sa.Integer(), nullable=True),
        sa.Column("account", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("network", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("nonce", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.Column("digest", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("size", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("loss_first", sa.Float(), nullable=True),
        sa.Column("loss_last", sa.Float(), nullable=True),
        sa.Column("compute_seconds", sa.Float(), nullable=True),
        sa.Column("norm", sa.Float(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("credit", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("ripe_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        sa.Column("verdict_sent", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["unit"],
            ["units.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "assignments_drawn",
        "assignments",
        ["for_host"],
        unique=False,
        sqlite_where=sa.text("for_host IS NOT NULL AND state = 'unsent'"),
    )
    op.create_index(
        "assignments_in_hand",
        "assignments",
        ["host"],
        unique=False,
        sqlite_where=sa.text("state IN ('leased', 'uploading')"),
    )
    op.create_index(
        "assignments_leases",
        "assignments",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state IN ('leased', 'uploading')"),
    )
    op.create_index("assignments_of_unit", "assignments", ["unit"], unique=False)
    op.create_index(
        "assignments_reported",
        "assignments",
        ["unit"],
        unique=False,
        sqlite_where=sa.text("state = 'reported'"),
    )
    op.create_index(
        "assignments_to_fetch",
        "assignments",
        ["fetch_by"],
        unique=False,
        sqlite_where=sa.text("fetch_by IS NOT NULL AND state = 'unsent'"),
    )
    op.create_index(
        "assignments_unjudged",
        "assignments",
        ["unit", "host"],
        unique=False,
        sqlite_where=sa.text("state IN ('uploading', 'reported')"),
    )
    op.create_index(
        "assignments_unripe",
        "assignments",
        ["host", "ripe_at"],
        unique=False,
        sqlite_where=sa.text("ripe_at IS NOT NULL"),
    )
    op.create_index(
        "assignments_unsent",
        "assignments",
        ["project", "purpose", "trusted_only", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'unsent'"),
    )
    op.create_index(
        "assignments_unsent_verdicts",
        "assignments",
        ["host"],
        unique=False,
        sqlite_where=sa.text("verdict IS NOT NULL AND verdict_sent = 0"),
    )
    op.create_index(
        "assignments_unsent_versions",
        "assignments",
        ["project", "epoch", "version"],
        unique=False,
        sqlite_where=sa.text("state = 'unsent'"),
    )
    op.create_table(
        "calibrations",
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("runtime", sa.String(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("seconds_per_step", sa.Float(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host"],
            ["hosts.id"],
        ),
        sa.PrimaryKeyConstraint("host", "runtime"),
    )
    op.create_index("calibrations_by_digest", "calibrations", ["project", "digest"], unique=False)
    op.create_table(
        "host_networks",
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host"],
            ["hosts.id"],
        ),
        sa.PrimaryKeyConstraint("host", "network"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "replies",
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host"],
            ["hosts.id"],
        ),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "deltas",
        sa.Column("assignment", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["assignment"],
            ["assignments.id"],
        ),
        sa.PrimaryKeyConstraint("assignment"),
    )
    op.create_table(
        "traits",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("assignment", sa.Integer(), nullable=False),
        sa.Column("norm", sa.Float(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("loss_first", sa.Float(), nullable=True),
        sa.Column("loss_last", sa.Float(), nullable=True),
        sa.Column("chunk", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["assignment"],
            ["assignments.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("assignment"),
    )
    op.create_index("traits_of_project", "traits", ["project", "seq"], unique=False)
    # ### end Alembic commands ###
