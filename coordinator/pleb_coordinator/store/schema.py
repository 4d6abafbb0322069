"""The schema, as SQLAlchemy Core tables.

A table's columns are its record's fields (`core.records`), in types that `store.rows` converts.
This module adds what a record does not say: keys, defaults, indices, and tables without a
record. Only `migrate` and tests import this module, because SQLAlchemy takes long to import.

Every index serves a named query. Partial indices hold only rows that are not finished, so they
stay small however many finished rows there are.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from pleb_coordinator.core.leaning import Lie
from pleb_coordinator.core.records import (
    Admin,
    AdminSession,
    Alarm,
    Assignment,
    AuditEntry,
    CalibrationClass,
    Conviction,
    Evaluation,
    Event,
    Facts,
    Host,
    Invite,
    Project,
    Round,
    Showing,
    StoredDelta,
    Tombstone,
    UnitRow,
    Upload,
    VersionRow,
)
from pleb_coordinator.core.suspicion import Traits
from pleb_coordinator.core.tolerance import ConfirmedPair
from pleb_coordinator.store.rows import without_none
from pleb_coordinator.store.schema_types import FLAG, INTEGER, TEXT, where

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pleb_coordinator.core.records import Record

__all__ = ["metadata"]

metadata: Final = MetaData()

_KINDS: Final[Mapping[Any, Any]] = {bool: FLAG, int: INTEGER, float: Float, str: TEXT}


def _columns(
    record: type[Record],
    /,
    *,
    keys: str = "",
    references: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    last: str = "",
    **defaults: float | str,
) -> Iterator[Column[Any]]:
    """Yield a column for each field; one that may be None is nullable.

    Args:
        record: whose fields become columns.
        keys: the names of the primary key's columns, separated by spaces.
        references: by field, the column of another table that it refers to.
        without: fields that are stored elsewhere.
        last: the field whose column comes last, because its values are long: SQLite reads a row up
            to the last column that is wanted.
        defaults: by field, its value in rows that are added without it.
    """
    for field in sorted(msgspec.structs.fields(record), key=lambda field: field.name == last):
        if field.name in without:
            continue
        kind = without_none(field.type)
        text_like = isinstance(kind, type) and issubclass(kind, Enum)
        target = (references or {}).get(field.name)
        default = defaults.get(field.name)
        yield Column(
            field.name,
            TEXT if text_like else _KINDS.get(kind, LargeBinary),
            *([] if target is None else [ForeignKey(target)]),
            primary_key=field.name in keys.split(),
            nullable=kind is not field.type,
            server_default=None if default is None else text(repr(default)),
        )


_PROJECT: Final = {"project": "projects.id"}

Table(
    "projects",
    metadata,
    *_columns(
        Project,
        keys="id",
        without=("facts", "metadata"),
        tolerance=0,
        active_accounts=0,
        proven_hosts=0,
        new_hosts=0,
        median_step_seconds=0,
        restored_at=0,
        extended=0,
        key_numbers="",
        records_at=0,
    ),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,  # caches and hosts know numbers: no later row may have the same
)

Table(
    "metadata",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("number", INTEGER, primary_key=True),
    *_columns(Facts),
    Column("published_at", Float, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

Table(
    "versions",
    metadata,
    *_columns(VersionRow, keys="project epoch number", references=_PROJECT, last="inputs"),
    Index(
        "versions_kept",
        "project",
        "epoch",
        "number",
        "kept",
        "delta_bytes",
        "blob_bytes",
        **where("kept <> 'listed'"),
    ),
    Index(
        "versions_restored",
        "project",
        "epoch",
        "number",
        **where("restores IS NOT NULL"),
    ),
)

Table(
    "blob_references",
    metadata,
    Column("digest", TEXT, primary_key=True),
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("epoch", INTEGER, primary_key=True),
    Column("version", INTEGER, primary_key=True),
    Index("blob_references_of_version", "project", "epoch", "version"),
    sqlite_with_rowid=False,
)

Table(
    "rounds",
    metadata,
    *_columns(Round, keys="project epoch version", references=_PROJECT),
    Index(
        "rounds_unswept",
        "project",
        "epoch",
        "version",
        **where("closed_at IS NOT NULL AND swept_at IS NULL"),
    ),
    Index(
        "rounds_unretired",
        "project",
        "epoch",
        "version",
        **where("swept_at IS NOT NULL AND retired_at IS NULL"),
    ),
    CheckConstraint("open >= 0 AND valid >= 0", name="counters"),
)

Table(
    "units",
    metadata,
    *_columns(
        UnitRow,
        keys="id",
        references=_PROJECT,
        revision=0,
        due=0,
        counting="",
        disputed=0,
        deciders=0,
        spot_check="",
        memory_bytes=0,
    ),
    UniqueConstraint("project", "epoch", "version", "kind", "position"),
    Index("units_due", "project", "id", **where("due = 1")),
    Index(
        "units_undecided",
        "project",
        "epoch",
        "version",
        **where("state IN ('open', 'late')"),
    ),
    Index("units_to_look_at", "look_at", **where("look_at IS NOT NULL")),
    Index("units_disputed", "project", **where("disputed = 1")),
    Index("units_exams", "project", "epoch", "version", **where("exam_at IS NOT NULL")),
    Index(
        "units_to_spot_check",
        "project",
        "spot_check",
        "epoch",
        "version",
        **where("spot_check IN ('possible', 'wanted')"),
    ),
    sqlite_autoincrement=True,
)

_UNSENT: Final = where("state = 'unsent'")
_REPORTED: Final = where("state = 'reported'")
_UNJUDGED: Final = where("state IN ('uploading', 'reported')")
_VERDICT_UNSENT: Final = where("verdict IS NOT NULL AND verdict_sent = 0")
_LIVE: Final = where("state IN ('leased', 'uploading')")
Table(
    "assignments",
    metadata,
    *_columns(
        Assignment,
        keys="id",
        references={"unit": "units.id"},  # its host may have been removed: see steps.retain
        trusted_only=0,
        for_class="",
        account="",
        network="",
        nonce="",
        digest="",
        size=0,
        credit=0,
        verdict_sent=0,
        out_of_turn=0,
    ),
    Index("assignments_of_unit", "unit"),
    Index("assignments_unsent", "project", "purpose", "trusted_only", "id", **_UNSENT),
    Index("assignments_unsent_versions", "project", "epoch", "version", **_UNSENT),
    Index(
        "assignments_drawn",
        "for_host",
        **where("for_host IS NOT NULL AND state = 'unsent'"),
    ),
    Index(
        "assignments_to_fetch",
        "fetch_by",
        **where("fetch_by IS NOT NULL AND state = 'unsent'"),
    ),
    Index("assignments_reported", "unit", "project", "epoch", **_REPORTED),
    Index("assignments_unjudged", "unit", "host", **_UNJUDGED),
    Index("assignments_in_hand", "host", **_LIVE),
    Index(
        "assignments_first_tries",
        "project",
        "epoch",
        "version",
        **where("state IN ('leased', 'uploading') AND purpose = 'primary'"),
    ),
    Index("assignments_leases", "lease_until", **_LIVE),
    Index("assignments_unsent_verdicts", "host", **_VERDICT_UNSENT),
    Index("assignments_unripe", "host", "ripe_at", **where("ripe_at IS NOT NULL")),
    sqlite_autoincrement=True,
)

Table(
    "hosts",
    metadata,
    *_columns(
        Host,
        keys="id",
        references=_PROJECT,
        network="",
        display_name="",
        agent="",
        sequence=0,
        request_digest="",
        runtime="",
        determinism_class="",
        record=0,
        proven=0,
        recent=0,
        setbacks=0,
        paced_until=0,
        refused=0,
        bans=0,
        banned_until=0,
        credit=0,
        units_valid=0,
        last_seen=0,
        last_asked=0,
        shards="",
        team="",
        invite="",
        enrolled_from="",
        refuses="",
    ),
    UniqueConstraint("project", "fingerprint"),
    Index("hosts_of_account", "project", "account"),
    Index("hosts_from_network", "project", "enrolled_from", "enrolled_at"),
    Index("hosts_seen", "project", "last_seen"),
    Index("hosts_trusted", "project", "last_seen", **where("role <> 'host'")),
    Index("hosts_proven", "project", **where("proven = 1")),
    Index("hosts_suspended", "project", **where("suspended_by IS NOT NULL")),
    sqlite_autoincrement=True,
)

Table("convictions", metadata, *_columns(Conviction, keys="unit host", references=_PROJECT))

Table("alarms", metadata, *_columns(Alarm, keys="project", references=_PROJECT))

Table(
    "departed",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("account", TEXT, primary_key=True),
    Column("display_name", TEXT, nullable=False),
    Column("team", TEXT, nullable=False),
    Column("units_valid", INTEGER, nullable=False),
    Column("refused", INTEGER, nullable=False),
    Column("bans", INTEGER, nullable=False),
    Column("credit", Float, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "fleet_views",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("totals", LargeBinary, nullable=False),
    Column("contributors", LargeBinary, nullable=False),
    Column("teams", LargeBinary, nullable=False),
)

Table(
    "host_networks",
    metadata,
    Column("host", ForeignKey("hosts.id"), primary_key=True),
    Column("network", TEXT, primary_key=True),
    Column("seen_at", Float, nullable=False),
    sqlite_with_rowid=False,
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
    Column("project", INTEGER, primary_key=True),
    Column("epoch", INTEGER, primary_key=True),
    Column("version", INTEGER, primary_key=True),
    Column("holder", TEXT, primary_key=True),
    Column("taken", INTEGER, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "received",
    metadata,
    Column("project", ForeignKey("projects.id"), primary_key=True),
    Column("source", TEXT, primary_key=True),
    Column("bytes", INTEGER, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "calibrations",
    metadata,
    Column("host", ForeignKey("hosts.id"), primary_key=True),
    Column("runtime", TEXT, primary_key=True),
    Column("project", INTEGER, nullable=False),
    Column("account", TEXT, nullable=False),
    Column("trusted", FLAG, nullable=False),
    Column("digest", TEXT, nullable=False),
    Column("seconds_per_step", Float, nullable=False),
    Column("made_at", Float, nullable=False),
    Index("calibrations_by_digest", "project", "digest"),
)

Table(
    "classes",
    metadata,
    *_columns(
        CalibrationClass,
        keys="project digest",
        measured=0,
        accounts=0,
        trusted=0,
        isolated=0,
    ),
)

Table(
    "class_distances",
    metadata,
    Column("project", INTEGER, primary_key=True),
    Column("first", TEXT, primary_key=True),
    Column("second", TEXT, primary_key=True),
    Column("distance", Float, nullable=False),
)

Table(
    "traits",
    metadata,
    Column("seq", INTEGER, primary_key=True),
    Column("project", ForeignKey("projects.id"), nullable=False),
    Column("epoch", INTEGER, nullable=False),
    Column("assignment", ForeignKey("assignments.id"), nullable=False, unique=True),
    *_columns(Traits),
    Index("traits_of_project", "project", "seq"),
)

Table(
    "lies",
    metadata,
    Column("seq", INTEGER, primary_key=True),
    Column("project", ForeignKey("projects.id"), nullable=False),
    Column("epoch", INTEGER, nullable=False),
    *_columns(Lie),
    Index("lies_of_project", "project", "seq"),
)

Table(
    "pairs",
    metadata,
    Column("seq", INTEGER, primary_key=True),
    Column("project", ForeignKey("projects.id"), nullable=False),
    Column("epoch", INTEGER, nullable=False),
    *_columns(ConfirmedPair),
    Index("pairs_of_project", "project", "seq"),
)

Table(
    "deltas",
    metadata,
    *_columns(
        StoredDelta, keys="assignment", references={"assignment": "assignments.id"}, digest=""
    ),
)

Table(
    "uploads",
    metadata,
    *_columns(Upload, keys="token", complete=0),
    Index("uploads_by_assignment", "assignment"),
    Index("uploads_by_digest", "digest"),
    Index("uploads_open", "expires_at", **where("complete = 0")),
    Index(
        "uploads_landed",
        "project",
        "check_at",
        **where("complete = 0 AND check_at IS NOT NULL"),
    ),
)

Table(
    "claims",
    metadata,
    Column("job", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    Column("holder", TEXT, nullable=False),
    Column("expires_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

Table(
    "tombstones",
    metadata,
    *_columns(Tombstone, keys="kind name", condemned=0),
    Index("tombstones_due", "due_at", **where("condemned = 0")),
    Index("tombstones_condemned", "name", **where("condemned = 1")),
)

Table(
    "invites",
    metadata,
    *_columns(
        Invite, keys="token_hash", note="", revoked=0, team="", proven=0, uses=1, used=0, project=""
    ),
)

Table("admins", metadata, *_columns(Admin, keys="name"))

Table("admin_sessions", metadata, *_columns(AdminSession, keys="token_hash"))

Table("evaluations", metadata, *_columns(Evaluation, keys="project epoch version"))

Table(
    "showings",
    metadata,
    *_columns(Showing, keys="project epoch version"),
    Index("showings_of_card", "project", "epoch", "card", "version"),
)

Table("audit", metadata, *_columns(AuditEntry, keys="seq"), sqlite_autoincrement=True)

Table(
    "events",
    metadata,
    *_columns(Event, keys="seq"),
    Index("events_of_project", "project", "seq"),
    Index("events_of_unit", "unit", **where("unit IS NOT NULL")),
    sqlite_autoincrement=True,
)
