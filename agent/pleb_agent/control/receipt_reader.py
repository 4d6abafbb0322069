"""Receipts as the faces show them, and what the signed logs say of them."""

from __future__ import annotations

import csv
import io
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.client.http import HttpClient
from pleb_agent.control.journal_reader import find_all_attached
from pleb_agent.control.views import (
    AllVerifiedView,
    ReceiptDayView,
    ReceiptsView,
    ReceiptView,
    VerifiedView,
)
from pleb_agent.journal.activity_log import local_day
from pleb_agent.journal.receipts import receipt_days, receipts_since
from pleb_agent.loop.verify import verify
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import check_base_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pleb_agent.control.requests import VerifyRequest
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.attach import Attaching

__all__ = ["MOST_DAYS", "read_receipts", "receipts_csv", "verify_projects"]

MOST_DAYS: Final = 3 * 366
_COLUMNS: Final = (
    *("accepted_at", "day", "project", "unit", "kind", "epoch", "version", "credit_flops"),
    *("compute_seconds", "kwh", "measured_kwh", "co2_grams", "proof"),
)


def read_receipts(
    journal: Journal, days: int, grams_per_kwh: float, now: float, *, each: bool = False
) -> ReceiptsView:
    """Return the receipts of the last `days` days; `each`: also every single one.

    `grams_per_kwh`: of CO2; 0: it is not known.
    """
    since = _first_day(now, days)
    found = [
        ReceiptDayView(
            day=one.day,
            project=one.project,
            units=one.units,
            compute_seconds=one.compute_seconds,
            kwh=one.kwh,
            measured_kwh=one.measured_kwh,
            credit=one.credit,
            co2_grams=_grams(one.kwh, grams_per_kwh),
        )
        for one in receipt_days(journal, since)
    ]
    energy = sum(one.kwh for one in found)
    sums = journal.days(MOST_DAYS)
    return ReceiptsView(
        since=since,
        days=found,
        receipts=_receipts(journal, since, grams_per_kwh) if each else [],
        units=sum(one.units for one in found),
        kwh=energy,
        measured_kwh=sum(one.measured_kwh for one in found),
        co2_grams=_grams(energy, grams_per_kwh),
        spent_kwh=sum(one.get("energy_kwh", 0.0) for day, one in sums.items() if day >= since),
        co2_grams_per_kwh=grams_per_kwh,
    )


def receipts_csv(receipts: Iterable[ReceiptView]) -> str:
    """Return receipts as a table for other programs (RFC 4180): times in UTC, numbers with a dot.

    A kWh is `measured_kwh` measured and the rest estimated; an empty `co2_grams` is not known.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for one in receipts:
        table.writerow(
            [
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at)),
                *(one.day, one.project, one.unit, one.kind, one.epoch, one.version),
                f"{one.credit:.0f}",
                f"{one.compute_seconds:.3f}",
                f"{one.kwh:.9f}",
                f"{one.measured_kwh:.9f}",
                "" if one.co2_grams is None else f"{one.co2_grams:.6f}",
                one.proof,
            ]
        )
    return text.getvalue()


def _receipts(journal: Journal, since: str, grams_per_kwh: float) -> list[ReceiptView]:
    return [
        ReceiptView(
            at=one.at,
            day=one.day,
            project=one.project,
            unit=one.unit,
            kind=one.kind,
            epoch=one.epoch,
            version=one.version,
            credit=one.credit,
            compute_seconds=one.compute_seconds,
            kwh=one.kwh,
            measured_kwh=one.measured_kwh,
            co2_grams=_grams(one.kwh, grams_per_kwh),
            proof=one.proof.value,
        )
        for one in receipts_since(journal, since)
    ]


def _first_day(now: float, days: int) -> str:
    today = date.fromisoformat(local_day(now))
    return (today - timedelta(days=max(1, min(days, MOST_DAYS)) - 1)).isoformat()


def _grams(energy_kwh: float, grams_per_kwh: float) -> float | None:
    return energy_kwh * grams_per_kwh if grams_per_kwh else None


async def verify_projects(attaching: Attaching, request: VerifyRequest) -> AllVerifiedView:
    """Look for accepted units in the logs of a project, or of all that are attached.

    Raises:
        InputError: no such project is attached, or the mirror is no address.
        TrustError, NetworkError: as `loop.verify.verify`.
    """
    journal = attaching.journal
    if request.project:
        rows = find_all_attached(journal, request.project)
    else:
        rows = [row for row in journal.projects() if not row.detaching]
    if not rows:
        raise InputError("No project is attached: `pleb-agent attach LINK`.")
    if request.mirror:
        try:
            check_base_url(request.mirror)
        except ValueError as error:
            raise InputError(f"{request.mirror!r} is not a mirror's address: {error}.") from error
    return AllVerifiedView([await _verify(attaching, row, request) for row in rows])


async def _verify(attaching: Attaching, row: ProjectRow, request: VerifyRequest) -> VerifiedView:
    coordinator = attaching.make_client(row.attach_link)
    client: HttpClient = coordinator
    reading = attaching.keys.reading(row.host_key_file)
    if reading is not None:
        coordinator.read_as(reading.reader)
    if request.mirror:
        client = HttpClient(request.mirror, network=coordinator.network)
    try:
        found = await verify(
            attaching.journal,
            row,
            client,
            now=attaching.clock(),
            again=request.again,
            keyring=None if reading is None else reading.keyring,
        )
    finally:
        await coordinator.close()
        await client.close()
    return msgspec.convert(found, VerifiedView, from_attributes=True)
