"""Why there is no work and why a result counts or not: a code with values, never a sentence.

Reasons travel and are stored as data. `TEMPLATES` has the English sentence of every code; it is
made where it is shown (pages, command lines), or translated there by its template.
"""

from __future__ import annotations

import string
from enum import StrEnum
from typing import Annotated, Final, Self

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
    """Every reason that a coordinator gives, with its English sentence; braces name its values."""

    template: str

    def __new__(cls, code: str, template: str) -> Self:
        """Make the member of that code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.template = template
        return member

    # why there is no work
    HOST_BANNED = "host_banned", "This host is banned."
    PROJECT_PAUSED = "project_paused", "The project is paused."
    PROJECT_ARCHIVED = "project_archived", "The project is archived."
    CALIBRATING = "calibrating", "Calibrating this PC; other units follow."
    CALIBRATED_TOO_OFTEN = (
        "calibrated_too_often",
        (
            "Too many calibrations in the last 7 days ({count}): keep this PC's software and "
            "settings unchanged for a while."
        ),
    )
    NOT_COMPARABLE = (
        "not_comparable",
        (
            "This PC's results differ from the others' by more than the project allows: they "
            "cannot be confirmed until the operator adds a trusted PC of the same kind."
        ),
    )
    MEMORY_TOO_SMALL = (
        "memory_too_small",
        (
            "No work for this PC: it gives {memory} MiB of memory, and the smallest part of the "
            "model needs {needed} MiB: raise the memory preference."
        ),
    )
    NEW_HOST_LIMIT = (
        "new_host_limit",
        "A new host gets one unit at a time until its first results are confirmed.",
    )
    PACED = (
        "paced",
        "The next unit comes in {seconds} s: units come no faster than this PC computes them.",
    )
    ANSWER_REFUSED = (
        "answer_refused",
        "This PC refused the coordinator's last answer; units follow the next one.",
    )
    EXAMS_FULL = (
        "exams_full",
        "No work right now: new hosts share units, and all of them have one.",
    )
    LAST_VERSION_REACHED = (
        "last_version_reached",
        "The project has reached its last version, {version}.",
    )
    TARGET_REACHED = "target_reached", "The project has reached its target with version {version}."
    NOTHING_BETTER = (
        "nothing_better",
        "Training has ended: {count} versions were no better than version {version}.",
    )
    TRIALS_COMPARED = (
        "trials_compared",
        (
            "This trial waits at version {version} for the other ones of its sweep: the best "
            "{count} go on."
        ),
    )
    TRIAL_STOPPED = (
        "trial_stopped",
        "This trial of a sweep was not among the best {count} at version {version}: it has ended.",
    )
    RESEARCHER_PAUSED = "researcher_paused", "The researcher has paused the project: {text}"
    RESEARCHER_ARCHIVED = "researcher_archived", "The researcher has archived the project: {text}"
    MOVED = (
        "moved",
        "The project has moved to {text}: this PC follows by itself.",
    )
    WARM_START = (
        "warm_start",
        "No work right now: only trusted hosts train version {version} (warm start).",
    )
    ACCOUNT_SHARE_USED = (
        "account_share_used",
        "No work right now: your account has its share of this round.",
    )
    CHUNKS_GIVEN = (
        "chunks_given",
        (
            "No work right now: the rest of version {version} is for PCs with the memory for the "
            "whole model, or your account has its share."
        ),
    )
    WINDOW_ENDS = (
        "window_ends",
        "No work right now: this PC could not finish a unit in the {seconds} s that it has left.",
    )
    ROUND_ENDS = (
        "round_ends",
        "No work right now: version {version} is made before this PC could finish a unit.",
    )
    NO_OWN_DATA = "no_own_data", "No work: choose a folder with your data for this project."
    OWN_PART_TAKEN = (
        "own_part_taken",
        "No work right now: your account has its part of version {version}.",
    )
    ALL_ASSIGNED = (
        "all_assigned",
        "No work right now: all units of version {version} are assigned.",
    )
    # why a result counts, or not
    TRUSTED_RESULT = "trusted_result", "A trusted host computed it."
    PROVEN_RESULT = "proven_result", "A proven host computed it."
    OWN_DATA = (
        "own_data",
        (
            "It was trained on its host's own data: nobody else can compute it, and its part of a "
            "version is bounded."
        ),
    )
    HOSTS_AGREE = "hosts_agree", "{count} hosts agree."
    TRUSTED_HOST_AGREES = "trusted_host_agrees", "Results differ; a trusted host confirms this one."
    MAJORITY_AGREES = (
        "majority_agrees",
        "Results differ; {agreeing} of {hosts} hosts agree on this one.",
    )
    TRUSTED_HOST_DISAGREES = "trusted_host_disagrees", "A trusted host's result differs."
    MAJORITY_DISAGREES = (
        "majority_disagrees",
        "{agreeing} of {hosts} hosts agree on another result.",
    )
    NEAR_MISS = (
        "near_miss",
        (
            "It differs from the result that counts, too little or on too different a PC to call "
            "it wrong: it does not count."
        ),
    )
    WITHDRAWN = (
        "withdrawn",
        "Another result of this host was proven wrong: this one is computed again.",
    )
    UNUSABLE_RESULT = "unusable_result", "It could not be read: {text}"
    TOO_LATE = "too_late", "The next version was made before this result was confirmed."
    NOT_CONFIRMED = "not_confirmed", "No other host confirmed it in time."
    EPOCH_ENDED = "epoch_ended", "A new epoch started before this result was confirmed."
    ROLLED_BACK = (
        "rolled_back",
        "The version that it starts from was taken back: it counts neither for nor against you.",
    )
    CANCELLED_BY_OPERATOR = (
        "cancelled_by_operator",
        "The operator took the unit back: it counts neither for nor against you.",
    )
    EVALUATED = "evaluated", "Version {version} was evaluated on the holdout."
    # why a unit is not decided yet
    NO_RESULT = "no_result", "There is no result yet."
    NEW_HOST = "new_host", "The host is new: an anchor must confirm its result."
    HELD = "held", "The result is held until the check agrees."
    TOO_FAST = (
        "too_fast",
        "It came faster than its host computes: two proven hosts or a trusted one must confirm it.",
    )
    FLEET_EXAM = (
        "fleet_exam",
        "No host is trusted or proven: most of the fleet has to agree on this unit.",
    )
    RESULTS_DIFFER = "results_differ", "Results differ: other hosts must decide."
    COMPUTED_TWICE = (
        "computed_twice",
        "{count} hosts agree against a trusted one: it is computed a second time.",
    )
    # why a result is computed again before it counts
    SUSPECT_NORM = (
        "suspect_norm",
        "The update's size is {norm}; those of other results are about {usual}.",
    )
    SUSPECT_PROFILE = (
        "suspect_profile",
        "The update is spread over the model's tensors unlike that of other results.",
    )
    SUSPECT_DIRECTION = (
        "suspect_direction",
        "The update's cosine with other results is {cosine}; theirs is about {usual}.",
    )
    SUSPECT_COPY = "suspect_copy", "The update is nearly the same as that of unit {unit}."
    SUSPECT_LOSS = (
        "suspect_loss",
        "The loss of {loss} is unlike that of other results, about {usual}.",
    )
    SUSPECT_HASTE = (
        "suspect_haste",
        "It came after {seconds} s; this PC needs about {usual} s.",
    )
    SUSPECT_TIME = (
        "suspect_time",
        "It claims {claimed} s of computing, but was given only {elapsed} s.",
    )
    SUSPECT_LIE = "suspect_lie", "It leans like the wrong result of unit {unit}."
    SUSPECT_ALIKE = "suspect_alike", "It leans to one side as few other results do, alike."
    # why a host is banned
    RESULTS_PROVEN_WRONG = (
        "results_proven_wrong",
        "{count} of its results were proven wrong, the last one of unit {unit}.",
    )
    BANNED_BY_OPERATOR = "banned_by_operator", "Banned by the operator: {text}"


TEMPLATES: Final = {code: code.template for code in ReasonCode}

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
