"""What hosts put into the bucket themselves: nothing counts before it was read, whatever it is."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from pleb_coordinator.blobs.s3 import S3Blobs
from pleb_coordinator.core.records import FileKind
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps import landed
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.upload import find_upload
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.direct import part_place, sealed_part, upload_place
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.tensors.packing import pack
from tests.integration.private_world import PrivateWorld
from tests.integration.steps_world import World, report
from tests.s3_server import KEYS, Fault, FaultyProxy, shared_nanio, shared_s3


class Bucket:
    """A world on a bucket, and a reported result in it."""

    def __init__(self, tmp_path, patch, server, proxy, *, kind=World):
        name = server.new_bucket()
        self.proxy = proxy
        self.address = f"{server.endpoint}/{name}/pleb"
        endpoint = proxy.endpoint if proxy else server.endpoint
        self.blobs = S3Blobs(
            f"s3://{name}/pleb",
            endpoint=endpoint,
            region="us-east-1",
            public=self.address,
            **KEYS,
        )
        described = World.describe

        def describe(world, **given):
            return msgspec.structs.replace(described(world, **given), uploads=self.address)

        patch.setattr(World, "describe", describe)
        patch.setattr(World, "new_blobs", staticmethod(lambda _: self.blobs))
        self.world = kind(tmp_path)
        invite = self.world.member_invite() if isinstance(self.world, PrivateWorld) else None
        self.host = self.world.volunteer("anna", invite=invite)
        self.manifest = self.world.ask(self.host)[0][0]
        delta = self.world.train(self.host, self.manifest)
        self.packed = pack(delta)
        result = DeltaResult(
            digest=digest_of(delta), size=len(self.packed), loss_first=2.0, loss_last=1.0
        )
        receipts, _, _, _ = self.world.exchange(self.host, 0, [report(self.manifest, result)], [])
        self.token = str(receipts[0].upload)

    def put(self, body=None):
        with self.world.store.read() as tx:
            upload = find_upload(tx, self.world.deps, self.token)
            assert landed.is_direct(tx, self.world.deps, upload)
        signer = self.blobs.signer
        assert signer is not None
        query = signer.parts(self.token, 0, upload.size).parts[0].query
        body = sealed_part(self.packed) if body is None else body
        url = f"{self.address}/{part_place(self.token, 0)}?{query}"
        assert httpx.put(url, content=body).is_success
        return url

    def land(self):
        with self.world.store.write() as tx:
            landed.land(tx, self.world.deps, find_upload(tx, self.world.deps, self.token))

    @property
    def assignment(self):
        with self.world.store.read() as tx:
            return tx.assignments.get(self.manifest.assignment)

    def objects(self):
        return self.blobs.upload_offset(self.token)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    return Bucket(tmp_path, monkeypatch, shared_nanio(), None)


@pytest.fixture
def proxied(tmp_path, monkeypatch):
    with FaultyProxy(shared_s3().endpoint) as proxy:
        yield Bucket(tmp_path, monkeypatch, shared_s3(), proxy)


def test_it_counts_once_it_was_read_and_its_parts_go_twice(bucket):
    bucket.put()
    bucket.world.run()
    assert bucket.assignment.state == "uploading"  # nobody has said that all is there
    bucket.land()
    bucket.land()
    bucket.world.run()
    assert bucket.assignment.state in {"reported", "valid"}
    bucket.world.pass_time(10)
    assert not bucket.objects()
    bucket.put()  # the host uses its signature once more
    assert bucket.objects()
    bucket.world.pass_time(5000)
    assert not bucket.objects()


def test_a_private_projects_result_is_sealed_once_it_was_checked(tmp_path, monkeypatch):
    bucket = Bucket(tmp_path, monkeypatch, shared_nanio(), None, kind=PrivateWorld)
    bucket.put()
    bucket.land()
    bucket.world.run()
    bucket.world.pass_time(10)
    assert not bucket.objects()
    project, deps = bucket.world.project, bucket.world.deps
    with bucket.world.store.read() as tx:
        row = tx.assignments.get(bucket.manifest.assignment)
        stored = tx.assignments.delta(row.id)
    assert row.state in {"reported", "valid"}
    sealed = bytes(bucket.blobs.delta_view(stored, stored.digest))
    assert sealed.startswith(b"PLEBSEAL")
    assert digest_of(blobs_of(deps, project).delta_view(stored, None)) == row.digest


def test_its_lease_lasts_until_it_was_read_however_long_that_takes(bucket):
    bucket.put()
    bucket.land()
    bucket.world.clock.now += 3 * 3600  # no background process runs
    bucket.world.run()
    assert bucket.assignment.state in {"reported", "valid"}
    assert bucket.world.row(bucket.host).upload_bytes_per_second is None  # nothing came meanwhile


def test_what_never_lands_ends_with_its_lease_and_its_parts_go_later(bucket):
    sent = bucket.put()
    bucket.world.pass_time(700)
    assert bucket.assignment.state == "expired"
    assert not bucket.objects()
    assert httpx.put(sent, content=sealed_part(bucket.packed)).is_success
    assert bucket.objects()
    bucket.world.pass_time(5000)
    assert not bucket.objects()


def test_a_part_without_its_seal_is_refused_after_a_while_and_nothing_else_waits(bucket):
    world = bucket.world
    bucket.put(bucket.packed + bytes(32))
    bucket.land()
    jobs = Jobs(world.store, world.deps)
    jobs.run_due()
    assert bucket.assignment.state == "uploading"
    world.clock.now += 31
    jobs.run_due()
    assert bucket.assignment.state == "uploading"
    world.clock.now += 300
    jobs.run_due()
    assert bucket.assignment.state == "invalid"
    assert jobs.counters.failures == {}
    assert jobs.counters.done["check"] == 3
    _, _, _, verdicts = world.exchange(bucket.host, 0, [], [])
    assert "damaged" in str(verdicts[0].reason.values["text"])
    host = world.row(bucket.host)
    assert host.bans == 0


def test_parts_that_the_bucket_gives_out_wrong_for_a_while_cost_the_host_nothing(proxied):
    proxied.put()
    proxied.land()
    proxied.proxy.faults = [Fault(3, ("GET",), spoil=True, only_bodies=True)]
    proxied.world.run()
    assert proxied.assignment.state == "uploading"
    proxied.world.pass_time(31)
    assert proxied.assignment.state in {"reported", "valid"}


def test_a_bucket_that_is_away_pauses_the_project_alone(proxied):
    proxied.put()
    proxied.land()
    world = proxied.world
    jobs = Jobs(world.store, world.deps)

    def away(*_):
        raise Refusal(RefusalCode.INTERNAL, "away", retry_after_seconds=10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Blobs, "upload_parts", away)
        jobs.run_due()
    assert jobs.counters.failures == {"tiny": 1}
    assert proxied.assignment.state == "uploading"
    world.clock.now += 31
    jobs.run_due()
    assert proxied.assignment.state in {"reported", "valid"}


def test_other_bytes_are_refused_at_once_and_another_host_gets_the_unit(bucket):
    wrong = bytes([bucket.packed[0] ^ 1]) + bucket.packed[1:]
    bucket.put(sealed_part(wrong))
    bucket.land()
    bucket.world.run()
    assert bucket.assignment.state == "invalid"
    _, _, _, verdicts = bucket.world.exchange(bucket.host, 0, [], [])
    assert "not the delta that was reported" in str(verdicts[0].reason.values["text"])
    other = bucket.world.volunteer("boris", role=Role.TRUSTED)
    again = {found.unit.seed for found in bucket.world.ask(other, 8)[0]}
    assert bucket.manifest.unit.seed in again


def test_what_was_checked_is_what_counts_whatever_is_put_there_afterwards(bucket):
    bucket.put()
    bucket.land()
    bucket.world.run()
    bucket.put(sealed_part(bytes(len(bucket.packed))))
    with bucket.world.store.read() as tx:
        stored = tx.assignments.delta(bucket.manifest.assignment)
        digest = tx.assignments.get(bucket.manifest.assignment).digest
    assert digest_of(bucket.blobs.delta(stored)) == digest


def test_a_process_killed_between_the_check_and_its_commit_loses_nothing(bucket):
    bucket.put()
    bucket.land()
    world = bucket.world
    project = world.project
    with world.store.read() as tx:
        found = landed.find(tx, world.deps, project, ())
    assert found is not None
    landed.compute(world.deps, found)
    bucket.world.run()
    assert bucket.assignment.state in {"reported", "valid"}


def test_a_new_epoch_or_a_deleted_project_drops_it(bucket):
    bucket.put()
    bucket.land()
    world = bucket.world
    world.metadata = msgspec.structs.replace(world.metadata, number=2, epoch=1)
    world.publish(world.metadata, invite=False)
    world.run()
    assert bucket.assignment.state == "cancelled"
    project = world.project
    with world.store.read() as tx:
        assert tx.uploads.to_check(project.id, world.clock() + 1e6, 9) == []
        due = tx.tombstones.due(world.clock() + 1e6, 99)
    assert (FileKind.LATE_UPLOAD, bucket.token) in {(one.kind, one.name) for one in due}


def test_a_bucket_that_the_operator_has_not_named_gets_no_signature(bucket):
    """Or a researcher could have the coordinator sign for another place of its bucket."""
    world = bucket.world

    def is_direct():
        with world.store.read() as tx:
            return landed.is_direct(tx, world.deps, find_upload(tx, world.deps, bucket.token))

    assert is_direct()
    for number, other in enumerate(("", bucket.address + "x", bucket.address[:-5] + "/other"), 2):
        changed = msgspec.structs.replace(world.metadata, number=number, uploads=other)
        world.publish(changed, invite=False)
        assert not is_direct()


def test_a_place_in_the_bucket_follows_from_the_token_alone():
    assert upload_place("token") == f"uploads/{digest_of(b'token')}/"
    assert part_place("token", 7) == f"uploads/{digest_of(b'token')}/00000000000000000007"
