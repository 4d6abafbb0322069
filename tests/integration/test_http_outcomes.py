"""What follows from a result, by whichever way it ends: attached, uploaded, failed or expired."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pleb_coordinator.core.records import Purpose
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.report import FailureResult
from pleb_shared.tensors.format import DeltaFormat
from tests.integration.http_world import http_world
from tests.integration.steps_world import report
from tests.integration.test_http_files import slot_of, upload
from tests.integration.test_steps_trust import drawn, proven

WAYS = ("attached", "uploaded", "failed", "expired")


def story(test):
    """Run an asynchronous test."""

    def run(*arguments, **options):
        asyncio.run(test(*arguments, **options))

    return run


def seconds_per_step(http, host):
    return http.world.row(host).seconds_per_step


async def deliver(http, host, manifest, way, *, seconds=None):
    """Report a unit and deliver its delta; `seconds` is how long it took."""
    said, delta = http.result(host, manifest, attached=way == "attached")
    if seconds is not None:
        said = msgspec.structs.replace(said, compute_seconds=seconds)
    if way == "attached":
        await http.work(host, [said], units=0, attached=delta)
        return
    receipt = (await http.work(host, [said], units=0)).receipts[0]
    assert (await upload(http, receipt.upload, delta)).status_code == 204


async def come_to_nothing(http, host, manifest, way):
    """End an assignment without a usable result."""
    said, delta = http.result(host, manifest, attached=way == "attached")
    wrong = bytes([delta[0] ^ 1]) + delta[1:]
    if way == "attached":
        receipt = (await http.work(host, [said], units=0, attached=wrong)).receipts[0]
        assert receipt.code == "wrong_digest"
    elif way == "uploaded":
        receipt = (await http.work(host, [said], units=0)).receipts[0]
        assert (await upload(http, receipt.upload, wrong)).json()["code"] == "wrong_digest"
    elif way == "failed":
        failure = report(manifest, FailureResult(reason="out of memory"))
        await http.work(host, [failure], units=0)
    else:
        http.world.clock.now += manifest.lease_seconds + 1
        http.world.run()


def share(http, host):
    with http.world.store.read() as tx:
        return tx.shares.taken(1, 0, 0, host.account_key.fingerprint)


def copies(http, manifest):
    with http.world.store.read() as tx:
        unit = tx.assignments.get(manifest.assignment).unit
        return tx.assignments.of_unit(unit)


@pytest.mark.parametrize("way", ["attached", "uploaded"])
def test_a_result_updates_its_hosts_speed_however_its_delta_travels(tmp_path, way):
    @story
    async def run():
        async with http_world(tmp_path, new_host_units=0) as http:
            host = http.world.volunteer("anna")
            before = seconds_per_step(http, host)
            manifest = (await http.work(host)).manifests[0]
            await deliver(http, host, manifest, way, seconds=50.0)
            steps = manifest.unit.local_steps
            expected = 0.8 * before + 0.2 * 50.0 / steps
            assert seconds_per_step(http, host) == pytest.approx(expected)

    run()


def test_every_report_of_a_request_updates_the_speed(tmp_path):
    @story
    async def run():
        async with http_world(tmp_path) as http:
            host = proven(http.world, "anna")
            before = seconds_per_step(http, host)
            manifests = (await http.work(host, units=2)).manifests
            results = [http.result(host, manifest) for manifest in manifests]
            slow = [msgspec.structs.replace(said, compute_seconds=50.0) for said, _ in results]
            deltas = b"".join(delta for _, delta in results)
            await http.work(host, slow, units=0, attached=deltas)
            expected = before
            for manifest in manifests:
                expected = 0.8 * expected + 0.2 * 50.0 / manifest.unit.local_steps
            assert seconds_per_step(http, host) == pytest.approx(expected)

    run()


@pytest.mark.parametrize("way", WAYS)
def test_an_assignment_that_comes_to_nothing_gives_its_share_back(tmp_path, way):
    @story
    async def run():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            assert share(http, host) == 1
            await come_to_nothing(http, host, manifest, way)
            assert share(http, host) == 0
            waiting = [copy for copy in copies(http, manifest) if copy.state == "unsent"]
            assert [copy.purpose for copy in waiting] == [Purpose.PRIMARY]

    run()


def test_a_result_after_its_lease_ran_out_uses_its_share_again(tmp_path):
    @story
    async def run():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            await come_to_nothing(http, host, manifest, "expired")
            await deliver(http, host, manifest, "attached")
            assert share(http, host) == 1

    run()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("late", [False, True])
def test_a_lost_check_is_drawn_again_before_and_after_the_next_version(tmp_path, way, late):
    @story
    async def run():
        quorum = 1 if late else 2
        async with http_world(
            tmp_path, units=4, quorum=quorum, grace_seconds=0, audit_rate=1.0
        ) as http:
            anna = proven(http.world, "anna", record=100)
            manifest = (await http.work(anna)).manifests[0]
            others = [proven(http.world, name, drift=1e-5) for name in ("ben", "cleo")]
            await deliver(http, anna, manifest, "attached")
            http.world.run()
            checker, check = drawn(http.world, manifest.unit, *others)
            if late:
                trusted = http.world.volunteer("trusted", role=Role.TRUSTED)
                http.world.work(trusted)
                assert http.world.project.version == 1
            await come_to_nothing(http, checker, check, way)
            http.world.run()
            waiting = [copy for copy in copies(http, check) if copy.state == "unsent"]
            assert [copy.purpose for copy in waiting] == [Purpose.CHECK]

    run()


def test_a_lease_lasts_as_long_as_its_upload_slot(tmp_path):
    """Otherwise the unit goes to another host although its result is on the way."""

    @story
    async def run():
        async with http_world(tmp_path) as http:
            world = http.world
            host = world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            world.clock.now += manifest.lease_seconds - 1
            said, delta = http.result(host, manifest, attached=False)
            receipt = (await http.work(host, [said], units=0)).receipts[0]
            world.clock.now += 30
            world.run()
            assert len(copies(http, manifest)) == 1
            assert (await upload(http, receipt.upload, delta)).status_code == 204
            assert [copy.state for copy in copies(http, manifest)] == ["reported"]

    run()


def test_a_late_upload_that_is_refused_marks_the_host_and_adds_no_second_copy(tmp_path):
    @story
    async def run():
        async with http_world(tmp_path) as http:
            host = proven(http.world, "anna")
            token, delta, manifest = await slot_of(http, host)
            with http.world.store.write() as tx:
                tx.assignments.end_leases(http.world.row(host).id, http.world.clock.now)
            http.world.run()
            before = len(copies(http, manifest))
            assert (await upload(http, token, bytes(len(delta)))).status_code == 400
            assert http.world.row(host).recent & 1
            assert len(copies(http, manifest)) == before

    run()


def test_an_upload_is_checked_as_its_unit_requires_whatever_its_size(tmp_path):
    """A training delta that has a calibration's size must not be stored as if it were one."""

    @story
    async def run():
        async with http_world(tmp_path, codec="int4") as http:
            world = http.world
            host = world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            exact = world.train(host, replace_kind(manifest))
            assert len(exact) == DeltaFormat(world.model, "fp32", 16).size
            token, _, _ = await slot_of_size(http, host, manifest, exact)
            assert (await upload(http, token, exact)).json()["code"] == "wrong_size"

    run()


def replace_kind(manifest):
    unit = msgspec.structs.replace(manifest.unit, kind="calibrate")
    return msgspec.structs.replace(manifest, unit=unit)


async def slot_of_size(http, host, manifest, data):
    """Open a slot for `data`, as an earlier program that did not check the size would have."""
    said, delta = http.result(host, manifest, attached=False)
    receipt = (await http.work(host, [said], units=0)).receipts[0]
    with http.world.store.write() as tx:
        slot = tx.uploads.get(receipt.upload)
        tx.uploads.remove(slot.token)
        tx.uploads.add(msgspec.structs.replace(slot, size=len(data), digest=digest_of(data)))
    return receipt.upload, delta, manifest


def test_a_repeated_request_that_waits_gets_the_receipts_too(tmp_path):
    @story
    async def run():
        async with http_world(tmp_path, units=1, quorum=1, grace_seconds=0) as http:
            host = http.world.volunteer("anna", role=Role.TRUSTED)
            manifest = (await http.work(host)).manifests[0]
            said, delta = http.result(host, manifest)
            request = http.request(host, [said], units=1, wait_seconds=5)
            twice = [asyncio.create_task(http.post(host, request, delta)) for _ in range(2)]
            await asyncio.sleep(0.3)
            http.world.run()  # the next version brings work for the one that waits
            replies = [http.opened(await task, request) for task in twice]
            assert [len(reply.receipts) for reply in replies] == [1, 1]
            repeated = http.opened(await http.post(host, request, delta), request)
            assert len(repeated.receipts) == len(repeated.manifests) == 1

    run()
