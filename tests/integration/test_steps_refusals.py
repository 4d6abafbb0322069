"""What `accept` and `upload` refuse, and what a refusal costs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pleb_coordinator.steps import accept
from pleb_coordinator.steps.upload import (
    append_part,
    check_upload,
    find_upload,
    finish_upload,
    refuse_upload,
    upload_format,
    upload_status,
)
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.report import DeltaResult, EvaluationResult, FailureResult
from pleb_shared.tensors.packing import pack
from tests.integration.steps_world import World, report

pytestmark = pytest.mark.usefixtures("legal_moves")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, units=2, quorum=2, new_host_units=1)


def delta_result(data, **changes):
    values = {"digest": digest_of(data), "size": len(pack(data)), "attached": False}
    return DeltaResult(**{**values, "loss_first": 2.0, "loss_last": 1.0, **changes})


def seeds_taken(world, host):
    """Let the host do all that it gets; what waited long is free to all, above its share."""
    world.clock.now += 61
    seeds = set()
    while manifests := world.ask(host)[0]:
        seeds |= {manifest.unit.seed for manifest in manifests}
        for manifest in manifests:
            world.answer(host, manifest)
        world.run()
    return seeds


def refused(world, host, manifest, result, attached=()):
    receipts, *_ = world.exchange(host, 0, [report(manifest, result)], list(attached))
    assert receipts[0].outcome == "refused", receipts[0]
    assert receipts[0].message
    return receipts[0].code


def leased(world, host):
    [manifest], _ = world.ask(host)
    return manifest


def test_nan_is_refused_and_the_unit_goes_to_somebody_else(world):
    host, other = world.volunteer("host"), world.volunteer("other")
    manifest = leased(world, host)
    data = bytearray(world.train(host, manifest))
    data[:2] = np.float16(np.nan).tobytes()
    result = delta_result(bytes(data), attached=True)
    assert refused(world, host, manifest, result, [pack(bytes(data))]) == RefusalCode.NOT_FINITE
    assert world.row(host).record == 0
    assert manifest.unit.seed in seeds_taken(world, other)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"size": 10**6}, RefusalCode.WRONG_SIZE),
        ({"digest": "0" * 64, "attached": True}, RefusalCode.WRONG_DIGEST),
    ],
)
def test_a_commitment_that_does_not_fit_is_refused(world, changes, code):
    host = world.volunteer("host")
    manifest = leased(world, host)
    data = world.train(host, manifest)
    attached = [pack(data)] if changes.get("attached") else []
    assert refused(world, host, manifest, delta_result(data, **changes), attached) == code


def test_a_result_of_another_kind_or_version_is_refused(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    manifest = leased(world, host)
    metrics = EvaluationResult(metrics={"loss": 0.0}, examples=1)
    assert refused(world, host, manifest, metrics) == RefusalCode.WRONG_RESULT
    manifest = leased(world, host)
    wrong = report(manifest, delta_result(world.train(host, manifest)))
    wrong = type(wrong)(
        assignment=wrong.assignment,
        nonce=wrong.nonce,
        epoch=wrong.epoch,
        version=3,
        result=wrong.result,
        compute_seconds=1.0,
    )
    receipts, *_ = world.exchange(host, 0, [wrong], [])
    assert receipts[0].code == RefusalCode.WRONG_BASE_VERSION


def test_a_report_is_taken_once_and_only_from_its_host(world):
    host, thief = world.volunteer("host"), world.volunteer("thief")
    manifest = leased(world, host)
    result = delta_result(world.train(host, manifest))
    assert refused(world, thief, manifest, result) == RefusalCode.UNKNOWN_ASSIGNMENT
    assert world.answer(host, manifest).outcome == "stored"
    assert refused(world, host, manifest, result) == RefusalCode.ALREADY_REPORTED


def test_a_delta_that_was_packed_well_is_uploaded_if_it_is_too_large_for_a_row(world, monkeypatch):
    """A few thousand bytes can hold millions: they would be unpacked and kept in a transaction."""
    host = world.volunteer("a")
    [manifest], _ = world.ask(host)
    data = world.train(host, manifest)
    limits = dataclasses.replace(LIMITS, attached_unpacked_bytes=len(data) - 1)
    monkeypatch.setattr(accept, "LIMITS", limits)
    result = delta_result(data, attached=True)
    [receipt], *_ = world.exchange(host, 0, [report(manifest, result)], [pack(data)])
    assert receipt.outcome == "upload"
    with world.store.read() as tx:
        assert tx.assignments.delta(receipt.assignment) is None
        assert tx.uploads.get(receipt.upload).size == len(pack(data))


def test_the_attached_deltas_must_be_as_many_as_announced(world):
    host = world.volunteer("host")
    manifest = leased(world, host)
    result = delta_result(world.train(host, manifest), attached=True)
    with pytest.raises(Refusal, match="announced"):
        world.exchange(host, 0, [report(manifest, result)], [])


def test_one_wrong_report_leaves_the_others_alone(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    good, bad = world.ask(trusted, 2)[0]
    data = world.train(trusted, good)
    reports = [
        report(bad, delta_result(data, size=10**6)),
        report(good, delta_result(data, attached=True)),
    ]
    receipts, *_ = world.exchange(trusted, 0, reports, [pack(data)])
    assert [r.outcome for r in receipts] == ["refused", "stored"]


def test_a_lease_that_ran_out_goes_to_another_but_its_result_is_still_welcome(world):
    host, other = world.volunteer("host"), world.volunteer("other")
    manifest = leased(world, host)
    world.clock.now += manifest.lease_seconds + 1
    world.run()
    assert world.row(host).record == 0
    assert world.answer(host, manifest).outcome == "stored", "the clock may have jumped"
    world.run()
    seeds = [m.unit.seed for m in world.ask(other)[0]]
    assert seeds == [manifest.unit.seed], "as the replica, and no third copy waits"


def test_a_failure_gives_the_unit_to_another_host(world):
    host, other = world.volunteer("host"), world.volunteer("other")
    manifest = leased(world, host)
    assert world.answer(host, manifest, FailureResult(reason="out of memory")).outcome == "stored"
    assert manifest.unit.seed not in {m.unit.seed for m in world.ask(host)[0]}
    assert manifest.unit.seed in seeds_taken(world, other)
    assert world.events("failed")[0]["reason"] == "out of memory"


def test_leases_that_the_host_forgot_come_again_unchanged(world):
    host = world.volunteer("host")
    manifest = leased(world, host)
    host.held.clear()
    world.clock.now += 10
    again = leased(world, host)
    assert (again.assignment, again.nonce) == (manifest.assignment, manifest.nonce)
    assert again.lease_seconds == manifest.lease_seconds - 10
    assert world.ask(host)[0] == [], "what is in hand does not come again"


def committed(world, host, data, manifest):
    receipts, *_ = world.exchange(host, 0, [report(manifest, delta_result(data))], [])
    host.held.clear()
    assert receipts[0].outcome == "upload"
    with world.store.read() as tx:
        return find_upload(tx, world.deps, receipts[0].upload)


def check_whole(world, upload):
    with world.store.read() as tx:
        encoding = upload_format(tx, upload)
    check_upload(world.deps, upload, encoding)


def finish(world, upload):
    check_whole(world, upload)
    with world.store.write() as tx:
        finish_upload(tx, world.deps, upload)


def test_a_delta_comes_in_parts_and_goes_on_where_it_broke_off(world):
    host, other = world.volunteer("host"), world.volunteer("other")
    manifest = leased(world, host)
    data = world.train(host, manifest)
    upload = committed(world, host, data, manifest)
    packed = pack(data)
    assert append_part(world.deps, upload, 0, packed[:100]) == 100
    assert upload_status(world.deps, upload).offset == 100
    with pytest.raises(Refusal) as caught:
        append_part(world.deps, upload, 50, packed[50:])
    assert caught.value.code == RefusalCode.WRONG_OFFSET
    again = committed(world, host, data, manifest)
    assert again.token == upload.token, "the commitment stands; the slot is told again"
    append_part(world.deps, upload, 100, packed[100:])
    with pytest.raises(Refusal) as caught:
        append_part(world.deps, upload, len(packed), b"x")
    assert caught.value.code == RefusalCode.WRONG_SIZE
    world.clock.now += 4
    finish(world, upload)
    assert world.row(host).upload_bytes_per_second == pytest.approx(len(packed) / 4)
    with world.store.write() as tx:
        finish_upload(tx, world.deps, upload)  # a lost answer makes the host ask twice
    world.run()
    [copy] = world.ask(other)[0]
    assert world.answer(other, copy).outcome == "unneeded"
    world.pass_time(10)
    assert world.row(host).record == world.row(other).record == 1


def test_other_bytes_than_promised_close_the_assignment(world):
    host, other = world.volunteer("host"), world.volunteer("other")
    manifest = leased(world, host)
    data = world.train(host, manifest)
    upload = committed(world, host, data, manifest)
    append_part(world.deps, upload, 0, bytes(upload.size))
    with pytest.raises(Refusal) as caught:
        check_whole(world, upload)
    with world.store.write() as tx:
        refuse_upload(tx, world.deps, upload, caught.value)
    with world.store.read() as tx, pytest.raises(Refusal):
        find_upload(tx, world.deps, upload.token)
    result = delta_result(data)
    assert refused(world, host, manifest, result) == RefusalCode.ALREADY_REPORTED
    assert manifest.unit.seed in seeds_taken(world, other)


def test_an_upload_that_another_process_is_done_with_is_not_the_hosts_fault(world):
    host = world.volunteer("host")
    manifest = leased(world, host)
    data = world.train(host, manifest)
    upload = committed(world, host, data, manifest)
    append_part(world.deps, upload, 0, pack(data))
    check_whole(world, upload)  # the other one, which has not committed yet
    check_whole(world, upload)
    with world.store.write() as tx:
        finish_upload(tx, world.deps, upload)
    world.run()  # the bytes are removed
    with pytest.raises(Refusal) as caught:
        check_whole(world, upload)
    assert caught.value.code == RefusalCode.WRONG_OFFSET
    assert caught.value.retry_after_seconds, "so `patch_upload` does not blame the host"
    with world.store.read() as tx:
        assert upload_status(world.deps, find_upload(tx, world.deps, upload.token)).complete


def test_an_upload_that_never_ends_is_thrown_away(world):
    host = world.volunteer("host")
    manifest = leased(world, host)
    upload = committed(world, host, world.train(host, manifest), manifest)
    append_part(world.deps, upload, 0, b"some")
    world.clock.now += manifest.lease_seconds + 1
    world.run()
    assert world.deps.blobs.upload_offset(upload.token) == 0
    with world.store.read() as tx, pytest.raises(Refusal):
        find_upload(tx, world.deps, upload.token)
