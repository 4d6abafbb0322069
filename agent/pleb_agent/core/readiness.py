"""May the agent work now? The first rule that objects decides; stop fast, resume slowly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import CPU
from pleb_agent.core.moment import Moment, PolicyMemory, WorkerLimits
from pleb_agent.core.readings import PresenceKind
from pleb_agent.core.rules import (
    HELD_BACK,
    OF_ONE,
    RULES,
    USUAL_LOOK_SECONDS,
    Action,
    Objection,
    PolicyReason,
    Rule,
)
from pleb_agent.core.schedule import seconds_to
from pleb_agent.core.sentence import Sentence, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings

__all__ = [
    "HELD_BACK",
    "OF_ONE",
    "RULES",
    "SETTLE_SECONDS",
    "Action",
    "Decision",
    "PolicyMemory",
    "PolicyReason",
    "WorkerLimits",
    "decide",
    "seconds_allowed",
]

SETTLE_SECONDS: Final = 30.0
"""How long the PC must be free before work resumes; doubled by each recent stop."""
MOST_SETTLE_SECONDS: Final = 300.0
_RECENT_SECONDS: Final = 1800.0
_OUTGROWN_SECONDS: Final = 600.0
_TIMELESS: Final = frozenset(
    {
        PolicyReason.SHUTTING_DOWN,
        PolicyReason.SUSPENDING,
        PolicyReason.PAUSED_BY_USER,
        PolicyReason.DISK_FULL,
        PolicyReason.MEMORY_SHORT,
        PolicyReason.TOO_HOT,
        PolicyReason.DEVICE_OFF,
        PolicyReason.DEVICE_PAUSED,
        PolicyReason.CARD_MEMORY_SHORT,
        PolicyReason.CARD_TOO_HOT,
    }
)
"""They rank before the hours, so the end of an allowed hour changes nothing."""


@dataclass(frozen=True)
class Decision:
    """The action, the sentence that explains it, and when to decide again.

    `look_again_seconds`: before that the answer changes by new readings only, not by time.
    """

    action: Action
    sentence: Sentence
    look_again_seconds: float
    reason: PolicyReason = PolicyReason.READY
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    """Of a running worker."""


def decide(
    readings: Readings,
    preferences: Preferences,
    memory: PolicyMemory = PolicyMemory(),  # noqa: B008 - frozen
    rules: Sequence[Rule] = RULES,
    device: str = CPU,
) -> tuple[Decision, PolicyMemory]:
    """Return the first objection, or permission to run, and what to remember for the next call.

    `device`: for which of the PC's devices; each has a memory of its own.
    """
    memory = _unless_user_acted(memory, readings, preferences)
    moment = Moment(readings, preferences, memory, device)
    objections = [objection for rule in rules if (objection := rule(moment)) is not None]
    memory = _remember(moment, objections)
    if not objections and memory.settle_until > readings.now:
        left_seconds = memory.settle_until - readings.now
        sentence = say(
            "All clear; work resumes in {seconds} s if it stays so.",
            seconds=max(1, round(left_seconds)),
        )
        objections.append(Objection(PolicyReason.SETTLING, sentence, left_seconds))
    memory = replace(memory, running=not objections, has_run=memory.has_run or not objections)
    return (_hold(moment, objections[0]) if objections else _run(moment)), memory


def _hold(moment: Moment, objection: Objection) -> Decision:
    looks = [objection.look_again_seconds, *_boost_end(moment)]
    if objection.reason not in _TIMELESS:
        looks += _hours_end(moment)
    return Decision(objection.action, objection.sentence, min(looks), objection.reason)


def _run(moment: Moment) -> Decision:
    looks = [USUAL_LOOK_SECONDS, *_boost_end(moment), *_hours_end(moment)]
    if not moment.boosted:
        looks += [state.look_again_seconds for state in moment.row_states]
    if moment.in_use and moment.idle_left_seconds > 0:
        looks.append(moment.idle_left_seconds)
    return Decision(Action.RUN, _permission(moment), min(looks), limits=moment.limits)


def _permission(moment: Moment) -> Sentence:
    """Return why work is allowed."""
    until = moment.readings.override.until
    if moment.boosted and until is not None:
        minutes = max(1, round((until - moment.now) / 60))
        return say("Running because you asked for it, for {minutes} more min.", minutes=minutes)
    if moment.boosted:
        return say("Running because you asked for it.")
    if not moment.in_use:
        return say("Free to work.")
    percent = moment.limits.share_percent
    if moment.readings.presence.kind is PresenceKind.UNREADABLE:
        return say("Working at {percent} %, in case the PC is in use.", percent=percent)
    return say("Working at {percent} % while you use the PC.", percent=percent)


def _boost_end(moment: Moment) -> list[float]:
    """Return the seconds until a boost ends, if there is one: all rules may object then."""
    until = moment.readings.override.until
    return [until - moment.now] if moment.boosted and until is not None else []


def seconds_allowed(readings: Readings, preferences: Preferences) -> float | None:
    """Return the seconds until the allowed hours end; None: they do not, or do not matter now."""
    ends = _hours_end(Moment(readings, preferences))
    return ends[0] if ends else None


def _hours_end(moment: Moment) -> list[float]:
    """Return the seconds until the allowed hours end, if they matter now."""
    time = moment.readings.local_time
    minutes = moment.hours.minutes_to_change(time)
    if moment.boosted or minutes is None or not moment.hours.allow(time):
        return []
    return [seconds_to(minutes, moment.now)]


def _unless_user_acted(
    memory: PolicyMemory, readings: Readings, preferences: Preferences
) -> PolicyMemory:
    """Forget what delays work if the user resumed, boosted or changed preferences."""
    overrides = (readings.override, readings.device_pauses)
    if (memory.override, memory.device_pauses, memory.preferences) == (*overrides, preferences):
        return memory
    return PolicyMemory(
        *overrides,
        preferences,
        running=memory.running,
        has_run=memory.has_run,
        stops=memory.stops,
    )


def _remember(moment: Moment, objections: list[Objection]) -> PolicyMemory:
    memory = _remember_size(moment, objections)
    unsettled = any(objection.comes_and_goes for objection in objections)
    stops = tuple(at for at in memory.stops if 0 <= moment.now - at < _RECENT_SECONDS)
    if unsettled and memory.running:
        stops = (*stops, moment.now)
    settle_until = min(memory.settle_until, moment.now + MOST_SETTLE_SECONDS)
    if memory.unsettled and not unsettled and memory.has_run:
        doublings = max(0, len(stops) - 1)
        settle_until = moment.now + min(MOST_SETTLE_SECONDS, SETTLE_SECONDS * 2.0**doublings)
    return replace(
        memory,
        objected=frozenset(objection.reason for objection in objections),
        rows_held=frozenset(state.row for state in moment.row_states if not state.allows),
        unsettled=unsettled,
        settle_until=settle_until,
        stops=stops,
    )


def _remember_card(
    moment: Moment, memory: PolicyMemory, objections: list[Objection]
) -> PolicyMemory:
    """Remember how much of its card's memory the worker held when that was short."""
    held = (moment.card.worker_bytes or 0) if moment.card is not None else 0
    if any(objection.reason is PolicyReason.CARD_MEMORY_SHORT for objection in objections):
        return replace(memory, card_bytes=max(held, memory.card_bytes))
    return replace(memory, card_bytes=0) if memory.card_bytes else memory


def _remember_size(moment: Moment, objections: list[Objection]) -> PolicyMemory:
    """Remember how large the worker was when memory was short."""
    memory, size = moment.memory, moment.readings.worker_memory_bytes
    if any(objection.reason is PolicyReason.MEMORY_SHORT for objection in objections):
        memory = replace(memory, short_bytes=max(size, memory.short_bytes))
    elif memory.short_bytes:
        memory = replace(memory, short_bytes=0)
    memory = _remember_card(moment, memory, objections)
    most = moment.now + _OUTGROWN_SECONDS
    ceiling = moment.memory_ceiling_bytes
    if ceiling is None or size <= ceiling:
        return replace(memory, outgrown_until=min(memory.outgrown_until, most))
    return replace(memory, outgrown_bytes=size, outgrown_until=most)
