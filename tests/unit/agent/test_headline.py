"""The few words for each thing that the agent can do, and how fast a unit goes on."""

from __future__ import annotations

import dataclasses

import pytest

from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.headline import headline
from pleb_agent.core.rules import PolicyReason
from pleb_agent.core.sentence import say
from pleb_agent.loop.status import CurrentUnit
from pleb_agent.sensors.worker_meter import WorkerMeter
from pleb_agent.web.page_now import pace_of

READY = PolicyReason.READY


@pytest.mark.parametrize(
    ("activity", "reason", "kind", "title", "words"),
    [
        ("working", READY, "train", "Digits", "Training Digits"),
        ("working", READY, "evaluate", "Digits", "Measuring Digits"),
        ("working", READY, "calibrate", "Digits", "Getting to know this PC for Digits"),
        ("working", READY, "", "", "Working"),
        ("idle", READY, "", "Digits", "Waiting for Digits"),
        ("idle", READY, "", "", "Getting ready"),
        ("offline", READY, "", "Digits", "Digits cannot be reached"),
        ("problem", READY, "", "Digits", "Digits needs you"),
        ("problem", READY, "", "", "Something needs you"),
        ("paused", PolicyReason.IN_USE, "train", "Digits", "The PC is in use"),
    ],
)
def test_a_headline_is_a_few_words(activity, reason, kind, title, words):
    state = AgentState(Activity(activity), say("Why."))
    assert str(headline(state, reason, kind, title)) == words


@pytest.mark.parametrize("reason", [reason for reason in PolicyReason if reason != READY])
def test_each_reason_to_pause_has_a_headline_of_its_own(reason):
    said = str(headline(AgentState(Activity.PAUSED, say("Why.")), reason, "", ""))
    assert said != "Paused"
    assert len(said) <= 40


UNIT = CurrentUnit("words", 7, "train", 3, 10, 40, 0.5, compute_seconds=20.0)


def test_the_pace_of_a_unit_counts_the_time_in_which_it_rests():
    pace = pace_of(UNIT, 50)
    assert pace is not None
    assert (pace.left_seconds, pace.units_per_hour) == (120.0, 22.5)
    for unknown in ({"steps_done": 0}, {"steps_total": 0}, {"compute_seconds": 0.0}):
        assert pace_of(dataclasses.replace(UNIT, **unknown), 100) is None


def test_cores_are_measured_between_two_looks_that_are_neither_too_close_nor_too_far():
    used, now = {1: 10.0, 2: 5.0}, [100.0]
    meter = WorkerMeter(used.get, lambda: now[0])
    assert meter.cores([1]) is None, "there was no look before"
    now[0], used[1] = 102.0, 17.0
    assert meter.cores([1]) == 3.5
    now[0], used[1] = 102.3, 99.0
    assert meter.cores([1]) == 3.5, "too soon: the last one holds"
    now[0] = 140.0
    assert meter.cores([1]) is None, "an average over 38 s is not now"
    now[0] = 142.0
    assert meter.cores([2]) is None, "another process"
    now[0] = 144.0
    used.clear()
    assert meter.cores([2]) is None, "it has gone"
