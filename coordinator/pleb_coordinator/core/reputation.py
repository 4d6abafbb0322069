"""A host's record with the coordinator, and what changes it.

A host is *proven* after `new_host_units` valid results in a row; until then each of its
results needs a second one from another host. A proven host is audited: by a draw that
depends on the unit and a secret alone, so that asking again does not draw again. A result
proven wrong (by a trusted host, or by two other accounts) resets the record, takes back the
credit that is not ripe yet and, after `ban_after` of them, keeps the host out: for a day, then
two, then four...
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import Host, Record
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Verification

__all__ = [
    "AUDIT_WINDOW_SECONDS",
    "Standing",
    "after_invalid",
    "after_refused",
    "after_unanswered",
    "after_valid",
    "audit_drawn",
    "audit_is_trusted",
    "is_proven",
    "standing_of",
]

AUDIT_WINDOW_SECONDS: Final = 24 * 3600.0
"""Credit ripens after this time; until then a bad verdict takes it back."""
FIRST_BAN_SECONDS: Final = 24 * 3600.0
_LONGEST_BAN_SECONDS: Final = 365 * 24 * 3600.0
_TRUSTED_AUDITS: Final = 0.5
"""Share of audits that only trusted hosts take, so that colluders cannot audit one another."""


class Standing(Record, frozen=True):
    """The part of a host's row that verdicts change."""

    consecutive_valid: int
    refused: int
    bans: int
    banned_until: float
    ban_reason: Reason | None
    credit: float
    units_valid: int


def standing_of(host: Host) -> Standing:
    """Return the host's standing."""
    return Standing(
        host.consecutive_valid,
        host.refused,
        host.bans,
        host.banned_until,
        host.ban_reason,
        host.credit,
        host.units_valid,
    )


def is_proven(host: Host, rules: Verification) -> bool:
    """Whether the host's results count without a second one."""
    return host.consecutive_valid >= rules.new_host_units


def after_valid(standing: Standing, rules: Verification, credit: float) -> Standing:
    """Return the standing after a valid result.

    The record counts up to twice what is needed, so that many good results do not pay for a
    long series of expired leases.
    """
    return msgspec.structs.replace(
        standing,
        consecutive_valid=min(standing.consecutive_valid + 1, 2 * max(1, rules.new_host_units)),
        credit=standing.credit + credit,
        units_valid=standing.units_valid + 1,
    )


def after_invalid(
    standing: Standing, rules: Verification, taken_back: float, now: float
) -> Standing:
    """Return the standing after a result that was proven wrong, perhaps with a ban."""
    standing = msgspec.structs.replace(
        standing,
        consecutive_valid=0,
        refused=standing.refused + 1,
        credit=max(0.0, standing.credit - taken_back),
    )
    if standing.refused < rules.ban_after:
        return standing
    length = min(_LONGEST_BAN_SECONDS, FIRST_BAN_SECONDS * 2.0 ** min(standing.bans, 30))
    return msgspec.structs.replace(
        standing,
        refused=0,
        bans=standing.bans + 1,
        banned_until=now + length,
        ban_reason=because(ReasonCode.RESULTS_PROVEN_WRONG, count=rules.ban_after),
    )


def after_refused(standing: Standing) -> Standing:
    """Return the standing after an unreadable result, which proves nothing."""
    return msgspec.structs.replace(standing, consecutive_valid=0)


def after_unanswered(standing: Standing) -> Standing:
    """Return the standing after an expired lease, so that dodging audits costs the record."""
    left = max(0, standing.consecutive_valid - 1)
    return msgspec.structs.replace(standing, consecutive_valid=left)


def audit_drawn(secret: bytes, unit: int, rate: float) -> bool:
    """Whether the unit of a proven host is audited: HMAC(secret, unit) below `rate`."""
    return _draw(secret, f"audit/{unit}") < rate


def audit_is_trusted(secret: bytes, unit: int) -> bool:
    """Whether only a trusted host takes the unit's audit."""
    return _draw(secret, f"auditor/{unit}") < _TRUSTED_AUDITS


def _draw(secret: bytes, text: str) -> float:
    """Return a number in [0, 1) that is unpredictable without the secret."""
    digest = hmac.digest(secret, text.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") / 2.0**64
