"""A project ends, goes on, is paused and archived; a young one does not wait for whole rounds."""

from __future__ import annotations

import msgspec
import pytest

from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.core.project_state import ProjectEvent
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps.activity import move_project
from pleb_shared.errors import Refusal
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.project import Target
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.report import EvaluationResult
from pleb_shared.protocol.unit import UnitKind
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")


def publish(world: World, **changes: object) -> None:
    world.metadata = msgspec.structs.replace(
        world.metadata, number=world.metadata.number + 1, **changes
    )
    world.publish(world.metadata, invite=False)
    world.run()


def versions(world: World, count: int) -> None:
    training = msgspec.structs.replace(world.metadata.training, versions=count)
    publish(world, training=training)


def stopped_for(world):
    return world.project.stopped_for


def state(world):
    return world.project.state


def reason(world, host):
    manifests, no_work = world.ask(host)
    return None if manifests else no_work.reason.code


def test_more_versions_continue_a_finished_project(tmp_path):
    world = World(tmp_path, versions=2)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.stopped_for is None:
        assert world.work(trusted)
    assert stopped_for(world) == because(ReasonCode.LAST_VERSION_REACHED, version=2)
    assert reason(world, trusted) == ReasonCode.LAST_VERSION_REACHED

    versions(world, 4)
    assert (state(world), world.project.epoch) == (ProjectState.ACTIVE, 0)
    manifests, _ = world.ask(trusted)
    assert (manifests[0].unit.version, manifests[0].unit.versions) == (2, 4)
    world.answer(trusted, manifests[0])
    while world.project.version < 4:
        assert world.work(trusted)
    assert world.project.stopped_for is not None


def test_a_round_that_is_open_when_the_number_changes_keeps_its_learning_rates(tmp_path):
    world = World(tmp_path, versions=9)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [before], _ = world.ask(trusted)
    versions(world, 20)
    [after], _ = world.ask(trusted)
    assert before.unit.versions == after.unit.versions == 9
    world.answer(trusted, before)
    world.answer(trusted, after)
    while world.project.version < 1:
        assert world.work(trusted)
    [following], _ = world.ask(trusted)
    assert following.unit.versions == 20


def test_fewer_versions_than_there_are_end_a_project_and_leave_its_round_open(tmp_path):
    world = World(tmp_path, versions=9)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 2:
        assert world.work(trusted)
    [held], _ = world.ask(trusted)
    versions(world, 2)
    assert state(world) == ProjectState.FINISHED
    assert world.answer(trusted, held).outcome == "stored", "what was begun still earns credit"
    assert reason(world, trusted) == ReasonCode.LAST_VERSION_REACHED
    versions(world, 9)
    while world.project.version < 3:
        assert world.work(trusted), "the round goes on where it was"


def test_nothing_else_of_the_training_changes_within_an_epoch(tmp_path):
    world = World(tmp_path)
    training = msgspec.structs.replace(world.metadata.training, versions=99, schedule="linear")
    with pytest.raises(Refusal, match="training cannot change within an epoch"):
        publish(world, training=training)


def evaluate(world, trusted, values):
    """Train with these losses on the holdout, one for each version, until nothing is left."""
    for _ in range(100):
        manifests, _ = world.ask(trusted)
        for manifest in manifests:
            result = None
            if manifest.unit.kind is UnitKind.EVALUATE:
                loss = values[min(manifest.unit.version, len(values) - 1)]
                result = EvaluationResult(metrics={"loss": loss}, examples=8)
            world.answer(trusted, manifest, result)
        world.run()
        if not manifests:
            return


def aim(value, **ends):
    return Target(metric="loss", value=value, direction="at_most", **ends)


def test_a_project_stops_at_its_target_and_goes_on_with_a_better_one(tmp_path):
    world = World(tmp_path, holdout=True, versions=20)
    publish(world, target=aim(0.7, stop_at_target=True))
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    evaluate(world, trusted, [1.0, 0.9, 0.65, 0.5, 0.4])
    assert state(world) == ProjectState.FINISHED
    assert world.project.stopped_for == because(ReasonCode.TARGET_REACHED, version=2)
    assert world.project.version == 2
    publish(world, target=aim(0.45, stop_at_target=True))
    evaluate(world, trusted, [1.0, 0.9, 0.65, 0.5, 0.4])
    assert world.project.stopped_for == because(ReasonCode.TARGET_REACHED, version=4)


def test_training_ends_when_nothing_becomes_better(tmp_path):
    world = World(tmp_path, holdout=True, versions=20)
    publish(world, target=aim(0.0, patience=3))
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    evaluate(world, trusted, [1.0, 0.9, 0.95, 0.9, 0.92, 0.91])
    assert state(world) == ProjectState.FINISHED
    why = because(ReasonCode.NOTHING_BETTER, version=1, count=3)
    assert (world.project.stopped_for, world.project.version) == (why, 4)


def test_the_researcher_pauses_resumes_and_archives(tmp_path):
    world = World(tmp_path)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [held], _ = world.ask(trusted)
    publish(world, activity="paused", activity_note="The data has a fault.")
    assert state(world) == ProjectState.PAUSED
    assert world.answer(trusted, held).outcome == "stored"
    _, no_work = world.ask(trusted)
    assert no_work is not None
    assert no_work.reason.values == {"text": "The data has a fault."}
    publish(world, activity="active", activity_note="")
    assert world.ask(trusted)[0]
    publish(world, activity="archived")
    assert reason(world, trusted) == ReasonCode.RESEARCHER_ARCHIVED
    publish(world, activity="active")
    assert state(world) == ProjectState.ACTIVE


def test_a_renewal_leaves_what_the_operator_decided(tmp_path):
    world = World(tmp_path)
    with world.store.write() as tx:
        why = because(ReasonCode.PROJECT_PAUSED)
        assert move_project(tx, tx.projects.find("tiny"), ProjectEvent.PAUSED, why, 0.0)
    publish(world)
    assert (state(world), world.project.stopped_for) == (ProjectState.PAUSED, why)


def test_an_extended_project_goes_on_to_its_last_version(tmp_path, capsys):
    world = World(tmp_path, holdout=True, versions=4)
    make_secret_file(Home(tmp_path).secret_file)
    (tmp_path / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    publish(world, target=aim(0.7, stop_at_target=True))
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    values = [1.0, 0.6, 0.8, 0.9]
    evaluate(world, trusted, values)
    assert (state(world), world.project.version) == (ProjectState.FINISHED, 1)
    command = ["project", "extend", "tiny", "--home", str(tmp_path), "--json"]
    for _ in range(2):
        assert coordinator_main(command) == 0
        assert '"state":"active"' in capsys.readouterr().out
    evaluate(world, trusted, values)
    assert (state(world), world.project.version) == (ProjectState.FINISHED, 4)
    assert coordinator_main(command) == 2
    assert "All 4 versions of tiny are made" in capsys.readouterr().out


def test_a_project_that_ends_while_it_is_paused_is_finished_when_it_is_resumed(tmp_path):
    world = World(tmp_path, versions=1)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for _ in range(4):
        for manifest in world.ask(trusted)[0]:
            world.answer(trusted, manifest)
    publish(world, activity="paused")
    assert world.project.version == 0, "no version is made"
    publish(world, activity="active")
    assert (world.project.version, world.project.state) == (1, ProjectState.FINISHED)


def test_a_young_project_makes_its_first_versions_from_few_units(tmp_path):
    world = World(tmp_path, units=16, quorum=12, new_host_units=10)
    world.volunteer("volunteer")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    made = []
    while world.project.version < 6:
        before = world.project.version
        while world.project.version == before:
            world.work(trusted)
            world.pass_time(10)
        with world.store.read() as tx:
            made.append(len(tx.versions.get(1, 0, before + 1).inputs))
    # Of each version the units are used that were verified in 30 s and the grace window.
    assert made[0] < 8
    assert made == sorted(made)
    assert made[-1] >= 12
    assert [found["planned"] for found in world.events("eased")] == [12] * len(
        world.events("eased")
    )
