"""What pages compute before they are rendered."""

from __future__ import annotations

import dataclasses

import pytest

from pleb_agent.control.views import EventView, MessageView, RuntimeView
from pleb_agent.core.agent_state import FINAL_STATES, Activity, AssignmentState
from pleb_agent.core.history import EventKind
from pleb_agent.core.override import NO_OVERRIDE, Override, OverrideKind
from pleb_agent.core.preference_table import PREFERENCES, Kind, changed, find
from pleb_agent.core.preferences import Preferences
from pleb_agent.translation.words import words_for
from pleb_agent.web.page_history import EVENTS, folded_text
from pleb_agent.web.page_now import KINDS, STATES
from pleb_agent.web.page_preferences import _each_of, control_of, value_of
from pleb_agent.web.page_rendering import (
    ACTIVITIES,
    ICONS,
    SPARKLINE_HEIGHT,
    SPARKLINE_WIDTH,
    line,
    prose,
    sparkline,
)
from pleb_agent.web.page_welcome import Stage, stage_of
from pleb_agent.web.pages import FILES, STATIC
from pleb_shared.protocol.unit import UnitKind
from tests.integration.page_agent import PageAgent, assignment, project, status, unit

EN, DE = words_for("en"), words_for("de")
NEW = project(counters={})


def view(**changes):
    return PageAgent().prefer(**changes).reader.preferences()


# -- preferences ------------------------------------------------------------------------------


def controls(preferences):
    return {one.name: control_of(one, preferences, EN) for one in PREFERENCES.values()}


def test_what_a_control_shows_is_what_it_means():
    preferences = view(hours="mon-fri 20:00-08:00", pause_programs=["steam", "vlc"])
    for name, control in controls(preferences).items():
        if control.preference.kind not in {Kind.HOURS, Kind.WEIGHTS}:
            value = value_of(control.preference, control.value)
            assert changed(preferences.values, {name: value}) == preferences.values


def test_sizes_are_in_units_that_people_use():
    shown = controls(view(cache_bytes=3 * 2**29, download_bytes_per_second=500 * 2**10))
    assert shown["cache_bytes"].value == "1.5"
    assert shown["download_bytes_per_second"].value == "500"
    for name, text, expected in (
        ("cache_bytes", "1,5", 3 * 2**29),
        ("upload_bytes_per_day", "500", 500 * 2**20),
        ("upload_bytes_per_second", "9", 9 * 2**10),
        ("memory_bytes_idle", " ", None),
    ):
        new = changed(Preferences(), {name: value_of(find(name), text)})
        assert getattr(new, name) == expected


def test_controls_show_readings_of_the_machine():
    preferences = view()
    assert controls(preferences)["threads"].fact == "of 16 cores"
    assert controls(preferences)["threads"].most == "16"
    assert controls(preferences)["battery_percent"].fact == "now plugged in, 88 %"
    assert control_of(find("hottest_celsius"), preferences, DE).fact == "jetzt 51 °C"


# -- the first unit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"projects": []}, Stage.NO_PROJECT),
        ({"runtime": RuntimeView(kind="cpu", state="missing", sentence="")}, Stage.RUNTIME),
        ({"runtime": RuntimeView(kind="cpu", state="installed", sentence="")}, Stage.READY),
        ({"runtime": RuntimeView(kind="cuda", state="missing", sentence="")}, Stage.READY),
        ({}, Stage.READY),
        ({"override": Override(OverrideKind.BOOST)}, Stage.ASKED),
        ({"open": [assignment(state="received")]}, Stage.FETCHING),
        ({"unit": unit(), "open": [assignment(state="received")]}, Stage.TRAINING),
        ({"unit": dataclasses.replace(unit(), kind="calibrate")}, Stage.MEASURING),
        ({"open": [assignment(state="uploading")]}, Stage.SENDING),
        ({"projects": [project(counters={}, waits_for_confirmation=True)]}, Stage.WAITING),
        ({"projects": [project(counters={"verdicts_valid": 1})], "unit": unit()}, Stage.ACCEPTED),
    ],
)
def test_how_far_the_first_unit_is(changes, stage):
    usual = {"first_run": True, "unit": None, "projects": [NEW], "override": NO_OVERRIDE}
    assert stage_of(status(**(usual | changes))) is stage


# -- words ------------------------------------------------------------------------------------


def test_every_enum_value_has_a_label():
    assert set(ACTIVITIES) == {each.value for each in Activity} | {"stopped"}
    assert set(ACTIVITIES) <= set(ICONS)
    assert set(EVENTS) == {each.value for each in EventKind}
    assert set(KINDS) == {each.value for each in UnitKind}
    assert set(STATES) == {each.value for each in set(AssignmentState) - FINAL_STATES}


# -- small things -----------------------------------------------------------------------------


def test_a_sparkline_stays_in_its_box_and_falls_with_the_loss():
    drawn = sparkline([(1, 3.0), (2, float("nan")), (5, 2.0), (9, 1.0)])
    assert drawn is not None
    points = [tuple(map(float, pair.split(","))) for pair in drawn.points.split()]
    assert len(points) == 3
    assert all(0 <= x <= SPARKLINE_WIDTH and 0 <= y <= SPARKLINE_HEIGHT for x, y in points)
    assert [y for _, y in points] == sorted(y for _, y in points)
    assert points[1][0] - points[0][0] == pytest.approx((SPARKLINE_WIDTH - 6) / 2, abs=0.1)
    assert dataclasses.astuple(drawn)[1:] == (*points[-1], 3.0, 1.0)


def test_a_sparkline_needs_two_values():
    assert sparkline([]) is None
    assert sparkline([(1, 2.0), (2, float("inf"))]) is None
    assert sparkline([(1, 2.0), (2, 2.0)]) is not None


def test_text_from_outside_is_cut_and_control_characters_are_escaped():
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


def test_several_units_of_a_day_are_one_sentence():
    def event(count, outcome="accepted"):
        message = MessageView(text="Unit 7 of words was accepted.", template="", values={})
        return EventView(
            id=1,
            at=1e9,
            kind="unit",
            project="words",
            message=message,
            outcome=outcome,
            count=count,
        )

    assert folded_text(EN, event(500)) == "500 units of words were accepted."
    assert folded_text(EN, event(2, "given_back")) == "2 units of words were given back."
    assert folded_text(EN, event(1)) == "", "one speaks for itself"
    assert folded_text(EN, event(9, "")) == "", "an event of an earlier release"


def test_each_device_has_a_share_of_its_own() -> None:
    seen = view(device_shares={"cuda-0": 40})
    share = find("device_shares")
    names = [one.name for one in _each_of(share, seen)]
    assert names == ["device_shares.cpu", "device_shares.cuda-0"]
    cpu, card = (control_of(one, seen, EN) for one in _each_of(share, seen))
    assert (cpu.value, cpu.fact, cpu.kind) == ("100", "CPU", "slider")
    assert (card.value, card.fact) == ("40", "NVIDIA GeForce RTX 4060")
    assert card.id == "pref-device-shares-cuda-0"
    assert changed(seen.values, {card.preference.name: value_of(card.preference, "55")}) == changed(
        seen.values, {"device_shares.cuda-0": 55}
    )
