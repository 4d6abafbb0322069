"""What an open page is told: only what it does not know yet."""

from __future__ import annotations

import msgspec
import pytest

from pleb_coordinator.api.status_routes import change_between
from pleb_coordinator.core.ending import reached_at
from pleb_coordinator.core.holdout import points_of
from pleb_coordinator.core.records import Evaluation, ProjectState
from pleb_coordinator.web_app.words import progress_of
from pleb_shared.protocol.project import Target
from pleb_shared.protocol.status import Counts, ProjectStatus, VersionPoint
from pleb_shared.protocol.unit import Blob, VersionSource


def point(version, loss=1.0, **metrics):
    return VersionPoint(version=version, made_at=0.0, train_loss=loss, metrics=metrics)


def status(**changes):
    base = ProjectStatus(
        project="p",
        title="P",
        description="",
        data_licence="",
        contact="",
        state=ProjectState.ACTIVE,
        epoch=0,
        version=1,
        versions_planned=10,
        target=None,
        target_reached_at_version=None,
        metrics={},
        metrics_version=None,
        train_loss=1.0,
        series=[point(0, None), point(1)],
        round=None,
        hosts=[],
        units=[],
        contributors=[],
        counts=Counts(
            hosts=0, accounts=0, verified=0, refused=0, in_flight=0, undecided=0, credit=0.0
        ),
        parameters=1,
        created_at=0.0,
        updated_at=0.0,
        attach_link="",
        pleb_link="",
        source=VersionSource(
            epoch=0,
            number=0,
            digest="0" * 64,
            snapshot=Blob(digest="0" * 64, size=1),
            snapshot_number=0,
            differences=[],
        ),
    )
    return msgspec.structs.replace(base, **changes)


def told(before, now):
    change = change_between(before, now)
    assert change is not None
    return change.series


def test_the_first_event_has_everything():
    assert [p.version for p in told(None, status())] == [0, 1]


def test_nothing_new_is_nothing_said():
    assert change_between(status(), status(updated_at=99.0)) is None


def test_new_and_changed_points_alone():
    measured = point(1, accuracy=0.5)
    now = status(version=2, series=[point(0, None), measured, point(2)])
    assert told(status(), now) == [measured, point(2)]


def test_a_new_epoch_starts_from_nothing():
    assert [p.version for p in told(status(), status(epoch=1))] == [0, 1]


def test_the_answer_reads_back():
    assert msgspec.json.decode(msgspec.json.encode(status()), type=ProjectStatus) == status()


@pytest.mark.parametrize(
    ("direction", "value", "reached"),
    [("at_least", 0.9, True), ("at_least", 0.89, False), ("at_most", 0.89, True)],
)
def test_targets(direction, value, reached):
    target = Target(metric="m", value=0.9, direction=direction)
    found = [Evaluation(1, 0, 3, 1, {"m": value}, 9, 0.0), Evaluation(1, 0, 4, 2, {"n": 5}, 9, 0.0)]
    assert reached_at(points_of(found, [], target), target) == (3 if reached else None)


def test_progress_is_told_in_a_sentence():
    target = Target(metric="accuracy", value=0.9)
    assert progress_of(status()).sentence == "10 % of the planned versions are done."
    assert "Not evaluated yet" in progress_of(status(target=target)).sentence
    near = status(target=target, metrics={"accuracy": 0.8}, metrics_version=1)
    assert progress_of(near).sentence == "Target: accuracy ≥ 0.9. Now 0.8 (version 1)."
    there = progress_of(status(target=target, target_reached_at_version=7))
    assert there.target_reached
    assert "at version 7" in there.sentence
