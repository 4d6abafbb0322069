"""The first schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

from pleb_coordinator.store.schema_types import FLAG, INTEGER, TEXT, where

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


# Tables whose rows change often leave room in each page, so that a changed row stays in its page
# and no index is touched; and they are cleaned while they are still small.
_CHANGING = (
    "assignments",
    "units",
    "hosts",
    "rounds",
    "projects",
    "replies",
    "shares",
    "claims",
    "received",
)


def upgrade() -> None:  # noqa: PLR0915 - a statement for each table and index
    op.create_table(
        "claims",
        sa.Column("job", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "class_distances",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("first", TEXT, nullable=False),
        sa.Column("second", TEXT, nullable=False),
        sa.Column("distance", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "first", "second"),
    )
    op.create_table(
        "classes",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("assignment", INTEGER, nullable=False),
        sa.Column("measured", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("accounts", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("trusted", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("isolated", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "digest"),
    )
    op.create_table(
        "evaluations",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("assignment", INTEGER, nullable=False),
        sa.Column("metrics", sa.LargeBinary(), nullable=False),
        sa.Column("examples", INTEGER, nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "epoch", "version"),
    )
    op.create_table(
        "showings",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("card", TEXT, nullable=False),
        sa.Column("shown", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "epoch", "version"),
    )
    op.create_index(
        "showings_of_card", "showings", ["project", "epoch", "card", "version"], unique=False
    )
    op.create_table(
        "events",
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("unit", INTEGER, nullable=True),
        sa.Column("host", INTEGER, nullable=True),
        sa.Column("detail", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_project", "events", ["project", "seq"], unique=False)
    op.create_index("events_of_unit", "events", ["unit"], unique=False, **where("unit IS NOT NULL"))
    op.create_table(
        "invites",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("note", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("revoked", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("team", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("proven", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("uses", INTEGER, server_default=sa.text("1"), nullable=False),
        sa.Column("used", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("project", TEXT, server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_table(
        "admins",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("projects", sa.LargeBinary(), nullable=False),
        sa.Column("code_hash", TEXT, nullable=False),
        sa.Column("code_expires_at", sa.Float(), nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("last_seen", sa.Float(), nullable=True),
        sa.Column("sequence", INTEGER, nullable=False),
        sa.Column("revoked", FLAG, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "admin_sessions",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("admin", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("entered", FLAG, nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_table(
        "projects",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("root_key", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("stopped_for", sa.LargeBinary(), nullable=True),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("metadata_number", INTEGER, nullable=False),
        sa.Column("tolerance", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("active_accounts", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("proven_hosts", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("new_hosts", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("median_step_seconds", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("restoring", INTEGER, nullable=True),
        sa.Column("restoring_for", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("restored_at", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("extended", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("key_numbers", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("brought_keys", sa.LargeBinary(), nullable=False),
        sa.Column("records_at", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shares",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("taken", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("project", "epoch", "version", "holder"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tombstones",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("condemned", FLAG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_index(
        "tombstones_condemned",
        "tombstones",
        ["name"],
        unique=False,
        **where("condemned = 1"),
    )
    op.create_index(
        "tombstones_due",
        "tombstones",
        ["due_at"],
        unique=False,
        **where("condemned = 0"),
    )
    op.create_table(
        "uploads",
        sa.Column("token", TEXT, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("assignment", INTEGER, nullable=True),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("size", INTEGER, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("complete", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("landed_at", sa.Float(), nullable=True),
        sa.Column("check_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_index("uploads_by_assignment", "uploads", ["assignment"], unique=False)
    op.create_index("uploads_by_digest", "uploads", ["digest"], unique=False)
    op.create_index(
        "uploads_open",
        "uploads",
        ["expires_at"],
        unique=False,
        **where("complete = 0"),
    )
    op.create_index(
        "uploads_landed",
        "uploads",
        ["project", "check_at"],
        unique=False,
        **where("complete = 0 AND check_at IS NOT NULL"),
    )
    op.create_table(
        "received",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("bytes", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project", "source"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "alarms",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("audit_floor", sa.Float(), nullable=False),
        sa.Column("audit_record", sa.Float(), nullable=False),
        sa.Column("raised_at", INTEGER, nullable=False),
        sa.Column("counted", INTEGER, nullable=False),
        sa.Column("surge_until", INTEGER, nullable=False),
        sa.Column("spot_checks", INTEGER, nullable=False),
        sa.Column("lies", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "convictions",
        sa.Column("unit", INTEGER, nullable=False),
        sa.Column("host", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("record", INTEGER, nullable=False),
        sa.Column("proven", FLAG, nullable=False),
        sa.Column("credit", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("unit", "host"),
    )
    op.create_table(
        "departed",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("units_valid", INTEGER, nullable=False),
        sa.Column("refused", INTEGER, nullable=False),
        sa.Column("bans", INTEGER, nullable=False),
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
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("network", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("display_name", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("agent", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("sequence", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("request_digest", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("runtime", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("determinism_class", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("seconds_per_step", sa.Float(), nullable=True),
        sa.Column("record", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("proven", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("suspended_by", INTEGER, nullable=True),
        sa.Column("recent", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("setbacks", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("fastest_step_seconds", sa.Float(), nullable=True),
        sa.Column("paced_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("bans", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("banned_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("ban_reason", sa.LargeBinary(), nullable=True),
        sa.Column("credit", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("units_valid", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("enrolled_at", sa.Float(), nullable=False),
        sa.Column("last_seen", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_asked", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("shards", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("team", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("invite", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("enrolled_from", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("refuses", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("memory_bytes", INTEGER, nullable=True),
        sa.Column("upload_bytes_per_second", sa.Float(), nullable=True),
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
    op.create_index("hosts_proven", "hosts", ["project"], unique=False, **where("proven = 1"))
    op.create_index(
        "hosts_suspended",
        "hosts",
        ["project"],
        unique=False,
        **where("suspended_by IS NOT NULL"),
    )
    op.create_index("hosts_seen", "hosts", ["project", "last_seen"], unique=False)
    op.create_index(
        "hosts_trusted",
        "hosts",
        ["project", "last_seen"],
        unique=False,
        **where("role <> 'host'"),
    )
    op.create_table(
        "metadata",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("flops_per_step", INTEGER, nullable=False),
        sa.Column("train_shards", INTEGER, nullable=False),
        sa.Column("holdout_shards", INTEGER, nullable=False),
        sa.Column("holdout_examples", INTEGER, nullable=False),
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
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("unit", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("length", sa.Float(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("chunk", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("lies_of_project", "lies", ["project", "seq"], unique=False)
    op.create_table(
        "pairs",
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("network", TEXT, nullable=False),
        sa.Column("own_class", TEXT, nullable=False),
        sa.Column("anchor_class", TEXT, nullable=False),
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
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("units", INTEGER, nullable=False),
        sa.Column("quorum", INTEGER, nullable=False),
        sa.Column("open", INTEGER, nullable=False),
        sa.Column("valid", INTEGER, nullable=False),
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
        **where("swept_at IS NOT NULL AND retired_at IS NULL"),
    )
    op.create_index(
        "rounds_unswept",
        "rounds",
        ["project", "epoch", "version"],
        unique=False,
        **where("closed_at IS NOT NULL AND swept_at IS NULL"),
    )
    op.create_table(
        "units",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("position", INTEGER, nullable=False),
        sa.Column("seed", INTEGER, nullable=False),
        sa.Column("shard_first", INTEGER, nullable=False),
        sa.Column("shard_count", INTEGER, nullable=False),
        sa.Column("local_steps", INTEGER, nullable=False),
        sa.Column("versions", INTEGER, nullable=True),
        sa.Column("batches_per_step", INTEGER, nullable=False),
        sa.Column("chunk", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("revision", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("due", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("canonical", INTEGER, nullable=True),
        sa.Column("planned_at", sa.Float(), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=True),
        sa.Column("counting", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("audit_rate", sa.Float(), nullable=True),
        sa.Column("exam_at", sa.Float(), nullable=True),
        sa.Column("disputed", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("deciders", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("look_at", sa.Float(), nullable=True),
        sa.Column("spot_check", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("memory_bytes", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "epoch", "version", "kind", "position"),
        sqlite_autoincrement=True,
    )
    op.create_index("units_disputed", "units", ["project"], unique=False, **where("disputed = 1"))
    op.create_index("units_due", "units", ["project", "id"], unique=False, **where("due = 1"))
    op.create_index(
        "units_exams",
        "units",
        ["project", "epoch", "version"],
        unique=False,
        **where("exam_at IS NOT NULL"),
    )
    op.create_index(
        "units_to_look_at",
        "units",
        ["look_at"],
        unique=False,
        **where("look_at IS NOT NULL"),
    )
    op.create_index(
        "units_to_spot_check",
        "units",
        ["project", "spot_check", "epoch", "version"],
        unique=False,
        **where("spot_check IN ('possible', 'wanted')"),
    )
    op.create_index(
        "units_undecided",
        "units",
        ["project", "epoch", "version"],
        unique=False,
        **where("state IN ('open', 'late')"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("command", TEXT, nullable=False),
        sa.Column("project", TEXT, nullable=False),
        sa.Column("arguments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "fleet_views",
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("totals", sa.LargeBinary(), nullable=False),
        sa.Column("contributors", sa.LargeBinary(), nullable=False),
        sa.Column("teams", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.id"],
        ),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "blob_references",
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
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
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("metadata_number", INTEGER, nullable=False),
        sa.Column("difference", TEXT, nullable=False),
        sa.Column("outer_state", TEXT, nullable=False),
        sa.Column("snapshot", TEXT, nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=True),
        sa.Column("train_loss", sa.Float(), nullable=True),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.Column("restores", INTEGER, nullable=True),
        sa.Column("restored_for", TEXT, nullable=True),
        sa.Column("norms", sa.LargeBinary(), nullable=False),
        sa.Column("kept", TEXT, nullable=False),
        sa.Column("results", INTEGER, nullable=False),
        sa.Column("delta_bytes", INTEGER, nullable=False),
        sa.Column("blob_bytes", INTEGER, nullable=False),
        sa.Column("noise", TEXT, nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=True),
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
        **where("kept <> 'listed'"),
    )
    op.create_index(
        "versions_restored",
        "versions",
        ["project", "epoch", "number"],
        unique=False,
        **where("restores IS NOT NULL"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("unit", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("trusted_only", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("for_class", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("for_host", INTEGER, nullable=True),
        sa.Column("fetch_by", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("host", INTEGER, nullable=True),
        sa.Column("account", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("network", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("nonce", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.Column("digest", TEXT, server_default=sa.text("''"), nullable=False),
        sa.Column("size", INTEGER, server_default=sa.text("0"), nullable=False),
        sa.Column("loss_first", sa.Float(), nullable=True),
        sa.Column("loss_last", sa.Float(), nullable=True),
        sa.Column("compute_seconds", sa.Float(), nullable=True),
        sa.Column("norm", sa.Float(), nullable=True),
        sa.Column("verdict", TEXT, nullable=True),
        sa.Column("credit", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("ripe_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        sa.Column("verdict_sent", FLAG, server_default=sa.text("0"), nullable=False),
        sa.Column("out_of_turn", FLAG, server_default=sa.text("0"), nullable=False),
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
        **where("for_host IS NOT NULL AND state = 'unsent'"),
    )
    op.create_index(
        "assignments_in_hand",
        "assignments",
        ["host"],
        unique=False,
        **where("state IN ('leased', 'uploading')"),
    )
    op.create_index(
        "assignments_first_tries",
        "assignments",
        ["project", "epoch", "version"],
        unique=False,
        **where("state IN ('leased', 'uploading') AND purpose = 'primary'"),
    )
    op.create_index(
        "assignments_leases",
        "assignments",
        ["lease_until"],
        unique=False,
        **where("state IN ('leased', 'uploading')"),
    )
    op.create_index("assignments_of_unit", "assignments", ["unit"], unique=False)
    op.create_index(
        "assignments_reported",
        "assignments",
        ["unit", "project", "epoch"],
        unique=False,
        **where("state = 'reported'"),
    )
    op.create_index(
        "assignments_to_fetch",
        "assignments",
        ["fetch_by"],
        unique=False,
        **where("fetch_by IS NOT NULL AND state = 'unsent'"),
    )
    op.create_index(
        "assignments_unjudged",
        "assignments",
        ["unit", "host"],
        unique=False,
        **where("state IN ('uploading', 'reported')"),
    )
    op.create_index(
        "assignments_unripe",
        "assignments",
        ["host", "ripe_at"],
        unique=False,
        **where("ripe_at IS NOT NULL"),
    )
    op.create_index(
        "assignments_unsent",
        "assignments",
        ["project", "purpose", "trusted_only", "id"],
        unique=False,
        **where("state = 'unsent'"),
    )
    op.create_index(
        "assignments_unsent_verdicts",
        "assignments",
        ["host"],
        unique=False,
        **where("verdict IS NOT NULL AND verdict_sent = 0"),
    )
    op.create_index(
        "assignments_unsent_versions",
        "assignments",
        ["project", "epoch", "version"],
        unique=False,
        **where("state = 'unsent'"),
    )
    op.create_table(
        "calibrations",
        sa.Column("host", INTEGER, nullable=False),
        sa.Column("runtime", TEXT, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("trusted", FLAG, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
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
        sa.Column("host", INTEGER, nullable=False),
        sa.Column("network", TEXT, nullable=False),
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
        sa.Column("host", INTEGER, nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host"],
            ["hosts.id"],
        ),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "deltas",
        sa.Column("assignment", INTEGER, nullable=False),
        sa.Column("size", INTEGER, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("digest", TEXT, server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(
            ["assignment"],
            ["assignments.id"],
        ),
        sa.PrimaryKeyConstraint("assignment"),
    )
    op.create_table(
        "traits",
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("project", INTEGER, nullable=False),
        sa.Column("epoch", INTEGER, nullable=False),
        sa.Column("assignment", INTEGER, nullable=False),
        sa.Column("norm", sa.Float(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("unit", INTEGER, nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("loss_first", sa.Float(), nullable=True),
        sa.Column("loss_last", sa.Float(), nullable=True),
        sa.Column("chunk", TEXT, nullable=False),
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
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE commit_numbers")
        op.execute("SELECT setval('commit_numbers', 1)")
        for table in _CHANGING:
            op.execute(
                f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,"
                " autovacuum_vacuum_cost_delay = 0)"
            )
