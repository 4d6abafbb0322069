"""Renewing in time: which permissions are due, and what every command says of those that end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pleb_project.publish.publisher import Publisher
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.status import decode_status
from pleb_shared.errors import PlebError
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.permission import ends_soon, is_due
from pleb_system.durations import shown_day, shown_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pleb_project.keys.passphrase import Passphrases
    from pleb_project.server.records import Home, ProjectRecord

__all__ = ["Outcome", "renew_due", "warnings_of"]

_NAG_SECONDS = 30 * 24 * 3600
"""How long after the end of a permission commands go on to say so."""


@dataclass(frozen=True)
class Outcome:
    """What automatic renewal did for a project: `renewed`, or why it could not (`error`)."""

    project: str
    renewed: bool = False
    error: PlebError | None = None


def renew_due(
    home: Home, clock: Callable[[], float], say: Callable[[str], None], passphrases: Passphrases
) -> list[Outcome]:
    """Renew every project of this home whose permission ends within 20 days.

    A project is due too when its coordinator has a newer online key than the one that it
    delegates to. One that is finished needs no renewal and is not looked at again. What fails for
    one project does not keep the others from being renewed.
    """
    outcomes = []
    for record in home.records():
        if not record.permission_ends_at:
            continue
        try:
            outcomes.append(_renewed_if_due(home, record, clock, say, passphrases))
        except PlebError as error:
            outcomes.append(Outcome(record.project, error=error))
    return outcomes


def _renewed_if_due(
    home: Home,
    record: ProjectRecord,
    clock: Callable[[], float],
    say: Callable[[str], None],
    passphrases: Passphrases,
) -> Outcome:
    link = record.link
    address = Address(link.base_url, link.certificate)
    with Coordinator(address, home.reading(link.project)) as coordinator:
        if decode_status(coordinator.status(record.project)).finished:
            home.remember(msgspec.structs.replace(record, permission_ends_at=0))
            return Outcome(record.project)
        online = fingerprint_of(coordinator.info().online_key)
        if record.online_keys[-1:] == [online] and not is_due(record.permission_ends_at, clock()):
            return Outcome(record.project)
        Publisher(coordinator, home, clock, say, passphrases).renew(record.project)
    return Outcome(record.project, renewed=True)


def warnings_of(home: Home, now: float) -> Iterator[str]:
    """Yield a sentence for each project whose permission ends within ten days, or has ended."""
    for record in home.records():
        ends_at = record.permission_ends_at
        if not ends_soon(ends_at, now) or ends_at + _NAG_SECONDS < now:
            continue
        if ends_at <= now:
            yield (
                f"! The permission of {record.project} ended on {shown_day(ends_at)}: no agent "
                f"works for it until you run `pleb-project renew {record.project}`."
            )
        else:
            yield (
                f"! The permission of {record.project} ends on {shown_day(ends_at)}, in "
                f"{shown_duration(ends_at - now)}: run `pleb-project renew {record.project}`, or "
                "`pleb-project autorenew on` once for all projects."
            )
