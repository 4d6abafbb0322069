"""Attacks on the coordinator's rules: each host does what no honest program would do."""

from __future__ import annotations

import numpy as np
import pytest

from pleb_coordinator.steps.enrol import enrol
from pleb_coordinator.steps.upload import find_upload, refuse_upload
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import EnrolRequest, Role
from pleb_shared.protocol.report import DeltaResult, FailureResult
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import DeltaFormat, difference_format, training_format
from tests.integration.steps_world import World, honest_delta
from tests.integration.test_steps_trust import drawn, proven

pytestmark = pytest.mark.usefixtures("legal_moves")


def promise(world, host, manifest):
    """Commit to a delta that never comes."""
    size = training_format(world.metadata).size
    result = DeltaResult(
        digest=digest_of(str(manifest.assignment).encode()),
        size=size,
        loss_first=1.0,
        loss_last=1.0,
    )
    return world.answer(host, manifest, result)


def enrol_again(world, host, **changes):
    request = EnrolRequest(
        protocols=[1],
        project="tiny",
        host_key=host.key.public,
        agent="test",
        issued_at=0,
        expires_at=0,
        **{"account_key": host.account_key.public, **changes},
    )
    with world.store.write() as tx:
        return enrol(tx, world.deps, tx.projects.find("tiny"), request, host.network)


def test_promises_of_uploads_do_not_let_a_new_host_take_the_whole_round(tmp_path):
    world = World(tmp_path, units=8, quorum=8, new_host_units=2)
    hoarder = world.volunteer("hoarder")
    [first], _ = world.ask(hoarder)
    assert promise(world, hoarder, first).outcome == "upload"
    world.clock.now += 61  # whatever nobody has taken is free to all by now
    manifests, no_work = world.ask(hoarder)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "new_host_limit"


def test_a_host_stays_with_its_account(tmp_path):
    """Else a proven one could change its account as often as its part of the round is used up."""
    world = World(tmp_path, units=20, quorum=20)
    host, other = proven(world, "host"), world.volunteer("other")
    reply = enrol_again(world, host, account_key=other.account_key.public)
    assert reply.account == host.account_key.fingerprint
    assert world.row(host).account == host.account_key.fingerprint


def test_enrolling_again_without_a_name_keeps_the_one_that_is_known(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    enrol_again(world, host, display_name="Ada")
    enrol_again(world, host)
    assert world.row(host).display_name == "Ada"


def test_two_accounts_of_one_network_are_one_voice_for_a_class(tmp_path):
    world = World(tmp_path, codec="fp32")
    world.volunteer("a1", role=Role.TRUSTED)
    for number in range(6):
        world.volunteer(f"liar {number}", network="192.0.2.0/24", drift=0.02)
    assert world.project.effective_tolerance == pytest.approx(1e-3)
    for number in range(4):
        world.volunteer(f"another {number}", network=f"8.8.{number}.0/24", drift=0.02)
    assert world.project.effective_tolerance > 1e-2, "five networks are five voices"


def test_a_host_cannot_make_classes_without_end(tmp_path):
    """Every class costs the background process a comparison with all the others, and a delta."""
    world = World(tmp_path)
    flooder = world.volunteer("flooder")
    given = 0
    for number in range(2, 40):
        flooder.threads = number
        flooder.drift = number * 1e-3
        manifests, _ = world.ask(flooder)
        if not manifests:
            break
        given += 1
        world.answer(flooder, manifests[0])
        world.run()
    assert 3 < given < 20
    with world.store.read() as tx:
        assert len(tx.calibrations.classes(1)) <= 20
    flooder.threads, flooder.drift = 1, 0.0
    assert [m.unit.kind for m in world.ask(flooder)[0]] == [UnitKind.TRAIN]


def test_classes_of_many_identities_do_not_hold_up_the_rounds(tmp_path):
    world = World(tmp_path, units=1, quorum=1, codec="fp32")
    honest = [world.volunteer("a"), world.volunteer("b")]
    for number in range(150):
        liar = world.volunteer(f"liar {number}", calibrated=False, drift=0.001 * (number + 1))
        [manifest], _ = world.ask(liar)
        world.answer(liar, manifest)
    world.work(*honest)
    assert world.project.version == 1
    with world.store.read() as tx:
        assert len(tx.calibrations.distances(1)) < 150 * 20


@pytest.mark.parametrize("codec", ["fp32", "int4"])
def test_buffers_out_of_all_proportion_do_not_reach_a_version(tmp_path, codec):
    """Norms are of parameters; a buffer of 1e38 would end the project for good."""
    world = World(tmp_path, units=4, quorum=4, codec=codec)
    hosts = [proven(world, f"host {number}") for number in range(4)]
    for host in hosts:
        [manifest], _ = world.ask(host)
        delta = honest_delta(manifest.unit.seed, 0.0)
        if host is hosts[-1]:
            delta["mean"] = np.full(20, 3e38, np.float32)
        data = DeltaFormat(world.model, codec, 16).encode(delta)
        world.answer(host, manifest, data=data)
    world.run()
    assert world.project.version == 1
    with world.store.read() as tx:
        version = tx.versions.get(1, 0, 1)
    encoding = difference_format(world.metadata)
    difference = encoding.unpack(world.deps.blobs.get(version.difference))
    mean = np.frombuffer(difference[-88:-8], "<f4")
    assert np.abs(mean).max() < 1


def test_a_failure_that_is_told_again_and_again_is_logged_once(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    [manifest], _ = world.ask(host)
    world.clock.now += 601
    world.run()
    for _ in range(50):
        world.answer(host, manifest, FailureResult(reason="x" * 500))
    assert len(world.events("failed")) <= 1


def test_a_clock_that_went_back_does_not_stop_a_round(tmp_path):
    world = World(tmp_path, units=2, quorum=1, grace_seconds=30)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.clock.now += 7200
    world.work(trusted)
    assert world.project.version == 0
    world.clock.now -= 7200  # the machine's clock had been ahead
    world.run()
    world.clock.now += 31
    world.run()
    assert world.project.version == 1


def test_what_a_banned_host_holds_goes_to_others_at_once(tmp_path):
    world = World(tmp_path, units=8, quorum=8, new_host_units=2)
    liar = world.volunteer("liar", lies=True)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for _ in range(2):
        world.pass_time(2)
        world.work(liar, trusted)
    world.pass_time(2)
    world.work(liar)
    world.pass_time(2)
    [held], _ = world.ask(liar)
    world.work(trusted, rounds=3)
    world.run()
    assert world.row(liar).banned_until > world.clock.now
    assert world.ask(liar)[0] == [], "also where its request had waited since before"
    with world.store.read() as tx:
        assert tx.assignments.get(held.assignment).state == "expired"
    world.work(trusted, rounds=8)
    assert world.project.version == 1


def test_a_bad_upload_does_not_end_a_check(tmp_path):
    """Else an accomplice, or anybody's broken disk, would spare a liar the check that was drawn."""
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0, grace_seconds=1000)
    host = proven(world, "host")
    [first], _ = world.ask(host)
    checkers = [proven(world, "auditor"), proven(world, "other")]
    world.answer(host, first)
    world.run()
    checker, check = drawn(world, first.unit, *checkers)
    upload = promise(world, checker, check)
    with world.store.write() as tx:
        slot = find_upload(tx, world.deps, upload.upload)
        refuse_upload(tx, world.deps, slot, Refusal(RefusalCode.WRONG_DIGEST, "Other bytes."))
    world.run()
    other, _ = drawn(world, first.unit, *checkers)
    assert other is not checker
