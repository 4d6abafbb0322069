"""Why there is no work and why a result counts or not: a code with values, never a sentence.

Reasons travel and are stored as data. `TEMPLATES` has the English sentence of every code; it is
made where it is shown (pages, command lines), or translated there by its template.
"""

from __future__ import annotations

import string
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Struct

__all__ = [
    "TEMPLATES",
    "UNKNOWN_TEMPLATE",
    "Reason",
    "ReasonCode",
    "because",
    "reason_sentence",
    "reason_template",
]


class ReasonCode(StrEnum):
    """Every reason that a coordinator gives."""

    # why there is no work
    HOST_BANNED = "host_banned"
    PROJECT_PAUSED = "project_paused"
    PROJECT_ARCHIVED = "project_archived"
    CALIBRATING = "calibrating"
    CALIBRATED_TOO_OFTEN = "calibrated_too_often"
    NOT_COMPARABLE = "not_comparable"
    NEW_HOST_LIMIT = "new_host_limit"
    LAST_VERSION_REACHED = "last_version_reached"
    WARM_START = "warm_start"
    ACCOUNT_SHARE_USED = "account_share_used"
    ALL_ASSIGNED = "all_assigned"
    # why a result counts, or not
    TRUSTED_RESULT = "trusted_result"
    PROVEN_RESULT = "proven_result"
    HOSTS_AGREE = "hosts_agree"
    TRUSTED_HOST_AGREES = "trusted_host_agrees"
    MAJORITY_AGREES = "majority_agrees"
    TRUSTED_HOST_DISAGREES = "trusted_host_disagrees"
    MAJORITY_DISAGREES = "majority_disagrees"
    TOO_LATE = "too_late"
    NOT_CONFIRMED = "not_confirmed"
    EPOCH_ENDED = "epoch_ended"
    EVALUATED = "evaluated"
    # why a unit is not decided yet
    NO_RESULT = "no_result"
    NEW_HOST = "new_host"
    RESULTS_DIFFER = "results_differ"
    # why a host is banned
    RESULTS_PROVEN_WRONG = "results_proven_wrong"
    BANNED_BY_OPERATOR = "banned_by_operator"


TEMPLATES: Final[dict[ReasonCode, str]] = {
    ReasonCode.HOST_BANNED: "This host is banned.",
    ReasonCode.PROJECT_PAUSED: "The project is paused.",
    ReasonCode.PROJECT_ARCHIVED: "The project is archived.",
    ReasonCode.CALIBRATING: "Calibrating this PC; other units follow.",
    ReasonCode.CALIBRATED_TOO_OFTEN: (
        "Too many calibrations in the last 7 days ({count}): keep this PC's software and settings "
        "unchanged for a while."
    ),
    ReasonCode.NOT_COMPARABLE: (
        "This PC's results differ from all others by more than the project allows: they cannot be "
        "confirmed until a second PC of the same kind joins."
    ),
    ReasonCode.NEW_HOST_LIMIT: (
        "A new host gets one unit at a time until its first results are confirmed."
    ),
    ReasonCode.LAST_VERSION_REACHED: "The project has reached its last version, {version}.",
    ReasonCode.WARM_START: (
        "No work right now: only trusted hosts train version {version} (warm start)."
    ),
    ReasonCode.ACCOUNT_SHARE_USED: ("No work right now: your account has its share of this round."),
    ReasonCode.ALL_ASSIGNED: "No work right now: all units of version {version} are assigned.",
    ReasonCode.TRUSTED_RESULT: "A trusted host computed it.",
    ReasonCode.PROVEN_RESULT: "A proven host computed it.",
    ReasonCode.HOSTS_AGREE: "{count} hosts agree.",
    ReasonCode.TRUSTED_HOST_AGREES: "Results differ; a trusted host confirms this one.",
    ReasonCode.MAJORITY_AGREES: "Results differ; {agreeing} of {hosts} hosts agree on this one.",
    ReasonCode.TRUSTED_HOST_DISAGREES: "A trusted host's result differs.",
    ReasonCode.MAJORITY_DISAGREES: "{agreeing} of {hosts} hosts agree on another result.",
    ReasonCode.TOO_LATE: "The next version was made before this result was confirmed.",
    ReasonCode.NOT_CONFIRMED: "No other host confirmed it in time.",
    ReasonCode.EPOCH_ENDED: "A new epoch started before this result was confirmed.",
    ReasonCode.EVALUATED: "Version {version} was evaluated on the holdout.",
    ReasonCode.NO_RESULT: "There is no result yet.",
    ReasonCode.NEW_HOST: "The host is new: another host must confirm its result.",
    ReasonCode.RESULTS_DIFFER: "Results differ: another host must decide.",
    ReasonCode.RESULTS_PROVEN_WRONG: "{count} of its results were proven wrong.",
    ReasonCode.BANNED_BY_OPERATOR: "Banned by the operator: {text}",
}
"""The English sentence of each code; braces name its values."""

UNKNOWN_TEMPLATE: Final = "The coordinator's reason: {code}."
"""Shown for a code that a newer coordinator added."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=LIMITS.reason_characters)]


class Reason(Struct, frozen=True):
    """Why: `code` is a `ReasonCode`, or one that this version does not know.

    Codes may be added within a protocol version, so a client must accept any.
    """

    code: Name
    values: Annotated[dict[Name, int | float | Text], msgspec.Meta(max_length=8)] = {}


def because(code: ReasonCode, /, **values: float | str) -> Reason:
    """Return the reason with this code; long texts are cut to `LIMITS.reason_characters`.

    Raises:
        ValueError: the values are not those of the code's template.
    """
    wanted = {name for _, name, _, _ in string.Formatter().parse(TEMPLATES[code]) if name}
    if values.keys() != wanted:
        message = f"{code} takes the values {sorted(wanted)}, not {sorted(values)}"
        raise ValueError(message)
    cut = LIMITS.reason_characters
    return Reason(
        code=code,
        values={
            name: value[:cut] if isinstance(value, str) else value for name, value in values.items()
        },
    )


def reason_template(reason: Reason) -> tuple[str, dict[str, int | float | str]]:
    """Return the reason's English template and the values that fill it.

    An unknown code, or values that do not fill its template, give a template that shows the code.
    """
    known = TEMPLATES.get(reason.code)  # type: ignore[call-overload] # a StrEnum's members are texts
    if known is None:
        return UNKNOWN_TEMPLATE, {"code": reason.code}
    try:
        known.format_map(reason.values)
    except (KeyError, ValueError):
        return UNKNOWN_TEMPLATE, {"code": reason.code}
    return known, reason.values


def reason_sentence(reason: Reason) -> str:
    """Return the reason as an English sentence."""
    template, values = reason_template(reason)
    return template.format_map(values)
