"""The rules of readiness, each a pure function of a moment, and their order.

Where a reading swings around a limit, a rule that objected at the last look asks for a margin
before it stops objecting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import spare_card_bytes
from pleb_agent.core.moment import Moment
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.readings import PowerSource, PresenceKind
from pleb_agent.core.schedule import DAY_MINUTES, DAY_NAMES, DAYS, seconds_to
from pleb_agent.core.sentence import say
from pleb_agent.core.signal_rules import allows_work
from pleb_agent.core.signals import Match
from pleb_agent.core.sizes import format_bytes

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence

__all__ = [
    "BOOSTABLE",
    "HELD_BACK",
    "OF_ONE",
    "RULES",
    "USUAL_LOOK_SECONDS",
    "Action",
    "Objection",
    "PolicyReason",
    "Rule",
]

USUAL_LOOK_SECONDS: Final = 60.0
"""How often to look where nothing changes by time alone, in case a sensor reports no change."""


class Action(StrEnum):
    """What the worker may do."""

    RUN = "run"
    PAUSE = "pause"
    """Stop computing, stay in memory."""
    STOP = "stop"
    """Write a checkpoint, leave memory."""


class PolicyReason(StrEnum):
    """Which rule decided. In order of rank."""

    READY = "ready"
    STARTING = "starting"
    SHUTTING_DOWN = "shutting_down"
    SUSPENDING = "suspending"
    DEVICE_OFF = "device_off"
    PAUSED_BY_USER = "paused_by_user"
    DEVICE_PAUSED = "device_paused"
    DISK_FULL = "disk_full"
    MEMORY_SHORT = "memory_short"
    CARD_MEMORY_SHORT = "card_memory_short"
    TOO_HOT = "too_hot"
    CARD_TOO_HOT = "card_too_hot"
    ON_BATTERY = "on_battery"
    PAUSED_BY_PROGRAM = "paused_by_program"
    OUTSIDE_HOURS = "outside_hours"
    SIGNALS = "signals"
    PROGRAM_RUNS = "program_runs"
    FULLSCREEN = "fullscreen"
    IN_USE = "in_use"
    INPUT_UNREADABLE = "input_unreadable"
    CPU_BUSY = "cpu_busy"
    CARD_PROGRAM_RUNS = "card_program_runs"
    GPU_BUSY = "gpu_busy"
    SETTLING = "settling"
    """The last objection has just gone: wait a little before resuming."""


OF_ONE: Final = frozenset(
    {
        PolicyReason.GPU_BUSY,
        PolicyReason.DEVICE_OFF,
        PolicyReason.DEVICE_PAUSED,
        PolicyReason.CARD_MEMORY_SHORT,
        PolicyReason.CARD_TOO_HOT,
        PolicyReason.CARD_PROGRAM_RUNS,
    }
)
"""Reasons that concern one device and not the whole PC."""
HELD_BACK: Final = frozenset({PolicyReason.DEVICE_OFF, PolicyReason.DEVICE_PAUSED})
"""Of them, those that the user chose: they may last."""


@dataclass(frozen=True)
class Objection:
    """What a rule has against working. `look_again_seconds` is as in `Decision`."""

    reason: PolicyReason
    sentence: Sentence
    look_again_seconds: float = USUAL_LOOK_SECONDS
    action: Action = Action.PAUSE
    comes_and_goes: bool = False
    """It may come and go within seconds: wait for it to settle before resuming."""


Rule = Callable[[Moment], Objection | None]

LEAST_AVAILABLE_BYTES: Final = 256 * 2**20
LEAST_AVAILABLE_SHARE: Final = 0.05
"""Of all memory: the larger of the two stays free for others."""
HEAT_MARGIN_CELSIUS: Final = 8
CRITICAL_MARGIN_CELSIUS: Final = 5
"""So far below its driver's critical temperature a processor stays."""
BATTERY_MARGIN_PERCENT: Final = 5
LOAD_MARGIN_PERCENT: Final = 15


def shutting_down(moment: Moment) -> Objection | None:
    """The system is shutting down: save the unit while there is time."""
    if not moment.readings.shutting_down:
        return None
    sentence = say("The PC is shutting down; work resumes after the next start.")
    return Objection(PolicyReason.SHUTTING_DOWN, sentence, action=Action.STOP)


def suspending(moment: Moment) -> Objection | None:
    """The system is going to sleep, and power may fail meanwhile: save the unit in time."""
    if not moment.readings.suspending:
        return None
    sentence = say("The PC is going to sleep; work resumes when it wakes up.")
    return Objection(PolicyReason.SUSPENDING, sentence, action=Action.STOP, comes_and_goes=True)


_LONG_SECONDS: Final = 2.5 * 3600
"""Longer spans are shown in hours."""


def paused_by_user(moment: Moment) -> Objection | None:
    """The user's pause; a worker that is paused for long frees its memory by itself."""
    override = moment.readings.override
    if not override.is_active(OverrideKind.PAUSE, moment.now):
        return None
    if override.until is None:
        return Objection(PolicyReason.PAUSED_BY_USER, say("Paused by you, until you resume."))
    left = override.until - moment.now
    sentence = say("Paused by you for {minutes} more min.", minutes=max(1, round(left / 60)))
    if left > _LONG_SECONDS:
        sentence = say("Paused by you for {hours} more h.", hours=round(left / 3600))
    return Objection(PolicyReason.PAUSED_BY_USER, sentence, left)


def disk_full(moment: Moment) -> Objection | None:
    """Stop before the user runs out of disk space."""
    free, keep = moment.readings.free_disk_bytes, moment.preferences.keep_free_bytes
    if free >= keep:
        return None
    sentence = say(
        "Only {free} of disk space are free, and {keep} are reserved for you; "
        "free some space to continue.",
        free=format_bytes(free),
        keep=format_bytes(keep),
    )
    return Objection(PolicyReason.DISK_FULL, sentence, action=Action.STOP, comes_and_goes=True)


def memory_short(moment: Moment) -> Objection | None:
    """Other programs need the memory.

    After a stop there must be room for the worker too, or it would be stopped again at once.
    """
    available, total = moment.readings.memory_available_bytes, moment.readings.memory_total_bytes
    if available is None:
        return None
    needed = max(LEAST_AVAILABLE_BYTES, int((total or 0) * LEAST_AVAILABLE_SHARE))
    if PolicyReason.MEMORY_SHORT in moment.memory.objected:
        needed += max(0, moment.memory.short_bytes - moment.readings.worker_memory_bytes)
    if available >= needed:
        return None
    sentence = say(
        "Other programs need the memory; work resumes when {needed} are free ({available} now).",
        needed=format_bytes(needed),
        available=format_bytes(available),
    )
    return Objection(PolicyReason.MEMORY_SHORT, sentence, action=Action.STOP, comes_and_goes=True)


def worker_too_large(moment: Moment) -> Objection | None:
    """The worker uses more memory than it may.

    A worker that was stopped for its size would grow to it again: wait for a while.
    """
    ceiling, size = moment.memory_ceiling_bytes, moment.readings.worker_memory_bytes
    left = moment.memory.outgrown_until - moment.now
    if left > 0:
        size = max(size, moment.memory.outgrown_bytes)
    if moment.is_card or ceiling is None or size <= ceiling:
        return None  # what is read is the size of the processor's worker
    sentence = say(
        "The unit needs {size} of memory, but only {ceiling} are allowed while the PC is in use; "
        "it resumes when the PC is idle."
        if moment.beside_user
        else "The unit needs {size} of memory, but only {ceiling} are allowed; "
        "allow more (`memory_bytes_idle`) to continue at once.",
        size=format_bytes(size),
        ceiling=format_bytes(ceiling),
    )
    waits = (USUAL_LOOK_SECONDS, left, moment.idle_left_seconds)
    look = min(seconds for seconds in waits if seconds > 0)
    return Objection(PolicyReason.MEMORY_SHORT, sentence, look, Action.STOP)


def too_hot(moment: Moment) -> Objection | None:
    """The hottest part is over the user's limit; it has to cool down well below that.

    The limit is lower where a driver reports that a processor is near its critical temperature.
    """
    degrees, limit = moment.readings.hottest_celsius, moment.preferences.hottest_celsius
    if degrees is None or limit is None:
        return None
    room = moment.readings.critical_headroom_celsius
    if room is not None:
        limit = min(limit, round(degrees + room) - CRITICAL_MARGIN_CELSIUS)
    resume = limit - HEAT_MARGIN_CELSIUS
    if degrees < (resume if PolicyReason.TOO_HOT in moment.memory.objected else limit):
        return None
    sentence = say(
        "The PC is at {degrees} °C; work resumes below {resume} °C.",
        degrees=round(degrees),
        resume=resume,
    )
    return Objection(PolicyReason.TOO_HOT, sentence, comes_and_goes=True)


def on_ups(moment: Moment) -> Objection | None:
    """Power is out: what is left is for an orderly shutdown, whatever the user asked for."""
    if moment.readings.power.source is not PowerSource.UPS:
        return None
    sentence = say("Power is out and the PC runs on its UPS; work resumes when power is back.")
    return Objection(PolicyReason.ON_BATTERY, sentence, action=Action.STOP, comes_and_goes=True)


def on_battery(moment: Moment) -> Objection | None:
    """On battery: not at all, or not below a charge. An unknown source counts as plugged in."""
    power, lowest = moment.readings.power, moment.preferences.battery_percent
    if power.source is not PowerSource.BATTERY:
        return None
    if not moment.preferences.on_battery:
        sentence = say("On battery; work resumes when the PC is plugged in.")
        return Objection(PolicyReason.ON_BATTERY, sentence, comes_and_goes=True)
    if power.percent is None:
        return None
    resume = min(100, lowest + BATTERY_MARGIN_PERCENT)
    held = PolicyReason.ON_BATTERY in moment.memory.objected
    if power.percent >= (resume if held else lowest):
        return None
    sentence = say(
        "The battery is at {percent} %; work resumes at {resume} %, or when plugged in.",
        percent=round(power.percent),
        resume=resume,
    )
    return Objection(PolicyReason.ON_BATTERY, sentence, comes_and_goes=True)


def outside_hours(moment: Moment) -> Objection | None:
    """It is not one of the working hours."""
    time = moment.readings.local_time
    minutes = moment.hours.minutes_to_change(time)
    if minutes is None or moment.hours.allow(time):
        return None
    day, minute = divmod(time.weekday * DAY_MINUTES + time.minute + minutes, DAY_MINUTES)
    at = f"{minute // 60:02}:{minute % 60:02}"
    if minutes < DAY_MINUTES:
        sentence = say("Outside your working hours; work starts at {time}.", time=at)
    else:
        sentence = say(
            "Outside your working hours; work starts on {day} at {time}.",
            day=say(DAY_NAMES[DAYS[day % len(DAYS)]]),
            time=at,
        )
    return Objection(PolicyReason.OUTSIDE_HOURS, sentence, seconds_to(minutes, moment.now))


def paused_by_program(moment: Moment) -> Objection | None:
    """A program of the user's, such as a home's automation, asked for a pause."""
    pause = moment.readings.hook
    if not pause.is_active(OverrideKind.PAUSE, moment.now):
        return None
    if pause.until is None:
        sentence = (
            say("Paused by your home automation ({reason}) until it resumes.", reason=pause.reason)
            if pause.reason
            else say("Paused by your home automation until it resumes.")
        )
        return Objection(PolicyReason.PAUSED_BY_PROGRAM, sentence)
    left = pause.until - moment.now
    minutes = max(1, round(left / 60))
    sentence = (
        say(
            "Paused by your home automation ({reason}) for {minutes} more min.",
            reason=pause.reason,
            minutes=minutes,
        )
        if pause.reason
        else say("Paused by your home automation for {minutes} more min.", minutes=minutes)
    )
    return Objection(PolicyReason.PAUSED_BY_PROGRAM, sentence, left)


def signals(moment: Moment) -> Objection | None:
    """The user's rules on prices, temperatures, calendars and their like do not allow work."""
    states = moment.row_states
    if allows_work(moment.readings.rules, states):
        return None
    refused = [state for state in states if not state.allows]
    sentence, others = refused[0].sentence, len(refused) - 1
    if others and moment.readings.rules.match is Match.ANY:
        sentence = say("{first} No other rule allows work either.", first=sentence)
    look = min(USUAL_LOOK_SECONDS, *(state.look_again_seconds for state in states))
    return Objection(PolicyReason.SIGNALS, sentence, look)


def program_runs(moment: Moment) -> Objection | None:
    """A program is running for which the user wants to have the PC."""
    chosen = moment.preferences
    for_cards = set(chosen.gpu_pause_programs).difference(chosen.pause_programs)
    programs = sorted(moment.readings.programs - for_cards)
    if not programs:
        return None
    first, others = programs[0], len(programs) - 1
    if others:
        sentence = say(
            "{program} and {count} more of your programs are running; work resumes when they end.",
            program=first,
            count=others,
        )
    else:
        sentence = say("{program} is running; work resumes when it ends.", program=first)
    return Objection(PolicyReason.PROGRAM_RUNS, sentence, comes_and_goes=True)


def fullscreen(moment: Moment) -> Objection | None:
    """A film, a game or a presentation, with or without input; a screen lock does not count."""
    presence = moment.readings.presence
    if not moment.preferences.pause_on_fullscreen or presence.locked:
        return None
    if not (moment.someone and presence.fullscreen):
        return None
    sentence = say("A window fills the screen; work resumes when it no longer does.")
    return Objection(PolicyReason.FULLSCREEN, sentence, comes_and_goes=True)


def in_use(moment: Moment) -> Objection | None:
    """There was input recently. Idle time needs no further wait before work resumes."""
    unreadable = moment.readings.presence.kind is PresenceKind.UNREADABLE
    if unreadable or moment.preferences.while_in_use or not moment.in_use:
        return None
    minutes = moment.preferences.idle_minutes
    sentence = say(
        "The PC is in use; work resumes {minutes} min after the last input.", minutes=f"{minutes:g}"
    )
    return Objection(PolicyReason.IN_USE, sentence, moment.idle_left_seconds)


def input_unreadable(moment: Moment) -> Objection | None:
    """Whether the session is in use is unknown, so it counts as in use."""
    presence = moment.readings.presence
    if presence.kind is not PresenceKind.UNREADABLE:
        return None
    if moment.preferences.while_in_use or not moment.in_use:
        return None
    if presence.starting:
        sentence = say("Checking whether the PC is in use.")
        return Objection(PolicyReason.STARTING, sentence, comes_and_goes=True)
    sentence = say(
        "Whether the PC is in use cannot be determined, so it counts as in use: {problem} "
        "Allow work while the PC is in use (`while_in_use`) to continue.",
        problem=say(presence.problem or "mouse and keyboard cannot be read."),
    )
    return Objection(PolicyReason.INPUT_UNREADABLE, sentence, comes_and_goes=True)


def cpu_busy(moment: Moment) -> Objection | None:
    """Other programs compute. Without a session, the scheduler's priorities are enough."""
    load, limit = moment.readings.cpu_others_percent, moment.preferences.cpu_others_percent
    if moment.is_card or load is None or limit is None or not moment.someone:
        return None
    resume = _eased(limit)
    if load <= (resume if PolicyReason.CPU_BUSY in moment.memory.objected else limit):
        return None
    sentence = say(
        "Other programs use {percent} % of the CPU; work resumes below {resume} %.",
        percent=round(load),
        resume=resume,
    )
    return Objection(PolicyReason.CPU_BUSY, sentence, comes_and_goes=True)


def gpu_busy(moment: Moment) -> Objection | None:
    """Other programs use the card, which has no priorities."""
    card, limit = moment.card, moment.preferences.gpu_others_percent
    if card is None or limit is None or card.others_percent is None:
        return None
    load, resume = card.others_percent, _eased(limit)
    if load <= (resume if PolicyReason.GPU_BUSY in moment.memory.objected else limit):
        return None
    sentence = say(
        "Other programs use {percent} % of {gpu}; work resumes below {resume} %.",
        percent=round(load),
        gpu=card.name,
        resume=resume,
    )
    return Objection(PolicyReason.GPU_BUSY, sentence, comes_and_goes=True)


def device_off(moment: Moment) -> Objection | None:
    """The user has switched this device off."""
    device, preferences = moment.device, moment.preferences
    if device not in preferences.devices_off and (preferences.use_gpu or not moment.is_card):
        return None
    sentence = say("{device} is switched off in the preferences.", device=device)
    return Objection(PolicyReason.DEVICE_OFF, sentence, action=Action.STOP)


def device_paused(moment: Moment) -> Objection | None:
    """The user has paused this device and not the others."""
    override = dict(moment.readings.device_pauses).get(moment.device)
    if override is None or not override.is_active(OverrideKind.PAUSE, moment.now):
        return None
    if override.until is None:
        sentence = say("{device} is paused by you, until you resume.", device=moment.device)
        return Objection(PolicyReason.DEVICE_PAUSED, sentence)
    left = override.until - moment.now
    sentence = say(
        "{device} is paused by you for {minutes} more min.",
        device=moment.device,
        minutes=max(1, round(left / 60)),
    )
    return Objection(PolicyReason.DEVICE_PAUSED, sentence, left)


def card_memory_short(moment: Moment) -> Objection | None:
    """Other programs need the card's memory: it is given back, as the worker leaves.

    After that there must be room for the worker too, or it would have to leave again at once.
    """
    card = moment.card
    if card is None or card.memory_used_bytes is None or card.memory_total_bytes is None:
        return None
    free = card.memory_total_bytes - card.memory_used_bytes
    total = card.memory_total_bytes
    needed = spare_card_bytes(total)
    if PolicyReason.CARD_MEMORY_SHORT in moment.memory.objected:
        needed += max(0, moment.memory.card_bytes - (card.worker_bytes or 0))
        needed = min(needed, total - spare_card_bytes(total))  # what an idle card has free
    if free >= needed:
        return None
    sentence = say(
        "Other programs need the memory of {gpu}; work resumes when {needed} of it are free "
        "({available} now).",
        gpu=card.name,
        needed=format_bytes(needed),
        available=format_bytes(free),
    )
    return Objection(
        PolicyReason.CARD_MEMORY_SHORT, sentence, action=Action.STOP, comes_and_goes=True
    )


def card_too_hot(moment: Moment) -> Objection | None:
    """The card is over its limit though it has rested more and more below it."""
    card, limit = moment.card, moment.preferences.gpu_hottest_celsius
    if card is None or card.celsius is None or limit is None:
        return None
    resume = limit - HEAT_MARGIN_CELSIUS
    if card.celsius < (resume if PolicyReason.CARD_TOO_HOT in moment.memory.objected else limit):
        return None
    sentence = say(
        "{gpu} is at {degrees} °C; work resumes below {resume} °C.",
        gpu=card.name,
        degrees=round(card.celsius),
        resume=resume,
    )
    return Objection(PolicyReason.CARD_TOO_HOT, sentence, comes_and_goes=True)


def card_program_runs(moment: Moment) -> Objection | None:
    """A program is running for which the user wants to have the cards."""
    programs = moment.readings.programs.intersection(moment.preferences.gpu_pause_programs)
    if not moment.is_card or not programs:
        return None
    sentence = say(
        "{program} is running; {device} resumes when it ends.",
        program=min(programs),
        device=moment.device,
    )
    return Objection(PolicyReason.CARD_PROGRAM_RUNS, sentence, comes_and_goes=True)


def _eased(limit: int) -> int:
    """Return the load at which work resumes, for one at which it stops."""
    return max(limit // 2, limit - LOAD_MARGIN_PERCENT)


def _unless_boosted(rule: Rule) -> Rule:
    return lambda moment: None if moment.boosted else rule(moment)


BOOSTABLE: Final[tuple[Rule, ...]] = (
    on_battery,
    paused_by_program,
    outside_hours,
    signals,
    program_runs,
    fullscreen,
    in_use,
    input_unreadable,
    cpu_busy,
    card_program_runs,
    gpu_busy,
)
"""What the user overrides by "run now"."""

RULES: Final[tuple[Rule, ...]] = (
    shutting_down,
    suspending,
    device_off,
    paused_by_user,
    device_paused,
    disk_full,
    memory_short,
    card_memory_short,
    worker_too_large,
    too_hot,
    card_too_hot,
    on_ups,
    *map(_unless_boosted, BOOSTABLE),
)
"""In order of rank: the first that objects decides."""
