"""The rules of readiness, each a pure function of a moment, and their order.

Where a reading swings around a limit, a rule that objected at the last look asks for a margin
before it stops objecting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pleb_agent.core.decision import Action, Objection, Reason
from pleb_agent.core.memory_rules import memory_short
from pleb_agent.core.moment import Moment
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.readings import PowerSource, PresenceKind
from pleb_agent.core.schedule import DAY_MINUTES, DAY_NAMES, DAYS, seconds_to
from pleb_agent.core.sentence import say
from pleb_agent.core.sizes import format_bytes

__all__ = ["BOOSTABLE", "RULES", "Rule"]

Rule = Callable[[Moment], Objection | None]

HEAT_MARGIN_CELSIUS: Final = 8
CRITICAL_MARGIN_CELSIUS: Final = 5
"""So far below its driver's critical temperature a processor stays."""
BATTERY_MARGIN_PERCENT: Final = 5
LOAD_MARGIN_PERCENT: Final = 15


def shutting_down(moment: Moment) -> Objection | None:
    """The system ends: keep the unit while there is time."""
    if not moment.readings.shutting_down:
        return None
    sentence = say("The PC is shutting down; work goes on after its next start.")
    return Objection(Reason.SHUTTING_DOWN, sentence, action=Action.STOP)


def suspending(moment: Moment) -> Objection | None:
    """The system falls asleep, and power may fail meanwhile: keep the unit while there is time."""
    if not moment.readings.suspending:
        return None
    sentence = say("The PC goes to sleep; work goes on when it is awake.")
    return Objection(Reason.SUSPENDING, sentence, action=Action.STOP, comes_and_goes=True)


_LONG_SECONDS: Final = 2.5 * 3600
"""Longer spans are told in hours."""


def paused_by_user(moment: Moment) -> Objection | None:
    """The user's pause; a worker that pauses long leaves memory by itself."""
    override = moment.readings.override
    if not override.is_active(OverrideKind.PAUSE, moment.now):
        return None
    if override.until is None:
        return Objection(Reason.PAUSED_BY_USER, say("Paused by you, until you resume."))
    left = override.until - moment.now
    sentence = say("Paused by you for {minutes} more min.", minutes=_minutes(left))
    if left > _LONG_SECONDS:
        sentence = say("Paused by you for {hours} more h.", hours=round(left / 3600))
    return Objection(Reason.PAUSED_BY_USER, sentence, left)


def disk_full(moment: Moment) -> Objection | None:
    """A full disk belongs to the user: stop before it is."""
    free, keep = moment.readings.free_disk_bytes, moment.preferences.keep_free_bytes
    if free >= keep:
        return None
    sentence = say(
        "Only {free} of disk are free, and {keep} are left to you; make room to go on.",
        free=format_bytes(free),
        keep=format_bytes(keep),
    )
    return Objection(Reason.DISK_FULL, sentence, action=Action.STOP, comes_and_goes=True)


def too_hot(moment: Moment) -> Objection | None:
    """The hottest part is over the user's limit; it has to cool down well below that.

    The limit is lower where a driver tells that a processor is near its critical temperature.
    """
    degrees, limit = moment.readings.hottest_celsius, moment.preferences.hottest_celsius
    if degrees is None or limit is None:
        return None
    room = moment.readings.critical_headroom_celsius
    if room is not None:
        limit = min(limit, round(degrees + room) - CRITICAL_MARGIN_CELSIUS)
    resume = limit - HEAT_MARGIN_CELSIUS
    if degrees < (resume if Reason.TOO_HOT in moment.memory.objected else limit):
        return None
    sentence = say(
        "The PC is at {degrees} °C; work goes on below {resume} °C.",
        degrees=round(degrees),
        resume=resume,
    )
    return Objection(Reason.TOO_HOT, sentence, comes_and_goes=True)


def on_ups(moment: Moment) -> Objection | None:
    """Power is cut: what is left is for shutting down in order, whatever the user asked for."""
    if moment.readings.power.source is not PowerSource.UPS:
        return None
    sentence = say("The mains are gone and the UPS feeds the PC; work goes on when they are back.")
    return Objection(Reason.ON_BATTERY, sentence, action=Action.STOP, comes_and_goes=True)


def on_battery(moment: Moment) -> Objection | None:
    """On battery: not at all, or not below a charge. Power that nobody can tell is mains."""
    power, lowest = moment.readings.power, moment.preferences.battery_percent
    if power.source is not PowerSource.BATTERY:
        return None
    if not moment.preferences.on_battery:
        sentence = say("On battery; work goes on when the PC is plugged in.")
        return Objection(Reason.ON_BATTERY, sentence, comes_and_goes=True)
    if power.percent is None:
        return None
    resume = min(100, lowest + BATTERY_MARGIN_PERCENT)
    held = Reason.ON_BATTERY in moment.memory.objected
    if power.percent >= (resume if held else lowest):
        return None
    sentence = say(
        "The battery is at {percent} %; work goes on at {resume} %, or when plugged in.",
        percent=round(power.percent),
        resume=resume,
    )
    return Objection(Reason.ON_BATTERY, sentence, comes_and_goes=True)


def outside_hours(moment: Moment) -> Objection | None:
    """It is not one of the hours that the user gave."""
    time = moment.readings.local_time
    minutes = moment.hours.minutes_to_change(time)
    if minutes is None or moment.hours.allow(time):
        return None
    day, minute = divmod(time.weekday * DAY_MINUTES + time.minute + minutes, DAY_MINUTES)
    at = f"{minute // 60:02}:{minute % 60:02}"
    if minutes < DAY_MINUTES:
        sentence = say("Outside of your hours; work begins at {time}.", time=at)
    else:
        sentence = say(
            "Outside of your hours; work begins on {day} at {time}.",
            day=say(DAY_NAMES[DAYS[day % len(DAYS)]]),
            time=at,
        )
    return Objection(Reason.OUTSIDE_HOURS, sentence, seconds_to(minutes, moment.now))


def program_runs(moment: Moment) -> Objection | None:
    """One of the programs runs that the user wants to have the PC for itself."""
    programs = sorted(moment.readings.programs)
    if not programs:
        return None
    first, others = programs[0], len(programs) - 1
    if others:
        sentence = say(
            "{program} and {count} more of your programs run; work goes on after them.",
            program=first,
            count=others,
        )
    else:
        sentence = say("{program} runs; work goes on after it.", program=first)
    return Objection(Reason.PROGRAM_RUNS, sentence, comes_and_goes=True)


def fullscreen(moment: Moment) -> Objection | None:
    """A film, a game or a talk, with or without input; a screen lock is none."""
    presence = moment.readings.presence
    if not moment.preferences.pause_on_fullscreen or presence.locked:
        return None
    if not (moment.someone and presence.fullscreen):
        return None
    sentence = say("A window fills the screen; work goes on after it.")
    return Objection(Reason.FULLSCREEN, sentence, comes_and_goes=True)


def in_use(moment: Moment) -> Objection | None:
    """Somebody typed or moved the mouse not long ago. Idle time is its own wait."""
    unreadable = moment.readings.presence.kind is PresenceKind.UNREADABLE
    if unreadable or moment.preferences.while_in_use or not moment.in_use:
        return None
    minutes = moment.preferences.idle_minutes
    sentence = say("You use the PC; work goes on {minutes} min after that.", minutes=f"{minutes:g}")
    return Objection(Reason.IN_USE, sentence, moment.idle_left_seconds)


def input_unreadable(moment: Moment) -> Objection | None:
    """Nobody can tell whether the session is in use, so it is."""
    presence = moment.readings.presence
    if presence.kind is not PresenceKind.UNREADABLE:
        return None
    if moment.preferences.while_in_use or not moment.in_use:
        return None
    if presence.starting:
        sentence = say("The agent looks whether you use the PC.")
        return Objection(Reason.STARTING, sentence, comes_and_goes=True)
    sentence = say(
        "It cannot be seen whether you use the PC, so it counts as in use: {problem} "
        "Allow work while the PC is in use (`while_in_use`) to go on.",
        problem=say(presence.problem or "nothing tells of mouse and keyboard."),
    )
    return Objection(Reason.INPUT_UNREADABLE, sentence, comes_and_goes=True)


def cpu_busy(moment: Moment) -> Objection | None:
    """Other programs compute. Without a session the scheduler alone gives way to them."""
    load, limit = moment.readings.cpu_others_percent, moment.preferences.cpu_others_percent
    if load is None or limit is None or not moment.someone:
        return None
    resume = _eased(limit)
    if load <= (resume if Reason.CPU_BUSY in moment.memory.objected else limit):
        return None
    sentence = say(
        "Other programs use {percent} % of the processors; work goes on below {resume} %.",
        percent=round(load),
        resume=resume,
    )
    return Objection(Reason.CPU_BUSY, sentence, comes_and_goes=True)


def gpu_busy(moment: Moment) -> Objection | None:
    """Other programs use a graphics processor, which gives way to nobody."""
    limit = moment.preferences.gpu_others_percent
    if limit is None or not moment.preferences.use_gpu:
        return None
    loads = [(gpu.others_percent, gpu.name) for gpu in moment.readings.gpus]
    load, name = max(((n, name) for n, name in loads if n is not None), default=(0.0, ""))
    resume = _eased(limit)
    if load <= (resume if Reason.GPU_BUSY in moment.memory.objected else limit):
        return None
    sentence = say(
        "Other programs use {percent} % of {gpu}; work goes on below {resume} %.",
        percent=round(load),
        gpu=name,
        resume=resume,
    )
    return Objection(Reason.GPU_BUSY, sentence, comes_and_goes=True)


def _eased(limit: int) -> int:
    """Return the load at which work goes on, for one at which it stops."""
    return max(limit // 2, limit - LOAD_MARGIN_PERCENT)


def _minutes(seconds: float) -> int:
    return max(1, round(seconds / 60))


def _unless_boosted(rule: Rule) -> Rule:
    return lambda moment: None if moment.boosted else rule(moment)


BOOSTABLE: Final[tuple[Rule, ...]] = (
    on_battery,
    outside_hours,
    program_runs,
    fullscreen,
    in_use,
    input_unreadable,
    cpu_busy,
    gpu_busy,
)
"""What the user overrides by "run now"."""

RULES: Final[tuple[Rule, ...]] = (
    shutting_down,
    suspending,
    paused_by_user,
    disk_full,
    memory_short,
    too_hot,
    on_ups,
    *map(_unless_boosted, BOOSTABLE),
)
"""In order of rank: the first that objects decides."""
