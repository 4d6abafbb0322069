"""Rows on signals as tables of situations: what is allowed, what is said, when it is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pleb_agent.core.readiness import Action, PolicyMemory, PolicyReason, decide
from pleb_agent.core.sentence import say
from pleb_agent.core.signal_rules import SLOT_SECONDS, would_have_worked
from pleb_agent.core.signals import Match, Row, Signal, SignalReading, SignalRules, Test
from tests.unit.agent.policy_moments import FREE, NOW, PREFERENCES, boosted, clock, later

PRICE = Signal(name="Electricity", address="https://price.example/now", unit="€/kWh")
SUN = Signal(name="Solar surplus", address="mqtt://broker/sun", unit="W")
ROOM = Signal(name="Room", address="http://ha.local:8123", entity="sensor.room", unit="°C")
CPU = Signal(name="Processor", address="sensor:cpu", unit="°C")
FAN = Signal(name="Fan", address="sensor:fan", unit="rpm")
HOME = Signal(name="Somebody at home", address="http://ha.local:8123", entity="person.anna")
WORK = Signal(name="Calendar", address="/home/a/work.ics")
QUIET = Signal(name="Quiet hours", address="hours:22:00-07:00")
AFTERNOON = Signal(name="Afternoon", address="hours:14:00-16:00")

CHEAP = Row("Electricity", Test.BELOW, 0.25)
SUNNY = Row("Solar surplus", Test.ABOVE, 1500)
COOL = Row("Room", Test.BELOW, 24, 23)
NOBODY = Row("Somebody at home", Test.BELOW, 0.5, 0.5)
FREE_TIME = Row("Calendar", Test.OUTSIDE)
AT_WORK = Row("Calendar", Test.DURING)


def known(value, **more) -> SignalReading:
    return SignalReading(value, NOW, **more)


def rules(signals, rows, match=Match.ALL) -> SignalRules:
    return SignalRules(signals=tuple(signals), rows=tuple(rows), match=match)


def decided(found, readings, memory=None, base=FREE):
    return decide(
        replace(base, rules=found, signals=readings), PREFERENCES, memory or PolicyMemory()
    )


# Each line: a signal, its row, what is read (None: nothing yet), and the sentence of the refusal;
# empty: work is allowed. The moment is a Tuesday, 14:14.
SITUATIONS = [
    (PRICE, CHEAP, known(0.2), ""),
    (PRICE, CHEAP, known(0.31),
     "Electricity is at 0.31 €/kWh; work resumes below 0.2375 €/kWh."),
    (PRICE, CHEAP, None, "Electricity has not been read yet, which counts as “no”."),
    (PRICE, CHEAP, SignalReading(problem=say("It is gone."), next_at=NOW + 60),
     "Electricity is not known, which counts as “no”: It is gone. The next look is at 14:15."),
    (PRICE, CHEAP, SignalReading(problem=say("It is gone.")),
     "Electricity is not known, which counts as “no”: It is gone."),
    (PRICE, CHEAP, SignalReading(0.2, NOW - 899), ""),
    (PRICE, CHEAP, SignalReading(0.2, NOW - 900),
     "The last value of Electricity is 15 min old, which counts as “no”."),
    (SUN, SUNNY, known(1600), ""),
    (SUN, SUNNY, known(1500), "Solar surplus is at 1500 W; work resumes above 1575 W."),
    (ROOM, COOL, known(23.9), ""),
    (ROOM, COOL, known(25), "Room is at 25 °C; work resumes below 23 °C."),
    (CPU, Row("Processor", Test.BELOW, 80, 70), known(81),
     "Processor is at 81 °C; work resumes below 70 °C."),
    (FAN, Row("Fan", Test.BELOW, 2000), known(1900), ""),
    (HOME, NOBODY, known(0.0), ""),
    (HOME, NOBODY, known(1.0), "Somebody at home is at 1; work resumes below 0.5."),
    (WORK, FREE_TIME, known(0.0), ""),
    (WORK, FREE_TIME, known(1.0, until=NOW + 46 * 60),
     "Calendar is on; work resumes when it ends, at 15:00."),
    (WORK, FREE_TIME, known(1.0), "Calendar is on; work resumes when it ends."),
    (WORK, AT_WORK, known(1.0), ""),
    (WORK, AT_WORK, known(0.0, until=NOW + 46 * 60),
     "Calendar is off; work resumes when it begins, at 15:00."),
    (WORK, AT_WORK, known(0.0), "Calendar is off; work resumes when it begins."),
    (QUIET, Row("Quiet hours", Test.OUTSIDE), None, ""),
    (QUIET, Row("Quiet hours", Test.DURING), None,
     "Quiet hours is off; work resumes when it begins, at 22:00."),
    (AFTERNOON, Row("Afternoon", Test.OUTSIDE), None,
     "Afternoon is on; work resumes when it ends, at 16:00."),
]  # fmt: skip


@pytest.mark.parametrize(("signal", "row", "reading", "sentence"), SITUATIONS)
def test_one_row(signal, row, reading, sentence):
    readings = {} if reading is None else {signal.name: reading}
    decision, _ = decided(rules([signal], [row]), readings)
    if sentence:
        assert (decision.action, decision.reason) == (Action.PAUSE, PolicyReason.SIGNALS)
        assert str(decision.sentence) == sentence
    else:
        assert decision.action is Action.RUN


@pytest.mark.parametrize(
    ("price", "sun", "match", "allowed", "sentence"),
    [
        (0.2, 2000, Match.ALL, True, ""),
        (0.3, 2000, Match.ALL, False, "Electricity is at 0.3 €/kWh; work resumes"),
        (0.2, 0, Match.ALL, False, "Solar surplus is at 0 W; work resumes"),
        (0.3, 2000, Match.ANY, True, ""),
        (None, 2000, Match.ANY, True, ""),
        (None, 2000, Match.ALL, False, "Electricity has not been read yet"),
        (0.3, 0, Match.ANY, False, "No other rule allows work either."),
    ],
)
def test_rows_together(price, sun, match, allowed, sentence):
    readings = {"Solar surplus": known(sun)}
    if price is not None:
        readings["Electricity"] = known(price)
    decision, _ = decided(rules([PRICE, SUN], [CHEAP, SUNNY], match), readings)
    assert (decision.action is Action.RUN) is allowed
    assert sentence in str(decision.sentence)


def test_a_price_around_its_limit_does_not_flicker():
    """Work stops at the limit, and resumes only well below it, at once and without settling."""
    memory, ran = PolicyMemory(), []
    for minute, price in enumerate((0.24, 0.26, 0.245, 0.249, 0.2374, 0.245, 0.249, 0.25)):
        now = later(FREE, minute * 60)
        readings = {"Electricity": SignalReading(price, now.now)}
        decision, memory = decided(rules([PRICE], [CHEAP]), readings, memory, now)
        ran.append(decision.action is Action.RUN)
    assert ran == [True, False, False, False, True, True, True, False]


def test_a_decision_is_looked_at_again_when_time_alone_changes_it():
    ends = {"Calendar": known(1.0, until=NOW + 20)}
    decision, _ = decided(rules([WORK], [FREE_TIME]), ends)
    assert decision.look_again_seconds == 20
    decision, _ = decided(rules([WORK], [AT_WORK]), ends)
    assert decision.look_again_seconds == 20
    old = {"Electricity": SignalReading(0.2, NOW - 890)}
    decision, _ = decided(rules([PRICE], [CHEAP]), old)
    assert decision.look_again_seconds == 10, "then the value is too old"


def test_run_now_overrides_rules_and_no_session_is_needed_for_them():
    readings = {"Electricity": known(0.5)}
    found = rules([PRICE], [CHEAP])
    assert decided(found, readings, base=boosted(FREE))[0].action is Action.RUN
    assert decided(found, {})[0].action is Action.PAUSE
    assert decided(rules([PRICE], []), {})[0].action is Action.RUN, "a signal alone asks nothing"


# -- yesterday --------------------------------------------------------------------------------


DAY = 86_400
BEGIN = NOW - NOW % SLOT_SECONDS


def history(values) -> dict[int, float]:
    """One value for each slot from BEGIN on."""
    first = int(BEGIN // SLOT_SECONDS)
    return {first + place: value for place, value in enumerate(values) if value is not None}


def test_what_would_have_worked_is_counted_with_hysteresis():
    cheap = history([0.2] * 78 + [0.3] * 10 + [0.245] * 100 + [0.2] * 100)
    seen = would_have_worked(
        rules([PRICE], [CHEAP]), {"Electricity": cheap}, BEGIN, BEGIN + DAY, clock
    )
    assert seen.worked_seconds == 178 * SLOT_SECONDS
    assert seen.known_seconds == DAY
    assert seen.says_something


def test_what_was_not_recorded_counts_as_no():
    partly = history([0.2] * 24 + [None] * 200)
    seen = would_have_worked(
        rules([PRICE], [CHEAP]), {"Electricity": partly}, BEGIN, BEGIN + DAY, clock
    )
    assert (seen.worked_seconds, seen.known_seconds) == (2 * 3600, 2 * 3600)
    nothing = would_have_worked(rules([PRICE], [CHEAP]), {}, BEGIN, BEGIN + DAY, clock)
    assert (nothing.worked_seconds, nothing.says_something) == (0, False)


def test_hours_need_no_record():
    found = rules([QUIET], [Row("Quiet hours", Test.OUTSIDE)])
    seen = would_have_worked(found, {}, BEGIN, BEGIN + DAY, clock)
    assert seen.worked_seconds == 15 * 3600
