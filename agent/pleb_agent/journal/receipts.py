"""Receipts: the accepted units of this PC, what each took, and which version it counts for.

They stay when the units are forgotten, and when a project is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.journal.activity_log import local_day
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.report import DeltaResult, Report
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pleb_agent.journal.activity_log import ActivityLog
    from pleb_agent.journal.rows import ProjectRow
    from pleb_shared.protocol.messages import UnitVerdict

__all__ = [
    "Proof",
    "Receipt",
    "ReceiptDay",
    "receipt_days",
    "receipts_of_project",
    "receipts_since",
    "remove_old_receipts",
    "set_proofs",
    "write_receipt",
]

_KEPT_SECONDS: Final = 3 * 366 * 86_400.0

_WRITE: Final = """INSERT INTO receipts (base_url, project, host, nonce, digest, unit, kind, epoch,
        version, at, day, credit, compute_seconds, kwh, measured_kwh)
    SELECT base_url, name, host, :nonce, :digest, :unit, :kind, :epoch, :version, :at, :day,
        :credit, :compute_seconds, :kwh, :measured_kwh
    FROM projects WHERE id = :project
    ON CONFLICT (base_url, project, nonce) DO UPDATE SET credit = excluded.credit"""
_REMOVE: Final = """DELETE FROM receipts WHERE nonce = :nonce AND (base_url, project) =
    (SELECT base_url, name FROM projects WHERE id = :project)"""
_DAYS: Final = """SELECT day, project, count(*) AS units, sum(compute_seconds) AS compute_seconds,
        sum(kwh) AS kwh, sum(measured_kwh) AS measured_kwh, sum(credit) AS credit
    FROM receipts WHERE day >= ? GROUP BY day, project ORDER BY day DESC, project"""


class Proof(StrEnum):
    """What is known of a receipt from the signed log of versions."""

    NOT_LOOKED = ""
    IN = "in"
    """It is in its version's list."""
    TAKEN_BACK = "taken_back"
    """It was, and the project went back to an earlier version."""
    MISSING = "missing"
    """It is not: it was confirmed after the version was made, or left out."""


@dataclass(frozen=True)
class Receipt:
    """An accepted unit. Energy in kWh; `version`: the one that it counts for."""

    id: int
    base_url: str
    project: str
    host: str
    nonce: str
    digest: str
    unit: int
    kind: str
    epoch: int
    version: int
    at: float
    day: str
    credit: float
    compute_seconds: float
    kwh: float
    measured_kwh: float
    proof: Proof


@dataclass(frozen=True)
class ReceiptDay:
    """The accepted units of a local day and a project."""

    day: str
    project: str
    units: int
    compute_seconds: float
    kwh: float
    measured_kwh: float
    credit: float


def write_receipt(
    db: sqlite3.Connection, project: int, row: sqlite3.Row, verdict: UnitVerdict, now: float
) -> None:
    """Write the receipt of a unit that was accepted; remove that of one that no longer is.

    `row`: of its assignment. It belongs to the caller's transaction.
    """
    if verdict.verdict is not Verdict.VALID or not row["report"]:
        db.execute(_REMOVE, {"nonce": row["nonce"], "project": project})
        return
    unit = msgspec.json.decode(row["manifest"], type=Manifest).unit
    report = msgspec.json.decode(row["report"], type=Report)
    trained = unit.kind is UnitKind.TRAIN
    values = {
        "project": project,
        "nonce": row["nonce"],
        "digest": report.result.digest if isinstance(report.result, DeltaResult) else "",
        "unit": verdict.unit,
        "kind": unit.kind.value,
        "epoch": unit.epoch,
        "version": unit.version + 1 if trained else unit.version,
        "at": now,
        "day": local_day(now),
        "credit": verdict.credit,
        "compute_seconds": report.compute_seconds,
        "kwh": row["kwh"],
        "measured_kwh": row["measured_kwh"],
    }
    db.execute(_WRITE, values)


def remove_old_receipts(db: sqlite3.Connection, now: float) -> None:
    """Remove the receipts of days that nobody looks at any more."""
    db.execute("DELETE FROM receipts WHERE day < ?", (local_day(now - _KEPT_SECONDS),))


def receipts_since(journal: ActivityLog, day: str) -> list[Receipt]:
    """Return the receipts from that local day on, newest first."""
    sql = "SELECT * FROM receipts WHERE day >= ? ORDER BY day DESC, id DESC"
    return [_read(row) for row in journal.rows(sql, (day,))]


def receipts_of_project(journal: ActivityLog, row: ProjectRow) -> list[Receipt]:
    """Return the receipts of trained units of a project, by the versions that they count for."""
    sql = """SELECT * FROM receipts WHERE (base_url, project) = (?, ?) AND kind = 'train'
        ORDER BY epoch, version, id"""
    return [_read(found) for found in journal.rows(sql, (row.base_url, row.name))]


def receipt_days(journal: ActivityLog, day: str) -> list[ReceiptDay]:
    """Return the days from that one on which units were accepted, newest first, by project."""
    return [ReceiptDay(**dict(row)) for row in journal.rows(_DAYS, (day,))]


def set_proofs(journal: ActivityLog, proofs: Iterable[tuple[int, Proof]]) -> None:
    """Remember what the log says of receipts, by their ids."""
    with journal.transaction():
        journal.db.executemany(
            "UPDATE receipts SET proof = ? WHERE id = ?",
            [(proof.value, number) for number, proof in proofs],
        )


def _read(row: sqlite3.Row) -> Receipt:
    return Receipt(**{**dict(row), "proof": Proof(row["proof"])})
