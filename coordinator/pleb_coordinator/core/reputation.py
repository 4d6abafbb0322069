"""A host's record with the coordinator, and what changes it.

A new host becomes *proven* after `new_host_units` confirmed results in a row. A proven host with a
record of n accepted results is checked at the rate

    p(n) = min(1, max(f, x / (2 - x))),    x = min(1, c / n), f = audit_rate, c = audit_record

so one that is just proven is checked always, and lies pay less the longer it waits. A check
compares two results, the author's and the checker's, and neither knows which of them it is. So x is
the part of a host's results that are compared with another one, where as many checks are drawn for
it as of it. When a proven host is convicted although it was checked seldom, f or c rise for a
while, and for a short time half of all results are checked (`Alarm`): hosts that lie together are
caught together.

A conviction ends the record and takes back the credit that is not ripe; every `ban_after`-th one
bans the host: for a day, then two, then four... One is forgiven for every `forgiven_after` accepted
results, since honest PCs with bad memory convict themselves too. On volunteers' word a proven host
is only suspended while there is a trusted host to look at the case.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_coordinator.core.records import Alarm, Host, Record
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Verification

__all__ = [
    "AUDIT_WINDOW_SECONDS",
    "Standing",
    "adopted_record",
    "after_caught",
    "after_convicted",
    "after_delivered",
    "after_near_miss",
    "after_pardoned",
    "after_undelivered",
    "after_valid",
    "audit_drawn",
    "audit_rate",
    "fastest_step",
    "is_surge",
    "new_alarm",
    "rate_out_of_turn",
    "spot_checks_left",
    "standing_of",
    "surge_units",
]

AUDIT_WINDOW_SECONDS: Final = 24 * 3600.0
"""Credit ripens after this time; until then a conviction takes it back."""
FIRST_BAN_SECONDS: Final = 24 * 3600.0
_LONGEST_BAN_SECONDS: Final = 365 * 24 * 3600.0
_PACE_STEP: Final = 1.1
"""By how much one confirmed result may make a host seem faster or slower."""
_RECENT: Final = 20
"""Assignments that `Standing.recent` remembers."""
_FLOOR_HALF_LIFE: Final = 1000
_RECORD_HALF_LIFE: Final = 4000
"""Units after which an alarm has fallen by half."""
_SURGE_RATE: Final = 0.5
"""Least audit rate while it is likely that others lie, too."""
_SURGES_MOST: Final = 3
"""Convictions that add to the length of a surge."""
_SEEN_BEFORE_CAUGHT: Final = 2
"""Units of each host until its lie is compared: the check is another unit of another host."""
_LIES_REMEMBERED: Final = 2000
"""Units back to which convictions of proven hosts are added up."""
_LIES_TOLERATED: Final = 0.001
"""Share of lies that may have entered before `audit_record` doubles, and four times as many before
it doubles again: twice the checks of a few liars' time would cost more than those lies."""


class Standing(Record, frozen=True):
    """The part of a host's row that verdicts change."""

    record: int
    proven: bool
    suspended_by: int | None
    recent: int
    setbacks: int
    refused: int
    bans: int
    banned_until: float
    ban_reason: Reason | None
    credit: float
    units_valid: int


def standing_of(host: Host) -> Standing:
    """Return the host's standing."""
    return Standing(**{name: getattr(host, name) for name in Standing.__struct_fields__})


def after_valid(
    standing: Standing, rules: Verification, credit: float, *, proves: bool = True
) -> Standing:
    """Return the standing after a result that counts. A suspended host is not proven by it.

    `proves`: whether anybody could have computed it, too.
    """
    accepted = standing.units_valid + 1
    if not proves:
        return replace(standing, credit=standing.credit + credit, units_valid=accepted)
    record = standing.record + 1
    enough = standing.suspended_by is None and record >= rules.new_host_units
    proven = standing.proven or enough
    return replace(
        standing,
        record=record,
        proven=proven,
        setbacks=0 if proven else standing.setbacks,
        refused=max(0, standing.refused - (accepted % rules.forgiven_after == 0)),
        credit=standing.credit + credit,
        units_valid=accepted,
    )


def adopted_record(record: int, rules: Verification) -> int:
    """Return the record with which a host begins that another coordinator vouches for.

    One more confirmed result makes it proven, with a record that is checked always, as of who has
    just passed all exams. So a false statement makes nobody an anchor, and saves a liar nine exams.
    """
    return max(0, min(record, rules.new_host_units - 1))


def fastest_step(
    before: float | None, elapsed_seconds: float, steps: float, *, proven: bool
) -> float:
    """Return the least time of a step that a host's confirmed results have shown.

    It is measured by the coordinator's clock, since a host may claim any time of its own, and only
    in results that others confirmed. Of a proven host it moves slowly: friends who confirm one
    another's instant lies would else make them usual at once.

    Args:
        before: what it was.
        elapsed_seconds: from the unit's issue to its report.
        steps: of the unit, in steps of the whole model.
        proven: whether the host is proven.
    """
    measured = elapsed_seconds / steps if steps else elapsed_seconds
    if before is None:
        return measured
    least = before / _PACE_STEP if proven else 0.0
    return min(max(measured, least), _PACE_STEP * before)


def after_near_miss(standing: Standing, rules: Verification) -> Standing:
    """Return the standing after a result that was neither confirmed nor refuted.

    It convicts nobody, but the host's next results are checked again: a liar could else stay just
    under the limit for ever.
    """
    return replace(standing, record=min(standing.record, rules.new_host_units))


def after_convicted(
    standing: Standing, rules: Verification, taken_back: float, unit: int, now: float
) -> Standing:
    """Return the standing after a result of `unit` was proven wrong, perhaps with a ban."""
    standing = replace(
        standing,
        record=0,
        proven=False,
        suspended_by=None,
        refused=standing.refused + 1,
        credit=max(0.0, standing.credit - taken_back),
    )
    if standing.refused < rules.ban_after:
        return standing
    length = min(_LONGEST_BAN_SECONDS, FIRST_BAN_SECONDS * 2.0 ** min(standing.bans, 30))
    return replace(
        standing,
        refused=0,
        bans=standing.bans + 1,
        banned_until=now + length,
        ban_reason=because(ReasonCode.RESULTS_PROVEN_WRONG, count=rules.ban_after, unit=unit),
    )


def after_pardoned(standing: Standing, record: int, proven: bool, credit: float) -> Standing:
    """Return the standing after a conviction on volunteers' word was taken back.

    Args:
        standing: the standing now.
        record: the host's record before the conviction.
        proven: whether it was proven then.
        credit: what was taken from it.
    """
    banned = standing.ban_reason is not None and standing.ban_reason.code == (
        ReasonCode.RESULTS_PROVEN_WRONG
    )
    return replace(
        standing,
        record=standing.record + record,
        proven=standing.proven or proven,
        suspended_by=None,
        refused=max(0, standing.refused - 1),
        banned_until=0.0 if banned else standing.banned_until,
        ban_reason=None if banned else standing.ban_reason,
        credit=standing.credit + credit,
    )


def after_delivered(standing: Standing, *, late: bool) -> Standing:
    """Return the standing after a result arrived; a late one clears the mark of its lease."""
    if not late:
        return replace(standing, recent=(standing.recent << 1) & (1 << _RECENT) - 1)
    return replace(standing, recent=standing.recent & (standing.recent - 1))  # one mark less


def after_undelivered(standing: Standing, rules: Verification, *, failed: bool) -> Standing:
    """Return the standing after a failure, or a lease that ran out.

    Otherwise a host could give back what it does not want to be seen computing. A new host that
    fails starts its run of confirmed results again; one that does not deliver loses no more than
    time, since PCs are switched off.
    """
    recent = ((standing.recent << 1) | 1) & (1 << _RECENT) - 1
    if recent.bit_count() > rules.undelivered_most:
        return replace(standing, recent=0, record=0, proven=False, setbacks=standing.setbacks + 2)
    if failed and not standing.proven:
        return replace(standing, recent=recent, record=0, setbacks=standing.setbacks + 1)
    return replace(standing, recent=recent)


def new_alarm(project: int) -> Alarm:
    """Return the alarm of a project in which nobody was convicted."""
    return Alarm(project, 0.0, 0.0, raised_at=0, counted=0, surge_until=0, spot_checks=0, lies=())


def audit_rate(record: int, alarm: Alarm, rules: Verification) -> float:
    """Return how likely a result of a proven host with that record is to be checked."""
    floor, scale = _raised(alarm, rules)
    compared = min(1.0, scale / max(1, record))
    surge = _SURGE_RATE if is_surge(alarm) else 0.0
    return min(1.0, max(floor, surge, compared / (2 - compared)))


def rate_out_of_turn(rate: float) -> float:
    """Return the rate for a unit that its host got since it has the shards (`core.shards`).

    The host can tell that it is probably no check. So it is checked as often as results are
    compared in all: x = 2p / (1 + p).
    """
    return 2 * rate / (1 + rate)


def is_surge(alarm: Alarm) -> bool:
    """Whether a proven host was convicted so short ago that others may lie with it."""
    return alarm.counted < alarm.surge_until


def _raised(alarm: Alarm, rules: Verification) -> tuple[float, float]:
    """Return f and c as they are now."""
    since = alarm.counted - alarm.raised_at
    return (
        max(rules.audit_rate, alarm.audit_floor * 0.5 ** (since / _FLOOR_HALF_LIFE)),
        max(rules.audit_record, alarm.audit_record * 0.5 ** (since / _RECORD_HALF_LIFE)),
    )


def surge_units(round_units: int, proven_hosts: int) -> int:
    """Return for how many units a surge lasts: a round, and as long as a check takes."""
    return max(round_units, _SEEN_BEFORE_CAUGHT * proven_hosts)


def after_caught(alarm: Alarm, rate: float, rules: Verification, surge: int) -> Alarm:
    """Return the alarm after the conviction of a proven host that was checked at `rate`.

    For each lie that is caught at a rate p, (1 - p) / p have entered on average. `surge` are
    the `surge_units`.
    """
    until = alarm.surge_until
    floor, scale = _raised(alarm, rules)
    since = alarm.counted - _LIES_REMEMBERED
    lies = [*alarm.lies, (alarm.counted, (1 - rate) / max(rate, 0.01))]
    lies = [(at, entered) for at, entered in lies if at >= since]
    if rate < 0.5:
        floor = min(max(rules.audit_rate, rules.audit_rate_most), 2 * floor)
        until = min(max(alarm.counted, until) + surge, alarm.counted + _SURGES_MOST * surge)
    entered = sum(weight for _, weight in lies)
    tolerated = _LIES_TOLERATED * _LIES_REMEMBERED * (scale / max(1.0, rules.audit_record)) ** 2
    if len(lies) >= 2 and entered > tolerated:
        scale = min(max(rules.audit_record, rules.audit_record_most), 2 * scale)
    return replace(
        alarm,
        audit_floor=floor,
        audit_record=scale,
        raised_at=alarm.counted,
        surge_until=until,
        lies=tuple(lies[-_LIES_KEPT:]),
    )


_LIES_KEPT: Final = 64
"""Far more than it takes to raise the alarm as far as it goes."""


def spot_checks_left(alarm: Alarm, rules: Verification, *, wanted: bool) -> bool:
    """Whether a trusted host may compute one more unit that volunteers confirmed.

    A part of all units, and three times as many where a host was convicted since.
    """
    budget = rules.spot_check_rate * alarm.counted + 2
    return alarm.spot_checks < (3 if wanted else 1) * budget


def audit_drawn(secret: bytes, assignment: int, rate: float) -> bool:
    """Whether a result is checked: HMAC(secret, assignment) / 2^64 below `rate`.

    Nobody can foresee the draw without the secret, and asking again does not draw again.
    """
    digest = hmac.digest(secret, f"audit/{assignment}".encode(), "sha256")
    return int.from_bytes(digest[:8], "big") / 2.0**64 < rate
