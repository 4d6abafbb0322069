"""Where signals come from: files, JSON, calendars, tokens; and what is kept of them."""

from __future__ import annotations

import datetime as dt
import os

import pytest

from pleb_agent.core.signal_rules import SLOT_SECONDS
from pleb_agent.core.signals import Signal
from pleb_agent.signals.calendar import CalendarReader, reading_at
from pleb_agent.signals.calendar_reader import spans_in
from pleb_agent.signals.history import KEPT_SLOTS, SignalHistory
from pleb_agent.signals.read import SignalError, SignalReader, number_in, read_token


@pytest.mark.parametrize(
    ("data", "pointer", "number"),
    [
        ("0.31\n", "", 0.31),
        ('{"price": 0.31}', "/price", 0.31),
        ('{"data": [{"price": "0.29"}, {"price": 0.31}]}', "/data/1/price", 0.31),
        ('{"prices": [1, 2, 3, 4, 5, 6, 7, 8]}', "/prices/{hour}", 8.0),
        ('{"a/b": {"c~d": 7}}', "/a~1b/c~0d", 7.0),
        ('{"state": "home"}', "/state", 1.0),
    ],
)
def test_the_number_in_an_answer(data, pointer, number):
    assert number_in(data.encode(), pointer, hour=7) == number


@pytest.mark.parametrize(
    ("data", "pointer", "said"),
    [
        ("cheap", "", "'cheap' is no number"),
        ("", "", "is no number"),
        ('{"state": "unavailable"}', "/state", "'unavailable' is no number"),
        ("<html>", "/price", "is no JSON"),
        ("[" * 5000, "/0", "is no JSON"),
        ('{"price": 1}', "/cost", "has nothing at /cost"),
        ("[1]", "/1", "has nothing at /1"),
        ("[1]", "/-1", "has nothing at /-1"),
        ("[1]", "/x", "has nothing at /x"),
        ("7", "/a", "has nothing at /a"),
        ('{"a": {"b": 1}}', "/a", "is no number"),
    ],
)
def test_an_answer_without_a_number_says_so(data, pointer, said):
    with pytest.raises(SignalError) as caught:
        number_in(data.encode(), pointer, hour=0)
    assert said in str(caught.value)


def test_a_file_is_as_old_as_it_was_written(tmp_path):
    file = tmp_path / "price"
    reader = SignalReader(Signal(name="S", address=str(file)))
    with pytest.raises(SignalError, match="cannot be read"):
        reader.read(0)
    file.write_text("0.31")
    os.utime(file, (1000, 1000))
    assert reader.read(0) == (0.31, 1000)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SignalError, match="cannot be read"):
        reader.read(0)


def test_a_token_is_only_taken_from_a_private_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("abc\n")
    file.chmod(0o644)
    with pytest.raises(SignalError, match="chmod 600"):
        read_token(str(file))
    file.chmod(0o600)
    assert read_token(str(file)) == "abc"
    for wrong, said in ((b"", "no token"), (b"a\nb", "no token"), (b"\xff", "cannot be read")):
        file.write_bytes(wrong)
        with pytest.raises(SignalError, match=said):
            read_token(str(file))


# -- calendars --------------------------------------------------------------------------------


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:1
SUMMARY:Lecture
DTSTART:20261130T090000Z
DTEND:20261130T103000Z
RRULE:FREQ=WEEKLY;BYDAY=MO,WE
EXDATE:20261207T090000Z
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Train the model
TRANSP:TRANSPARENT
DTSTART:20261130T180000Z
DURATION:PT2H
END:VEVENT
BEGIN:VEVENT
UID:3
SUMMARY:Cancelled
STATUS:CANCELLED
DTSTART:20261130T200000Z
DTEND:20261130T210000Z
END:VEVENT
BEGIN:VEVENT
UID:4
SUMMARY:Discussion
DTSTART:20261130T101500Z
DTEND:20261130T110000Z
END:VEVENT
BEGIN:VEVENT
UID:5
SUMMARY:Berlin
DTSTART;TZID=Europe/Berlin:20261201T100000
DTEND;TZID=Europe/Berlin:20261201T110000
END:VEVENT
END:VCALENDAR
"""


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text + "+00:00").timestamp()


@pytest.mark.parametrize(
    ("begin", "end", "word", "spans"),
    [
        (
            "2026-11-30T00:00",
            "2026-12-01T00:00",
            "",
            [("2026-11-30T09:00", "2026-11-30T11:00")],  # the lecture and the discussion touch
        ),
        (
            "2026-11-30T00:00",
            "2026-12-01T00:00",
            "train",
            [("2026-11-30T18:00", "2026-11-30T20:00")],
        ),
        (
            "2026-12-01T00:00",
            "2026-12-03T00:00",
            "",
            [("2026-12-01T09:00", "2026-12-01T10:00"), ("2026-12-02T09:00", "2026-12-02T10:30")],
        ),
        ("2026-12-07T00:00", "2026-12-08T00:00", "", []),
    ],
)
def test_when_a_calendar_is_busy(begin, end, word, spans):
    found = spans_in(CALENDAR.replace("\n", "\r\n").encode(), at(begin), at(end), word)
    assert found == [(at(start), at(stop)) for start, stop in spans]


def test_whole_days_are_those_of_this_pc():
    day = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:t\nBEGIN:VEVENT\nUID:1\n"
    day += "DTSTART;VALUE=DATE:20261224\nEND:VEVENT\nEND:VCALENDAR\n"
    midnight = dt.datetime(2026, 12, 24).timestamp()  # noqa: DTZ001 - this PC's
    found = spans_in(day.encode(), midnight - 3600, midnight + 90_000, "")
    assert found == [(midnight, dt.datetime(2026, 12, 25).timestamp())]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("now", "value", "until"), [(5, 0.0, 10), (10, 1.0, 20), (20, 0.0, 30), (40, 0.0, None)]
)
def test_whether_an_event_is_on(now, value, until):
    found = reading_at([(10, 20), (30, 40)], now)
    assert (found.value, found.until) == (value, until)


def test_a_calendar_is_read_in_another_process_and_again_when_it_changes(tmp_path):
    file = tmp_path / "work.ics"
    reader = CalendarReader(Signal(name="S", address=str(file)))
    with pytest.raises(SignalError, match="cannot be read"):
        reader.read(at("2026-11-30T09:30"))
    file.write_text(CALENDAR)
    found = reader.read(at("2026-11-30T09:30"))
    assert (found.value, found.until) == (1.0, at("2026-11-30T11:00"))
    assert reader.read(at("2026-11-30T11:30")).value == 0.0
    file.write_text("BEGIN:VCALENDAR\nnonsense")
    with pytest.raises(SignalError, match="it is no calendar"):
        reader.read(at("2026-11-30T11:30"))


# -- what is kept -----------------------------------------------------------------------------


def test_history_is_bounded_kept_and_forgotten(tmp_path):
    file = tmp_path / "signal-history.json"
    kept = SignalHistory(file)
    now = 1_800_000_000.0
    for slot in range(KEPT_SLOTS + 50):
        kept.note("S", slot, now + slot * SLOT_SECONDS)
    assert len(kept.values["S"]) == KEPT_SLOTS
    assert min(kept.values["S"].values()) == 50
    kept.note("S", -1.0, now + (KEPT_SLOTS + 49) * SLOT_SECONDS + 1)
    assert len(kept.values["S"]) == KEPT_SLOTS, "the last value of a slot stays"
    kept.write()
    assert SignalHistory(file).values == kept.values
    kept.keep_only({"T"})
    assert SignalHistory(file).values == {}


def test_a_clock_that_was_set_back_and_a_damaged_file_cost_the_history_only(tmp_path):
    file = tmp_path / "signal-history.json"
    file.write_bytes(b"{damaged")
    kept = SignalHistory(file)
    assert kept.values == {}
    kept.note("S", 1.0, 2_000_000_000.0)
    kept.note("S", 2.0, 1_000_000_000.0)
    assert list(kept.values["S"].values()) == [2.0]
