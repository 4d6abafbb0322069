"""What an agent may rely on: the real coordinator keeps it, and so does the agent tests' fake."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import (
    EnrolReply,
    EnrolRequest,
    PayloadType,
    Receipt,
    Runtime,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report, Result
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.tensors.packing import pack
from tests.integration.fake_coordinator import FakeCoordinator, app
from tests.integration.http_world import URL, http_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pleb_shared.protocol.manifest import Manifest

NOW = 1_800_000_000.0
SIDES = ["fake", "real"]


@dataclass
class Host:
    """What signs requests."""

    key: SigningKey
    account_key: SigningKey
    sequence: int = 0


class Coordinator:
    """One of the two, reached as a stranger reaches it. `delta_of` gives a unit's delta."""

    def __init__(
        self, client: httpx.AsyncClient, project: str, delta_of: Callable[[Manifest], bytes]
    ) -> None:
        self.client = client
        self.project = project
        self.delta_of = delta_of
        self.online = ""

    async def enrol(self, host: Host, **changes: Any) -> EnrolReply:
        request = EnrolRequest(
            protocols=[1],
            project=self.project,
            host_key=host.key.public,
            account_key=host.account_key.public,
            agent="test",
            issued_at=int(NOW),
            expires_at=int(NOW) + 60,
        )
        body = strict_json.encode(msgspec.structs.replace(request, **changes))
        envelope = sign_payload(body, PayloadType.ENROL, host.key, host.account_key)
        answer = await self.client.post(f"/projects/{self.project}/enrol", content=envelope)
        assert answer.status_code == 200, answer.text
        return open_envelope(answer.content, PayloadType.ENROL_REPLY, EnrolReply, self.online)

    def request(self, host: Host, *reports: Report, **changes: Any) -> WorkRequest:
        host.sequence += 1
        request = WorkRequest(
            protocols=[1],
            project=self.project,
            host=host.key.fingerprint,
            sequence=host.sequence,
            issued_at=int(NOW),
            expires_at=int(NOW) + 60,
            agent="test",
            runtime=Runtime(torch="2", device="cpu", threads=1, capability="x", system="l"),
            max_units=1,
            reports=list(reports),
        )
        return msgspec.structs.replace(request, **changes)

    async def send(self, host: Host, request: WorkRequest, attached: bytes = b"") -> httpx.Response:
        envelope = sign_payload(strict_json.encode(request), PayloadType.WORK, host.key)
        body = envelope + b"\n" + attached
        return await self.client.post(f"/projects/{self.project}/work", content=body)

    async def work(
        self, host: Host, *reports: Report, attached: bytes = b"", **changes: Any
    ) -> WorkReply:
        request = self.request(host, *reports, **changes)
        answer = await self.send(host, request, attached)
        assert answer.status_code == 200, answer.text
        reply = open_envelope(answer.content, PayloadType.WORK_REPLY, WorkReply, self.online)
        assert (reply.host, reply.in_reply_to) == (request.host, request.sequence)
        return reply

    async def report(
        self, host: Host, manifest: Manifest, *, attached: bool, **changes: Any
    ) -> Receipt:
        """Report a unit's delta, asking for nothing; return the receipt."""
        delta = self.delta_of(manifest)
        packed = pack(delta)
        result = DeltaResult(
            digest=digest_of(delta),
            size=len(packed),
            attached=attached,
            loss_first=2.0,
            loss_last=1.0,
        )
        stated = msgspec.structs.replace(report_of(manifest, result), **changes)
        reply = await self.work(host, stated, attached=packed if attached else b"", max_units=0)
        (receipt,) = reply.receipts
        assert receipt.assignment == manifest.assignment
        return receipt


def report_of(manifest: Manifest, result: Result) -> Report:
    return Report(
        assignment=manifest.assignment,
        nonce=manifest.nonce,
        epoch=manifest.unit.epoch,
        version=manifest.unit.version,
        result=result,
        compute_seconds=1.0,
    )


@asynccontextmanager
async def coordinator_of(side: str, tmp_path: Path) -> AsyncIterator[tuple[Coordinator, Host]]:
    """Run one of the two, with work for a host that is enrolled."""
    host = Host(SigningKey.generate(), SigningKey.generate())
    if side == "fake":
        fake = FakeCoordinator(lambda: NOW)
        fake.plan(8)
        transport = httpx.ASGITransport(app(fake))
        async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
            found = Coordinator(client, fake.name, lambda m: m.nonce.encode() * 10)
            found.online = fake.online.public
            await found.enrol(host)
            yield found, host
        return
    async with http_world(tmp_path, new_host_units=0) as http:
        world = http.world
        anna = world.volunteer("anna")  # calibrated: her first unit is an ordinary one
        host = Host(anna.key, anna.account_key, anna.sequence)
        found = Coordinator(http.client, "tiny", lambda m: world.train(anna, m))
        found.online = world.online.public
        yield found, host


def story(side: str, tmp_path: Path, tell: Callable[[Coordinator, Host], Any]) -> None:
    async def run() -> None:
        async with coordinator_of(side, tmp_path) as (coordinator, host):
            await tell(coordinator, host)

    asyncio.run(run())


async def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("side", SIDES)
def test_a_unit_is_given_to_the_host_that_asks(tmp_path, side):
    async def tell(coordinator, host):
        reply = await coordinator.work(host)
        (manifest,) = reply.manifests
        assert manifest.host == host.key.fingerprint
        assert manifest.metadata_number == reply.metadata_number
        assert manifest.lease_seconds > 0
        assert reply.receipts == []
        assert reply.no_work is None

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_the_same_bytes_get_the_same_answer_and_others_under_its_number_none(tmp_path, side):
    async def tell(coordinator, host):
        request = coordinator.request(host)
        first = await coordinator.send(host, request)
        again = await coordinator.send(host, request)
        assert again.content == first.content
        other = msgspec.structs.replace(request, max_units=0)
        answer = await coordinator.send(host, other)
        assert await refusal(answer) == (409, "sequence_reused")
        await coordinator.work(host, max_units=0)
        assert (await refusal(await coordinator.send(host, request)))[1] == "stale_sequence"

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_a_unit_that_the_host_does_not_name_as_in_hand_comes_again(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        (again,) = (await coordinator.work(host)).manifests
        assert again.nonce == manifest.nonce
        named = await coordinator.work(host, in_hand=[manifest.assignment])
        assert manifest.nonce not in [one.nonce for one in named.manifests]

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_an_attached_delta_is_stored_once(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        first = await coordinator.report(host, manifest, attached=True)
        assert first.outcome in {"stored", "unneeded"}
        again = await coordinator.report(host, manifest, attached=True)
        assert (again.outcome, again.code) == ("refused", "already_reported")

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_a_report_with_another_nonce_is_refused(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        receipt = await coordinator.report(host, manifest, attached=True, nonce="0" * 32)
        assert (receipt.outcome, receipt.code) == ("refused", "unknown_assignment")

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_a_unit_is_given_back(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        failed = report_of(manifest, FailureResult(reason="Out of memory."))
        (receipt,) = (await coordinator.work(host, failed, max_units=0)).receipts
        assert (receipt.assignment, receipt.outcome) == (manifest.assignment, "stored")

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_a_larger_delta_is_uploaded_in_parts(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        receipt = await coordinator.report(host, manifest, attached=False)
        assert receipt.outcome == "upload"
        path, delta = f"/uploads/{receipt.upload}", pack(coordinator.delta_of(manifest))
        client = coordinator.client

        async def patch(data, offset):
            return await client.patch(path, content=data, headers={"upload-offset": str(offset)})

        def progress(answer):
            return answer.headers["upload-offset"], answer.headers["upload-complete"]

        assert progress(await client.head(path)) == ("0", "?0")
        first = await patch(delta[:100], 0)
        assert (first.status_code, *progress(first)) == (204, "100", "?0")
        assert await refusal(await patch(delta[:100], 0)) == (409, "wrong_offset")
        assert progress(await client.head(path)) == ("100", "?0")
        assert progress(await patch(delta[100:], 100)) == (str(len(delta)), "?1")
        assert progress(await client.head(path)) == (str(len(delta)), "?1")
        assert (await client.head("/uploads/" + "0" * 48)).status_code == 404

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_other_bytes_than_reported_are_refused(tmp_path, side):
    async def tell(coordinator, host):
        (manifest,) = (await coordinator.work(host)).manifests
        delta = pack(coordinator.delta_of(manifest))
        token = (await coordinator.report(host, manifest, attached=False)).upload
        wrong = bytes([delta[0] ^ 1]) + delta[1:]
        client, path, headers = coordinator.client, f"/uploads/{token}", {"upload-offset": "0"}
        more = await client.patch(path, content=delta + b"x", headers=headers)
        assert await refusal(more) == (400, "wrong_size")
        answer = await client.patch(path, content=wrong, headers=headers)
        assert await refusal(answer) == (400, "wrong_digest")
        assert (await client.head(path)).status_code == 404

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_unknown_hosts_and_wrong_clocks_are_refused(tmp_path, side):
    async def tell(coordinator, host):
        stranger = Host(SigningKey.generate(), SigningKey.generate())
        answer = await coordinator.send(stranger, coordinator.request(stranger))
        assert (await refusal(answer))[1] == "unknown_host"
        behind = {"issued_at": int(NOW) - 7200, "expires_at": int(NOW) - 7140}
        late = await coordinator.send(host, coordinator.request(host, **behind))
        assert (await refusal(late))[1] == "clock_skew"

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_enrolling_again_tells_the_last_sequence(tmp_path, side):
    async def tell(coordinator, host):
        await coordinator.work(host)
        reply = await coordinator.enrol(host)
        assert reply.sequence == host.sequence
        assert reply.host == host.key.fingerprint
        assert reply.account == host.account_key.fingerprint

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_no_work_says_why_and_when_to_ask_again(tmp_path, side):
    async def tell(coordinator, host):
        in_hand: list[int] = []
        reply = await coordinator.work(host)
        while reply.manifests and len(in_hand) < 20:
            in_hand += [one.assignment for one in reply.manifests]
            reply = await coordinator.work(host, in_hand=in_hand)
        assert reply.no_work is not None
        assert reply.no_work.retry_after_seconds > 0

    story(side, tmp_path, tell)


@pytest.mark.parametrize("side", SIDES)
def test_blobs_come_whole_or_from_an_offset(tmp_path, side):
    async def tell(coordinator, host):
        del host
        client = coordinator.client
        envelope = (await client.get(f"/projects/{coordinator.project}/metadata")).content
        metadata = strict_json.decode(
            peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes),
            ProjectMetadata,
            most_bytes=LIMITS.metadata_bytes,
        )
        blob = metadata.model.initial
        whole = await client.get(f"/blobs/{blob.digest}")
        assert digest_of(whole.content) == blob.digest
        part = await client.get(f"/blobs/{blob.digest}", headers={"range": "bytes=10-"})
        assert (part.status_code, part.content) == (206, whole.content[10:])
        assert part.headers["content-range"] == f"bytes 10-{blob.size - 1}/{blob.size}"
        answer = await client.get(f"/blobs/{'0' * 64}")
        assert await refusal(answer) == (404, "unknown_blob")

    story(side, tmp_path, tell)
