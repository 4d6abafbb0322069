"""How many new hosts one network may bring, so that names cost something.

A new host costs the coordinator a row and an anchor a share of an exam. Whoever has been banned, or
wants many voices, comes back under new names; what they cannot have many of is networks. Honest
newcomers come from different ones, however many they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record
from pleb_shared.errors import Refusal, RefusalCode
from pleb_system.durations import shown_duration

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DAY_SECONDS", "NewcomerBounds", "check_newcomer"]

_HOUR_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 86_400.0


class NewcomerBounds(Record, frozen=True):
    """How many new hosts one network may bring; 0: none without an invite."""

    per_hour: int
    per_day: int
    unproven: int
    """Hosts that were seen during the last day and are not proven yet."""


def check_newcomer(
    bounds: NewcomerBounds, nth_newest: Callable[[int], float | None], unproven: int, now: float
) -> None:
    """Check whether one more host may enrol from a network.

    Args:
        bounds: of this network.
        nth_newest: returns when the n-th newest of its hosts enrolled (1: the last), None if
            there are fewer.
        unproven: how many of them were seen during the last day and are not proven yet.
        now: the time.

    Raises:
        Refusal: `rate_limited`, with the time after which it may try again; `invalid_invite`: no
            host may come without an invite.
    """
    for most, seconds, span in (
        (bounds.per_hour, _HOUR_SECONDS, "hour"),
        (bounds.per_day, DAY_SECONDS, "day"),
    ):
        if most == 0:
            message = "New PCs need an invite here: ask the operator for one."
            raise Refusal(RefusalCode.INVALID_INVITE, message)
        at = nth_newest(most)
        if at is not None and now < at + seconds:
            wait = at + seconds - now
            raise _refusal(f"{most} new PCs joined from your network in the last {span}", wait)
    if unproven >= bounds.unproven:
        raise _refusal(f"{unproven} PCs of your network are still new here", _HOUR_SECONDS)


def _refusal(why: str, wait: float) -> Refusal:
    message = (
        f"{why}, which is as many as one network may have. Try again in {shown_duration(wait)}, "
        "or ask the operator for an invite."
    )
    return Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=wait)
