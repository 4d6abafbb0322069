"""What pages compute before they are rendered."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from pleb_agent.core.agent_state import FINAL_STATES, Activity, AssignmentState
from pleb_agent.core.descriptions import PREFERENCES, Group, Kind
from pleb_agent.core.history import EventKind
from pleb_agent.core.schedule import DAYS
from pleb_agent.web.page_files import FILES, STATIC
from pleb_agent.web.page_history import folded
from pleb_agent.web.page_icons import ICONS
from pleb_agent.web.page_rendering import line, prose
from pleb_agent.web.page_terms import ACTIVITIES, DAY_NAMES, EVENTS, KINDS, SHORT_DAYS, STATES
from pleb_agent.web.page_welcome import Stage, stage_of
from pleb_agent.web.preference_fields import field_of, fields_of, value_of
from pleb_agent.web.sparkline import HEIGHT, WIDTH, sparkline
from pleb_agent.web.translation import words_for
from pleb_agent.web.views import Event, Message, RuntimeView, WishView
from pleb_shared.errors import InputError
from pleb_shared.protocol.unit import UnitKind
from tests.integration.fake_control import FakeControl, assignment, project, status, unit

EN, DE = words_for("en"), words_for("de")
NEW = project(counters={})


def view(**changes):
    control = FakeControl()
    control.values = msgspec.structs.replace(control.values, **changes)
    return control.preferences()


# -- preferences ------------------------------------------------------------------------------


def test_every_preference_has_a_control():
    shown = {field.name for fields in fields_of(view(), EN).values() for field in fields}
    assert shown == {info.name for info in PREFERENCES if info.group is not Group.PROJECTS}


def test_what_a_control_shows_is_what_it_means():
    preferences = view(hours="mon-fri 20:00-08:00", pause_programs=["steam", "vlc"])
    for fields in fields_of(preferences, EN).values():
        for field in fields:
            if field.info.kind is not Kind.HOURS:
                field_, _, part = field.name.partition(".")
                value = getattr(preferences.values, field_)
                value = getattr(value, part) if part else value
                assert value_of(field.name, field.value, EN) == value, field.name


def test_sizes_are_in_units_that_people_use():
    preferences = view(cache_bytes=3 * 2**29, download_bytes_per_second=500 * 2**10)
    assert (field_of("cache_bytes", preferences, EN).value, "GB") == ("1.5", "GB")
    assert field_of("download_bytes_per_second", preferences, EN).unit == "KB/s"
    assert value_of("cache_bytes", "1,5", DE) == 3 * 2**29
    assert value_of("upload_bytes_per_day", "500", EN) == 500 * 2**20


def test_nothing_means_no_limit_where_that_is_allowed():
    assert value_of("memory_bytes_idle", " ", EN) is None
    with pytest.raises(InputError):
        value_of("cache_bytes", "", EN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("threads", "0"),
        ("threads", "1.5"),
        ("threads", "x"),
        ("threads", "inf"),
        ("threads", "nan"),
        ("battery_percent", "101"),
        ("hottest_celsius", "12"),
        ("cache_bytes", "1e99"),
        ("idle_minutes", "-1"),
        ("cpu_percent_idle", "0"),
    ],
)
def test_a_wrong_number_is_refused_with_the_range(name, text):
    with pytest.raises(InputError, match="Bitte gib eine Zahl von"):
        value_of(name, text, DE)


def test_controls_of_gpus_are_shown_where_there_is_one():
    preferences = view()
    machine = msgspec.structs.replace(preferences.machine, gpus=[])
    without = msgspec.structs.replace(preferences, machine=machine)
    names = {field.name for fields in fields_of(without, EN).values() for field in fields}
    assert "use_gpu" not in names
    assert "use_gpu" in {
        field.name for fields in fields_of(preferences, EN).values() for field in fields
    }


def test_the_machine_is_told_beside_a_control():
    preferences = view()
    assert field_of("threads", preferences, EN).fact == "of 16 cores"
    assert field_of("threads", preferences, EN).most == "16"
    assert field_of("hottest_celsius", preferences, DE).fact == "jetzt 51 °C"
    assert field_of("battery_percent", preferences, EN).fact == "now plugged in, 88 %"


# -- the first unit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"projects": []}, Stage.NO_PROJECT),
        ({"runtime": RuntimeView(kind="cpu", state="missing", sentence="")}, Stage.RUNTIME),
        ({"runtime": RuntimeView(kind="cpu", state="installed", sentence="")}, Stage.READY),
        ({"runtime": RuntimeView(kind="cuda", state="missing", sentence="")}, Stage.READY),
        ({}, Stage.READY),
        ({"wish": WishView(kind="boost")}, Stage.ASKED),
        ({"open": [assignment(state="received")]}, Stage.FETCHING),
        ({"unit": unit(), "open": [assignment(state="running")]}, Stage.TRAINING),
        ({"unit": msgspec.structs.replace(unit(), kind="calibrate")}, Stage.MEASURING),
        ({"open": [assignment(state="uploading")]}, Stage.SENDING),
        ({"projects": [project(counters={}, waits_for_confirmation=True)]}, Stage.WAITING),
        ({"projects": [project(counters={"verdicts_valid": 1})], "unit": unit()}, Stage.ACCEPTED),
    ],
)
def test_how_far_the_first_unit_is(changes, stage):
    usual = {"first_run": True, "unit": None, "projects": [NEW], "wish": WishView(kind="none")}
    assert stage_of(status(**(usual | changes))) is stage


# -- words ------------------------------------------------------------------------------------


def test_every_word_of_the_agent_has_one_for_people():
    assert set(ACTIVITIES) == {each.value for each in Activity} | {"stopped"}
    assert set(ACTIVITIES) <= set(ICONS)
    assert set(EVENTS) == {each.value for each in EventKind}
    assert set(KINDS) == {each.value for each in UnitKind}
    assert set(STATES) == {each.value for each in set(AssignmentState) - FINAL_STATES}
    assert set(DAY_NAMES) == set(DAYS)
    assert tuple(map(str.lower, SHORT_DAYS)) == DAYS


# -- small things -----------------------------------------------------------------------------


def test_a_sparkline_stays_in_its_box_and_falls_with_the_loss():
    drawn = sparkline([(1, 3.0), (2, float("nan")), (5, 2.0), (9, 1.0)])
    assert drawn is not None
    points = [tuple(map(float, pair.split(","))) for pair in drawn.points.split()]
    assert len(points) == 3
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert [y for _, y in points] == sorted(y for _, y in points)
    assert points[1][0] - points[0][0] == pytest.approx((WIDTH - 6) / 2, abs=0.1)
    assert dataclasses.astuple(drawn)[1:] == (*points[-1], 3.0, 1.0)


def test_a_sparkline_needs_two_values():
    assert sparkline([]) is None
    assert sparkline([(1, 2.0), (2, float("inf"))]) is None
    assert sparkline([(1, 2.0), (2, 2.0)]) is not None


def test_strangers_words_are_cut_and_their_tricks_spelled_out():
    assert line("a\u202eb\x1b[2J\nc") == "a\\u202eb\\x1b[2J\\nc"
    assert prose("a\nb\u2066") == "a\nb\\u2066"
    assert len(line("x" * 10_000)) == 401
    assert len(prose("x" * 10_000)) == 4001


def test_only_listed_files_are_served_and_all_are_there():
    assert {
        path.relative_to(STATIC).as_posix()
        for path in STATIC.rglob("*.*")
        if path.suffix in {".js", ".css", ".svg"}
    } == set(FILES)


def test_units_that_were_told_alike_are_one_line_of_the_history():
    def event(number, template, kind="unit", project="words"):
        text = template.format(unit=number, project=project)
        message = Message(text=text, template=template, values={"unit": number})
        return Event(id=number, at=1e9 + number, kind=kind, project=project, message=message)

    good, bad = "Unit {unit} was accepted.", "Unit {unit} was refused."
    events = [
        event(9, good),
        event(8, good),
        event(7, good),
        event(6, bad),
        event(5, good),
        event(4, good, project="digits"),
        event(3, "Paused.", kind="pause"),
        event(2, "Paused.", kind="pause"),
    ]
    kept = [(one.id, more) for one, more in folded(events)]
    assert kept == [(9, 2), (6, 0), (5, 0), (4, 0), (3, 0), (2, 0)]
