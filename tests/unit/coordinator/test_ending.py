"""When training is over, and what is said to be waited for."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from pleb_coordinator.core.ending import best_version, ending
from pleb_coordinator.core.holdout import Point
from pleb_coordinator.core.records import Facts, Project, ProjectState, Round
from pleb_coordinator.core.waiting import Level, Scene, waiting_for
from pleb_shared.protocol.project import ProjectMetadata, Target
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.signing import SigningKey
from tests.conformance.example_metadata import example_metadata

FACTS = Facts(flops_per_step=1, train_shards=1, holdout_shards=1, holdout_examples=1)


def metadata(versions: int = 40, **target: Any) -> ProjectMetadata:
    found = example_metadata(SigningKey.generate().public)
    aim = Target(metric="accuracy", value=0.9, **target) if target else None
    training = msgspec.structs.replace(found.training, versions=versions)
    delegation = msgspec.structs.replace(found.delegation, expires_at=1000)
    return msgspec.structs.replace(found, training=training, target=aim, delegation=delegation)


def points(*values: float) -> list[Point]:
    return [Point(number, value) for number, value in enumerate(values)]


def test_the_best_version_is_the_first_with_the_lowest_value():
    assert best_version(points(3, 1, math.inf, 1, 2)) == 1
    assert best_version(points(math.inf)) is None
    assert best_version([]) is None


@pytest.mark.parametrize(
    ("target", "version", "values", "code"),
    [
        ({}, 39, (1.0,), None),
        ({}, 40, (1.0,), ReasonCode.LAST_VERSION_REACHED),
        ({"stop_at_target": True}, 2, (-0.1, -0.89), None),
        ({"stop_at_target": True}, 2, (-0.1, -0.9), ReasonCode.TARGET_REACHED),
        ({"stop_at_target": False, "patience": 0}, 2, (-0.1, -0.95), None),
        ({"patience": 3}, 9, (-0.5, -0.4, -0.4), None),
        ({"patience": 3}, 9, (-0.5, -0.4, -0.5, -0.4), ReasonCode.NOTHING_BETTER),
        ({"patience": 3}, 9, (-0.5, -0.4, -0.4, -0.6, -0.4), None),
    ],
)
def test_what_ends_training(target, version, values, code):
    found = ending(metadata(**target), version, points(*values))
    assert (found and found.code) == code


def test_a_target_from_below_ends_training_too():
    found = metadata(direction="at_most", stop_at_target=True)
    assert ending(found, 3, points(2.0, 0.91)) is None
    assert ending(found, 3, points(2.0, 0.9)) is not None


def test_an_extended_project_ends_with_its_last_version_alone():
    for target in ({"stop_at_target": True}, {"patience": 1}):
        values = points(-0.95, -0.1, -0.1)
        assert ending(metadata(**target), 3, values) is not None
        assert ending(metadata(**target), 3, values, extended=True) is None
        found = ending(metadata(**target), 40, values, extended=True)
        assert (found and found.code) == ReasonCode.LAST_VERSION_REACHED


def project(**changes: Any) -> Project:
    found = Project(
        id=1,
        name="tiny",
        root_key="",
        state=ProjectState.ACTIVE,
        stopped_for=None,
        epoch=0,
        version=3,
        metadata_number=1,
        tolerance=0.0,
        active_accounts=1,
        proven_hosts=0,
        new_hosts=1,
        median_step_seconds=0.1,
        restoring=None,
        restoring_for=None,
        created_at=0.0,
        restored_at=0,
        extended=False,
        key_numbers="",
        brought_keys=b"",
        records_at=0,
        facts=FACTS,
        metadata=metadata(),
    )
    return msgspec.structs.replace(found, **changes)


def scene(**changes: Any) -> Scene:
    row = Round(1, 0, 3, units=4, quorum=3, open=4, valid=0, opened_at=0, quorum_at=None,
                closed_at=None)  # fmt: skip
    found = Scene(
        round=row,
        hosts=2,
        active=2,
        calibrated=2,
        anchors=1,
        trusted=1,
        in_hand=0,
        reported=0,
        evaluated=True,
        warm_start=False,
    )
    return msgspec.structs.replace(found, **changes)


def quorum_at(at: float) -> Round:
    row = scene().round
    assert row is not None
    return msgspec.structs.replace(row, valid=3, open=1, quorum_at=at)


PAUSED = {"state": ProjectState.PAUSED, "stopped_for": because(ReasonCode.PROJECT_PAUSED)}
FINISHED = {
    "state": ProjectState.FINISHED,
    "stopped_for": because(ReasonCode.TARGET_REACHED, version=3),
}


@pytest.mark.parametrize(
    ("state", "seen", "sentence"),
    [
        (PAUSED, {}, "The project is paused."),
        (FINISHED, {}, "The project has reached its target with version 3."),
        (
            FINISHED,
            {"evaluated": False},
            "Version 3 is to be measured on the holdout: a trusted host",
        ),
        (FINISHED, {"evaluated": False, "trusted": 0}, "holdout: no trusted host is around"),
        ({"restoring": 2}, {}, "Version 2 is being restored."),
        ({}, {"hosts": 0}, "No PC has joined yet: share the attach link."),
        ({}, {"active": 0}, "None of the 2 PCs has asked for work lately."),
        ({}, {"calibrated": 0}, "2 PCs being calibrated"),
        ({}, {"warm_start": True, "trusted": 0}, "Version 4 is a warm start, for a trusted host"),
        ({}, {"warm_start": True, "in_hand": 1}, "a trusted host trains it alone"),
        ({}, {"round": None}, "The units of version 4 are being planned."),
        (
            {"metadata": msgspec.structs.replace(metadata(), activity="finishing")},
            {"round": None},
            "Version 3 is the last for now, as its researcher wants: `pleb-project resume tiny`",
        ),
        ({}, {}, "Version 4 needs 3 more verified results: PCs take its units"),
        ({}, {"in_hand": 1, "reported": 2}, "1 unit being computed and 2 results to be confirmed"),
        ({}, {"anchors": 0, "reported": 1}, "no PC is trusted or proven yet"),
        ({}, {"round": quorum_at(95.0)}, "the 3 results that it needs, and waits up to 30 s for 1"),
        ({}, {"round": quorum_at(1.0)}, "Version 4 is being made."),
        ({}, {"reported": 2}, "2 results to be confirmed by a second PC."),
        (
            {},
            {"trusted_behind": True, "trusted_queue": 9},
            "9 checks and disputes wait for a trusted host",
        ),
    ],
)
def test_what_is_waited_for(state, seen, sentence):
    assert sentence in waiting_for(project(**state), scene(**seen), now=100.0).sentence


ENDED = project().metadata.delegation.expires_at + 1.0


@pytest.mark.parametrize(
    ("seen", "now", "code", "sentence"),
    [
        ({"disk_is_full": True}, 100.0, "disk_full", "The coordinator's disk is full"),
        ({"clock_ahead_seconds": 7200.0}, 100.0, "clock_off", "clock is 2 h ahead of the hosts'"),
        ({"clock_ahead_seconds": -7200.0}, 100.0, "clock_off", "clock is 2 h behind the hosts'"),
        ({}, ENDED, "permission_ended", "pleb-project renew tiny"),
        ({"active": 0}, 100.0, "no_active_hosts", "None of the 2 PCs"),
        ({"refusing": 2, "refuses": "X."}, 100.0, "all_refuse", "All 2 PCs refuse this"),
        ({"active": 1, "refusing": 1}, 100.0, "all_refuse", "The only PC refuses"),
    ],
)
def test_why_nobody_can_work_is_said_before_all_else(seen, now, code, sentence):
    for more in ({}, {"in_hand": 3, "reported": 1}):
        found = waiting_for(project(), scene(**more | seen), now)
        assert (found.code, found.level) == (code, Level.STUCK)
        assert sentence in found.sentence


def test_a_full_disk_and_a_wrong_clock_count_for_finished_projects_too():
    assert waiting_for(project(**FINISHED), scene(disk_is_full=True), 1.0).code == "disk_full"


def test_one_that_refuses_among_others_keeps_nobody_from_working():
    assert waiting_for(project(), scene(refusing=1), 100.0).level is Level.WORKING


@pytest.mark.parametrize("state", [PAUSED, FINISHED])
def test_where_nobody_is_meant_to_work_nothing_is_wrong(state):
    assert waiting_for(project(**state), scene(active=0), 100.0).level is Level.IDLE
