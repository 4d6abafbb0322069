"""Noise in versions that a coordinator makes: the same after a restart, accounted, and refused."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from pleb_coordinator.aggregation.noise import NoiseKey
from pleb_coordinator.aggregation.recompute import How, recompute
from pleb_coordinator.api.privacy import privacy_status
from pleb_coordinator.backups.mirror import files_for_mirror
from pleb_coordinator.cli.projects import project_lines
from pleb_coordinator.core.records import RestoreCause, VersionRow
from pleb_coordinator.steps import Deps, advance, rollback
from pleb_coordinator.steps.lookback import looks_of
from pleb_coordinator.steps.version_history import LoggedVersion
from pleb_project.server.status import decode_status, status_lines
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.privacy import Unearned, epsilon_of
from pleb_shared.protocol.project import Privacy, Round
from pleb_shared.tensors.version import read_version
from tests.integration.http_world import http_world
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")

NOISE = Privacy(clip_norm=0.1, noise_multiplier=2.0, delta=1e-5)


def trained(tmp_path, versions=3, **options):
    tmp_path.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"privacy": NOISE, "codec": "int8"} | options
    world = World(tmp_path, **settings)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    go_on(world, trusted, versions)
    return world, trusted


def go_on(world, trusted, versions):
    while world.project.version < versions:
        world.work(trusted)


def rows_of(world):
    project = world.project
    with world.store.read() as tx:
        return tx.versions.history(project.id, project.epoch, after=-1, limit=1000)


def recomputed(world, key):
    rows = rows_of(world)
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        kept = {found.restores for found in tx.versions.restores(project.id, project.epoch)}

        def delta(assignment):
            return world.deps.blobs.delta(tx.assignments.delta(assignment))

        return list(
            recompute(
                rows,
                lambda number: tx.projects.metadata_at(project.id, number),
                world.deps.blobs.get,
                delta,
                restored=kept,
                noise_key=key,
            )
        )


def status_of(world):
    with world.store.read() as tx:
        return privacy_status(tx, tx.projects.find("tiny"))


def republish(world, **changes):
    """Publish other metadata of the same epoch, and let the newest round follow them."""
    world.metadata = msgspec.structs.replace(
        world.metadata, number=world.metadata.number + 1, **changes
    )
    world.publish(world.metadata, invite=False)
    world.run()


def test_versions_recompute_with_the_secret_and_are_read_without_it(tmp_path):
    world, _ = trained(tmp_path)
    rows = rows_of(world)
    assert [bool(row.noise) for row in rows] == [False, True, True, True]
    assert len({row.noise for row in rows}) == 4, "every version has noise of its own"
    found = recomputed(world, world.deps.noise_key)
    assert [one.how for one in found] == [How.RECOMPUTED] * 4
    assert all(one.matches for one in found)
    for key in (None, NoiseKey(b"another secret of thirty-two byt")):
        found = recomputed(world, key)
        assert [one.how for one in found] == [How.RECOMPUTED, *[How.READ] * 3]
        assert all(one.matches for one in found), "not wrong: only not recomputed"


def test_another_process_with_the_secret_draws_the_same_noise(tmp_path):
    """One that died before its commit is followed by one that makes the same version again."""
    world, _ = trained(tmp_path, versions=1)
    previous, made = rows_of(world)
    deltas = tuple(_deltas(world, made))
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        round_ = tx.rounds.get(project.id, project.epoch, 0)
        looks = looks_of(tx, project)
    assert made.leaves is not None
    listed = world.deps.blobs.get(made.leaves.digest)
    leaves = tuple(listed[at : at + 32] for at in range(0, len(listed), 32))
    work = advance.RoundWork(project, round_, previous, made.inputs, deltas, None, looks, leaves)
    restarted = Deps(
        clock=world.clock,
        random_bytes=np.random.default_rng(99).bytes,
        secret=bytes(world.deps.secret),
        online_keys=world.deps.online_keys,
        blobs=world.deps.blobs,
    )
    again = advance.compute(restarted, work)
    assert isinstance(again, VersionRow)
    assert msgspec.structs.replace(again, made_at=made.made_at) == made
    stranger = dataclasses.replace(restarted, secret=b"t" * 32)
    other = advance.compute(stranger, work)
    assert isinstance(other, VersionRow)
    assert other.digest != made.digest


def test_the_noise_is_in_what_is_published(tmp_path):
    """As much as declared: against the same deltas without it, in the first step."""
    world, _ = trained(tmp_path, versions=1, units=4, codec="fp32")
    plain, _ = trained(tmp_path / "plain", versions=1, units=4, codec="fp32", privacy=None)
    project = world.metadata
    moved = {}
    for one in (world, plain):
        version = read_version(rows_of(one)[1].source, one.metadata, one.deps.blobs.get)
        moved[one] = np.concatenate([(version[n] - one.initial[n]).ravel() for n in "wb"])
    rate, m = project.outer.learning_rate, project.outer.momentum
    noise = (moved[world] - moved[plain]) / (rate * (1 + m)) * project.round.units
    # honest deltas are longer than the clip here, so some of what differs is cut, not noise
    assert noise.std() == pytest.approx(NOISE.clip_norm * NOISE.noise_multiplier, rel=0.15)


def test_the_account_counts_every_version_that_was_made(tmp_path):
    """Also one that was taken back, which somebody may have read."""
    world, trusted = trained(tmp_path, versions=2)  # 4 units a round of 3 shards: one is read twice
    status = status_of(world)
    shard = [(2, 1, 1), (1, 2, 1)]  # by round: how many units read each shard
    worst = max(sum((2 * n / 2.0) ** 2 for n in column) for column in zip(*shard, strict=True))
    assert status.epsilon == pytest.approx(epsilon_of(worst**-0.5, 1e-5))
    assert status.epsilon_planned > status.epsilon
    assert (status.clip_norm, status.unearned) == (0.1, [])
    with world.store.read() as tx:
        work = rollback.plan_restoration(tx, tx.projects.find("tiny"), 1, RestoreCause.OPERATOR)
    row = rollback.compute(world.deps, work)
    with world.store.write() as tx:
        assert rollback.commit(tx, world.deps, work, row)
    assert row.noise == ""
    assert status_of(world).epsilon == status.epsilon, "what was read stays read"
    go_on(world, trusted, 4)
    assert status_of(world).epsilon > status.epsilon
    assert all(one.matches for one in recomputed(world, world.deps.noise_key))


def test_a_version_restored_from_the_log_has_its_noise(tmp_path):
    """Its outer state is gone, and recomputed with the noise that it was made with."""
    world, _ = trained(tmp_path, versions=4)
    with world.store.read() as tx:
        work = rollback.plan_restoration(tx, tx.projects.find("tiny"), 3, RestoreCause.OPERATOR)
    rows = rows_of(world)
    steps = tuple(
        rollback.Step(row, world.metadata, tuple(_deltas(world, row))) for row in rows[1:4]
    )
    good = msgspec.structs.replace(work.good, outer_state="")
    lost = dataclasses.replace(work, good=good, start=rows[0], steps=steps)
    assert rollback.compute(world.deps, lost).outer_state == rows[3].outer_state
    with pytest.raises(InputError, match="another secret"):
        rollback.compute(dataclasses.replace(world.deps, secret=b"t" * 32), lost)


def _deltas(world, row):
    with world.store.read() as tx:
        return [tx.assignments.delta(entry.assignment) for entry in row.inputs]


def test_no_exact_loss_is_kept_of_versions_with_noise(tmp_path):
    world, _ = trained(tmp_path, versions=2)
    assert [row.train_loss for row in rows_of(world)] == [None] * 3
    assert all(event["train_loss"] is None for event in world.events("advanced"))
    plain, _ = trained(tmp_path / "plain", versions=2, privacy=None)
    assert [row.train_loss for row in rows_of(plain)][1:] == [1.0, 1.0]


def test_no_round_of_a_young_fleet_is_small(tmp_path):
    """Which of its units are in would say something about the others."""
    world = World(tmp_path, privacy=NOISE, units=4, new_host_units=10)
    hosts = [world.volunteer(name, network=name) for name in "abc"]
    for host in hosts[:2]:
        for manifest in world.ask(host)[0]:
            world.answer(host, manifest)
    for _ in range(20):
        world.pass_time(600)
    assert world.project.version == 0
    assert world.events("eased") == []


def test_a_project_without_noise_has_no_account(tmp_path):
    world, _ = trained(tmp_path, versions=1, privacy=None)
    assert status_of(world) is None
    assert [row.noise for row in rows_of(world)] == ["", ""]


def test_noise_that_is_switched_on_later_earns_nothing(tmp_path):
    """What was made before stays readable; and switching it off for a while is no way either."""
    world, trusted = trained(tmp_path, versions=1)
    assert status_of(world).unearned == []
    republish(world, privacy=None)
    go_on(world, trusted, 2)
    assert status_of(world) is None
    republish(world, privacy=NOISE)
    status = status_of(world)
    assert (status.epsilon, status.epsilon_planned) == (None, None)
    assert status.unearned == [Unearned.NO_NOISE]


def test_other_settings_on_the_way_are_counted_as_they_were(tmp_path):
    world, trusted = trained(tmp_path, versions=1)
    before = status_of(world).epsilon
    more = msgspec.structs.replace(NOISE, noise_multiplier=200.0)
    republish(world, privacy=more, round=Round(units=3, quorum=3, shortest_unit=1.0))
    go_on(world, trusted, 3)
    after = status_of(world).epsilon
    assert before < after < before * 1.05, "versions with a hundred times the noise cost little"
    assert all(one.matches for one in recomputed(world, world.deps.noise_key))


def test_a_version_without_some_of_its_units_ends_the_account(tmp_path):
    """Its round was planned before there was noise, with a smaller quorum."""
    world = World(tmp_path, codec="int8", privacy=NOISE)
    world.metadata = msgspec.structs.replace(
        world.metadata, number=2, round=Round(units=5, quorum=5, shortest_unit=1.0)
    )
    world.publish(world.metadata, invite=False)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    assert status_of(world).unearned == []
    go_on(world, trusted, 1)  # the round of four that is open
    assert status_of(world).unearned == [Unearned.QUORUM]


def test_a_restored_coordinator_has_no_account(tmp_path):
    world, _ = trained(tmp_path, versions=1)
    with world.store.write() as tx:
        tx.projects.set_restored(world.project.id, 1)
    assert status_of(world).unearned == [Unearned.RESTORED]


def test_a_delta_that_gives_whole_shards_away_is_refused(tmp_path):
    wide = msgspec.structs.replace(NOISE, delta=0.1)
    world = World(tmp_path, privacy=wide)  # three shards
    assert status_of(world).unearned == []
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        many = msgspec.structs.replace(
            project, facts=msgspec.structs.replace(project.facts, train_shards=10)
        )
        status = privacy_status(tx, many)
    assert status is not None
    assert status.unearned == [Unearned.DELTA]


def test_without_the_library_the_status_says_so(tmp_path, monkeypatch):
    world, _ = trained(tmp_path, versions=1)
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    status = status_of(world)
    assert (status.epsilon, status.unearned) == (None, [Unearned.NOT_INSTALLED])


def test_the_seed_that_the_log_commits_to_can_be_shown(tmp_path):
    world, _ = trained(tmp_path, versions=1)
    row = rows_of(world)[1]
    seed = world.deps.noise_key.seed(world.metadata, 1, row.inputs)
    assert digest_of(seed) == row.noise


def test_a_mirrors_log_names_no_result_that_would_confirm_a_guess(tmp_path):
    """Results follow from shards to the bit: who guesses a shard could hash what it gives."""
    world, _ = trained(tmp_path, versions=2)
    plain, _ = trained(tmp_path / "plain", versions=2, privacy=None)
    inputs = []
    for one in (world, plain):
        with one.store.read() as tx:
            log = files_for_mirror(tx, one.deps, tx.projects.find("tiny")).log
        lines = [msgspec.json.decode(line, type=LoggedVersion) for line in log.splitlines()]
        inputs.append([len(line.inputs) for line in lines])
    assert inputs == [[0, 0, 0], [0, 4, 4]]


def test_people_read_the_epsilon_wherever_they_look(tmp_path):
    async def page_and_status():
        async with http_world(tmp_path, privacy=NOISE) as http:
            go_on(http.world, http.world.volunteer("trusted", role=Role.TRUSTED), 1)
            answer = await http.client.get("/projects/tiny/status")
            page = (await http.client.get("/projects/tiny")).text
        return decode_status(answer.content), page

    status, page = asyncio.run(page_and_status())
    assert status.privacy is not None
    assert status.privacy.epsilon > 0
    sentence = f"epsilon {status.privacy.epsilon:.3g} until now"
    assert any(sentence in line for line in status_lines(status))
    assert any(sentence in line for line in project_lines(status))
    assert sentence in page
    assert "volunteers can read the shards" in page
