"""Families: what of them gets in without an invite, what does not, and who is trusted in all."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pleb_coordinator.core.project_state import ProjectEvent
from pleb_coordinator.core.records import Evaluation
from pleb_coordinator.steps.activity import move_project, settle
from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.family import family_members
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.messages import EnrolRequest, Role
from pleb_shared.protocol.project import Family, Rung
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.signing import SigningKey
from tests.integration.http_world import http_world
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")
MEMBERS = ["pair-1", "pair-2"]
PAIR = Family(name="pair", kind="ensemble", members=MEMBERS)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, new_host_units=2)


def hand_in(world, project, *, family=PAIR, invite=None, key=None):
    key = key or world.root
    metadata = msgspec.structs.replace(
        world.metadata, project=project, family=family, root_key=key.public
    )
    opened = open_publication(world.envelope(metadata, invite=invite, key=key))
    findings = examine(world.deps, opened)
    with world.store.write() as tx:
        return publish(tx, world.deps, opened, findings, "http://127.0.0.1:7532")


def invited(world, role=Role.PUBLISHER):
    with world.store.write() as tx:
        return new_invite(tx, world.deps, role, lifetime_seconds=60)


def refused(world, project, **options):
    with pytest.raises(Refusal) as caught:
        hand_in(world, project, invite=invited(world), **options)
    return caught.value.code


def joined(world, project, key, account, invite=None):
    request = EnrolRequest(
        protocols=[1],
        project=project,
        host_key=key.public,
        account_key=account.public,
        invite=invite,
        agent="test",
        issued_at=0,
        expires_at=0,
    )
    with world.store.write() as tx:
        return enrol(tx, world.deps, tx.projects.find(project), request, "").role


def test_one_invite_publishes_a_family(world):
    with pytest.raises(Refusal, match="publisher's invite"):
        hand_in(world, "pair-1")
    hand_in(world, "pair-1", invite=invited(world))
    hand_in(world, "pair-2")
    with world.store.read() as tx:
        assert [one.name for one in family_members(tx, "pair")] == MEMBERS
        assert family_members(tx, "tiny") == []
    # What is not in the list that the root key has signed is a project like any other.
    alone = Family(name="other", kind="ensemble", members=["pair-3", "pair-4"])
    with pytest.raises(Refusal, match="publisher's invite"):
        hand_in(world, "pair-3", family=alone)


def test_nobody_else_gets_into_a_family_or_takes_its_name(world):
    hand_in(world, "pair-1", invite=invited(world))
    stranger = SigningKey.generate()
    assert refused(world, "pair-2", key=stranger) == RefusalCode.BAD_SIGNATURE
    assert refused(world, "pair-2", key=stranger, family=None) == RefusalCode.BAD_SIGNATURE
    assert refused(world, "pair", key=stranger, family=None) == RefusalCode.BAD_SIGNATURE
    named = Family(name="pair-1", kind="ensemble", members=["a", "b"])
    assert refused(world, "a", family=named) == RefusalCode.MALFORMED
    with world.store.read() as tx:
        assert tx.projects.names() == ["tiny", "pair-1"]


def test_one_invite_makes_a_host_trusted_in_all_members(world):
    hand_in(world, "pair-1", invite=invited(world))
    hand_in(world, "pair-2")
    key, account = SigningKey.generate(), SigningKey.generate()
    token = invited(world, Role.TRUSTED)
    assert [joined(world, name, key, account, token) for name in MEMBERS] == [Role.TRUSTED] * 2
    # Another host or account has not used it, and another project is no member.
    for other in ((SigningKey.generate(), account), (key, SigningKey.generate())):
        with pytest.raises(Refusal, match="was used already"):
            joined(world, "pair-2" if other[0] is not key else "tiny", *other, token)
    with pytest.raises(Refusal, match="was used already"):
        joined(world, "tiny", key, account, token)


def test_a_familys_page_shows_its_members_side_by_side(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            world = http.world
            hand_in(world, "pair-1", invite=invited(world))
            hand_in(world, "pair-2")
            page = (await http.client.get("/families/pair")).text
            assert "none is evaluated yet" in page
            with world.store.write() as tx:
                for number, loss in ((1, 0.5), (2, 0.25)):
                    project = tx.projects.find(f"pair-{number}")
                    metrics = {"loss": loss}
                    tx.projects.add_evaluation(
                        Evaluation(project.id, 0, 0, 1, metrics, 10, world.clock.now)
                    )
            world.clock.now += 1
            page = (await http.client.get("/families/pair")).text
            assert page.count("<polyline") == 2
            assert 'curve-best"' in page
            status = (await http.client.get("/families/pair/status")).json()
            assert (status["best_member"], status["planned_members"]) == ("pair-2", 2)
            assert [one["best_metrics"] for one in status["members"]] == [
                {"loss": 0.5},
                {"loss": 0.25},
            ]
            index = (await http.client.get("/")).text
            assert 'href="/families/pair"' in index
            assert 'href="/projects/pair-1"' not in index
            assert 'href="/families/pair"' in (await http.client.get("/projects/pair-1")).text
            assert "--only" in (await http.client.get("/join/pair-1")).text
            assert (await http.client.get("/families/tiny")).status_code == 404

    asyncio.run(story())


SWEEP = Family(
    name="grid",
    kind="sweep",
    members=["grid-1", "grid-2", "grid-3"],
    rungs=[Rung(version=1, keep=1)],
)


def test_the_trials_of_a_sweep_wait_for_each_other_and_the_best_goes_on(world):
    hand_in(world, "grid-1", family=SWEEP, invite=invited(world))
    for name in SWEEP.members[1:]:
        hand_in(world, name, family=SWEEP)

    def reach(name, version, loss=None):
        with world.store.write() as tx:
            project = tx.projects.find(name)
            if project.version < version:
                tx.projects.advance(project.id, 0, project.version, version)
            if loss is not None:
                tx.projects.add_evaluation(
                    Evaluation(project.id, 0, version, 1, {"loss": loss}, 10, world.clock.now)
                )
            settle(tx, project.id, world.clock.now)

    def found():
        with world.store.read() as tx:
            each = [tx.projects.find(name) for name in SWEEP.members]
            return [one.stopped_for and one.stopped_for.code for one in each]

    compared, stopped = ReasonCode.TRIALS_COMPARED, ReasonCode.TRIAL_STOPPED
    reach("grid-1", 1, 2.0)
    reach("grid-2", 1)
    assert found() == [compared, compared, None]
    reach("grid-2", 1, 1.0)
    assert found() == [compared, compared, None], "the third is still on its way"
    # Whoever pauses a trial takes it out; resumed, it is compared once it has come as far.
    with world.store.write() as tx:
        third = tx.projects.find("grid-3")
        why = because(ReasonCode.PROJECT_PAUSED)
        move_project(tx, third, ProjectEvent.PAUSED, why, world.clock.now)
    assert found() == [stopped, None, ReasonCode.PROJECT_PAUSED]
    with world.store.write() as tx:
        third = tx.projects.find("grid-3")
        move_project(tx, third, ProjectEvent.RESUMED, None, world.clock.now)
    assert found() == [stopped, None, None]
    reach("grid-3", 1, 3.0)
    assert found() == [stopped, None, stopped]
    reach("grid-2", 2)
    assert found() == [stopped, None, stopped]
