"""What the rows on signals say at one moment, and what they would have said of an earlier day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.core.schedule import DAY_MINUTES, parse_hours, seconds_to
from pleb_agent.core.sentence import say
from pleb_agent.core.signals import (
    HOURS_PREFIX,
    Match,
    SignalReading,
    Source,
    Test,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pleb_agent.core.schedule import LocalTime
    from pleb_agent.core.sentence import Sentence, Value
    from pleb_agent.core.signals import Row, Signal, SignalRules

__all__ = [
    "NEVER_SECONDS",
    "SLOT_SECONDS",
    "Preview",
    "RowState",
    "allows_work",
    "row_states",
    "would_have_worked",
]

NEVER_SECONDS: Final = float("inf")
SLOT_SECONDS: Final = 300
"""How far apart values are kept."""
_LEAST_KNOWN_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class RowState:
    """One row now."""

    row: Row
    allows: bool
    sentence: Sentence
    """Why it does not, or what its signal is."""
    look_again_seconds: float
    """Before that it changes by a new value only."""


def row_states(
    rules: SignalRules,
    readings: Mapping[str, SignalReading],
    held: Collection[Row],
    now: float,
    time: LocalTime,
) -> list[RowState]:
    """Return the state of every row.

    Args:
        rules: the user's.
        readings: what is known, by the signal's name.
        held: rows that did not allow work at the last look: they ask for more to resume.
        now: seconds since 1970.
        time: the wall clock at `now`.
    """
    found = []
    for row in rules.rows:
        signal = rules.find(row.signal)
        assert signal is not None  # noqa: S101 - the rules have checked it
        reading = readings.get(row.signal, SignalReading())
        if signal.source is Source.HOURS:
            reading = _of_hours(signal, now, time)
        found.append(_state(row, signal, reading, held=row in held, now=now, time=time))
    return found


def allows_work(rules: SignalRules, states: Collection[RowState]) -> bool:
    """Whether the rows allow work, together; without rows nothing is asked."""
    decide = all if rules.match is Match.ALL else any
    return not states or decide(state.allows for state in states)


def _of_hours(signal: Signal, now: float, time: LocalTime) -> SignalReading:
    hours = parse_hours(signal.address.removeprefix(HOURS_PREFIX))
    minutes = hours.minutes_to_change(time)
    until = None if minutes is None else now + seconds_to(minutes, now)
    return SignalReading(float(hours.allow(time)), now, until=until)


def _state(
    row: Row, signal: Signal, reading: SignalReading, *, held: bool, now: float, time: LocalTime
) -> RowState:
    name = signal.name
    if reading.value is None:
        sentence = say("{signal} has not been read yet, which counts as “no”.", signal=name)
        if reading.problem is not None and reading.next_at is not None:
            sentence = say(
                "{signal} is not known, which counts as “no”: {problem} The next look is at "
                "{time}.",
                signal=name,
                problem=reading.problem,
                time=_clock(reading.next_at, now, time),
            )
        elif reading.problem is not None:
            sentence = say(
                "{signal} is not known, which counts as “no”: {problem}",
                signal=name,
                problem=reading.problem,
            )
        return RowState(row, allows=False, sentence=sentence, look_again_seconds=NEVER_SECONDS)
    age = now - reading.at
    if age >= signal.oldest_seconds:
        sentence = say(
            "The last value of {signal} is {minutes} min old, which counts as “no”.",
            signal=name,
            minutes=round(age / 60),
        )
        return RowState(row, allows=False, sentence=sentence, look_again_seconds=NEVER_SECONDS)
    look = signal.oldest_seconds - max(0.0, age)
    if reading.until is not None:
        look = min(look, max(1.0, reading.until - now))
    allows = row.passes(reading.value, held=held)
    if row.test.is_of_time:
        sentence = _time_sentence(row, reading, now, time, allows=allows)
    else:
        sentence = _number_sentence(row, signal, reading.value, allows=allows)
    return RowState(row, allows=allows, sentence=sentence, look_again_seconds=look)


def _number_sentence(row: Row, signal: Signal, value: float, *, allows: bool) -> Sentence:
    name, unit, shown = signal.name, signal.unit, _rounded(value)
    if allows and unit:
        return say("{signal} is at {value} {unit}.", signal=name, value=shown, unit=unit)
    if allows:
        return say("{signal} is at {value}.", signal=name, value=shown)
    values: dict[str, Value] = {"signal": name, "value": shown, "limit": _rounded(row.resume_at)}
    if unit:
        values["unit"] = unit
        if row.test is Test.BELOW:
            return say(
                "{signal} is at {value} {unit}; work resumes below {limit} {unit}.", **values
            )
        return say("{signal} is at {value} {unit}; work resumes above {limit} {unit}.", **values)
    if row.test is Test.BELOW:
        return say("{signal} is at {value}; work resumes below {limit}.", **values)
    return say("{signal} is at {value}; work resumes above {limit}.", **values)


def _time_sentence(
    row: Row, reading: SignalReading, now: float, time: LocalTime, *, allows: bool
) -> Sentence:
    name = row.signal
    if allows:
        return (
            say("{signal} is on.", signal=name)
            if row.test is Test.DURING
            else say("{signal} is off.", signal=name)
        )
    if reading.until is None:
        return (
            say("{signal} is off; work resumes when it begins.", signal=name)
            if row.test is Test.DURING
            else say("{signal} is on; work resumes when it ends.", signal=name)
        )
    at = _clock(reading.until, now, time)
    if row.test is Test.DURING:
        return say("{signal} is off; work resumes when it begins, at {time}.", signal=name, time=at)
    return say("{signal} is on; work resumes when it ends, at {time}.", signal=name, time=at)


def _rounded(value: float) -> float | int:
    found = float(f"{value:.6g}")
    return int(found) if found.is_integer() else found


def _clock(at: float, now: float, time: LocalTime) -> str:
    """Return the time of day at `at`, by the wall clock of `now`."""
    minute = (time.minute + int((at - now + now % 60) // 60)) % DAY_MINUTES
    return f"{minute // 60:02}:{minute % 60:02}"


@dataclass(frozen=True)
class Preview:
    """What rules would have done in a time that has passed."""

    worked_seconds: float
    known_seconds: float
    """For how long every signal is known; else its rows said no."""

    @property
    def says_something(self) -> bool:
        """Whether enough is known to be shown."""
        return self.known_seconds >= _LEAST_KNOWN_SECONDS


def would_have_worked(
    rules: SignalRules,
    history: Mapping[str, Mapping[int, float]],
    begin: float,
    end: float,
    local_time: Callable[[float], LocalTime],
) -> Preview:
    """Return for how long the rows would have allowed work from `begin` to `end`.

    `history`: of each signal the value in each slot (seconds since 1970 by `SLOT_SECONDS`).
    """
    needed = {row.signal for row in rules.rows}
    recorded = [
        signal.name
        for signal in rules.signals
        if signal.name in needed and signal.source is not Source.HOURS
    ]
    worked = known = 0.0
    held: set[Row] = set()
    for slot in range(int(begin // SLOT_SECONDS), int(end // SLOT_SECONDS)):
        at = float(slot * SLOT_SECONDS)
        values = {name: history.get(name, {}).get(slot) for name in recorded}
        readings = {
            name: SignalReading(value, at) for name, value in values.items() if value is not None
        }
        states = row_states(rules, readings, held, at, local_time(at))
        held = {state.row for state in states if not state.allows}
        worked += SLOT_SECONDS if allows_work(rules, states) else 0.0
        known += SLOT_SECONDS if len(readings) == len(recorded) else 0.0
    return Preview(worked, known)
