"""Blobs with ranges and caching, and resumable uploads, over HTTP."""

from __future__ import annotations

import asyncio
import zlib
from unittest.mock import Mock

import msgspec
import pytest

from pleb_coordinator.blobs.parts import name_of, stored
from pleb_coordinator.core.records import StoredDelta
from pleb_coordinator.steps.invite import new_invite
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType, PublishReply, Role
from pleb_shared.protocol.parts import read_leaves
from pleb_shared.protocol.signing import open_envelope
from tests.integration.http_world import URL, http_world

LARGE = bytes(range(256)) * 8192  # 2 MiB: more than one piece


async def upload(http, token, data, offset=0):
    headers = {"upload-offset": str(offset)}
    return await http.client.patch(f"/uploads/{token}", content=data, headers=headers)


async def slot_of(http, host):
    """Lease a unit, commit to its delta without the bytes; return token, delta, manifest."""
    manifest = (await http.work(host)).manifests[0]
    report, delta = http.result(host, manifest, attached=False)
    receipt = (await http.work(host, [report], units=0)).receipts[0]
    assert receipt.outcome == "upload"
    return receipt.upload, delta, manifest


def test_a_blob_comes_whole_or_in_parts(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            digest = http.world.deps.blobs.put(LARGE)
            whole = await http.client.get(f"/blobs/{digest}")
            assert (whole.status_code, whole.content) == (200, LARGE)
            assert whole.headers["etag"] == f'"{digest}"'
            assert "immutable" in whole.headers["cache-control"]
            for first, last in ((0, 0), (1_000_000, len(LARGE) - 1), (5, 600_004)):
                header = {"range": f"bytes={first}-{last}"}
                found = await http.client.get(f"/blobs/{digest}", headers=header)
                assert (found.status_code, found.content) == (206, LARGE[first : last + 1])
                assert found.headers["content-range"] == f"bytes {first}-{last}/{len(LARGE)}"
            same = {"if-none-match": f'"{digest}"'}
            assert (await http.client.get(f"/blobs/{digest}", headers=same)).status_code == 304
            beyond = {"range": f"bytes={len(LARGE)}-"}
            answer = await http.client.get(f"/blobs/{digest}", headers=beyond)
            assert (answer.status_code, answer.json()["code"]) == (416, "bad_range")

    asyncio.run(story())


def test_the_leaves_of_a_blob_lead_to_its_root(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            blobs = http.world.deps.blobs
            blob = stored(blobs, LARGE + b"more")
            assert name_of(blobs, blob.digest) == blob
            for _ in range(2):  # the second time from memory
                answer = await http.client.get(f"/parts/{blob.digest}")
                assert len(read_leaves(answer.content, blob)) == 3
            missing = await http.client.get(f"/parts/{'0' * 64}")
            assert (missing.status_code, missing.json()["code"]) == (404, "unknown_blob")

    asyncio.run(story())


@pytest.mark.parametrize("name", ["0" * 64, "x", "..%2fstore.sqlite", "A" * 64])
def test_other_names_are_no_blobs(tmp_path, name):
    async def story():
        async with http_world(tmp_path) as http:
            answer = await http.client.get(f"/blobs/{name}")
            assert answer.status_code == 404
            assert "store" not in answer.text

    asyncio.run(story())


def test_deltas_are_never_served(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            host = http.world.volunteer("anna")
            token, delta, manifest = await slot_of(http, host)
            assert (await upload(http, token, delta)).headers["upload-complete"] == "?1"
            unpacked = zlib.decompress(delta)
            stored = StoredDelta(manifest.assignment, len(unpacked), None)
            assert http.world.deps.blobs.delta(stored) == unpacked
            for path in (
                digest_of(unpacked),
                digest_of(delta),
                f"../deltas/01/{manifest.assignment}",
            ):
                assert (await http.client.get(f"/blobs/{path}")).status_code == 404

    asyncio.run(story())


def test_a_store_that_is_away_for_a_moment_refuses_no_result(tmp_path, monkeypatch):
    async def story():
        async with http_world(tmp_path) as http:
            token, delta, manifest = await slot_of(http, http.world.volunteer("host"))
            blobs = http.world.deps.blobs
            away = Refusal(RefusalCode.INTERNAL, "away", retry_after_seconds=1)
            with monkeypatch.context() as patch:
                patch.setattr(type(blobs), "put_delta_file", Mock(side_effect=away))
                assert (await upload(http, token, delta)).status_code == 500
            head = await http.client.head(f"/uploads/{token}")
            assert head.headers["upload-offset"] == str(len(delta))
            assert head.headers["upload-complete"] == "?0"
            last = await upload(http, token, b"", len(delta))
            assert last.headers["upload-complete"] == "?1"
            with http.world.store.read() as tx:
                row = tx.assignments.get(manifest.assignment)
            assert row.state == "reported"

    asyncio.run(story())


def test_an_upload_goes_on_where_it_broke_off(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            host = http.world.volunteer("anna")
            token, delta, manifest = await slot_of(http, host)
            first = await upload(http, token, delta[:100])
            assert (first.status_code, first.headers["upload-offset"]) == (204, "100")
            assert first.headers["upload-complete"] == "?0"
            again = await upload(http, token, delta[:100])
            assert (again.status_code, again.json()["code"]) == (409, "wrong_offset")
            head = await http.client.head(f"/uploads/{token}")
            assert head.headers["upload-offset"] == "100"
            assert head.headers["upload-length"] == str(len(delta))
            too_much = await upload(http, token, delta[100:] + b"x", 100)
            assert too_much.json()["code"] == "wrong_size"
            last = await upload(http, token, delta[100:], 100)
            assert last.headers["upload-complete"] == "?1"
            lost = await upload(http, token, b"", len(delta))  # its answer was lost
            assert (lost.status_code, lost.headers["upload-complete"]) == (204, "?1")
            http.world.run()
            with http.world.store.read() as tx:
                assert tx.assignments.get(manifest.assignment).verdict == "valid"

    asyncio.run(story())


def test_other_bytes_than_reported_are_refused_and_the_slot_closed(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            host = http.world.volunteer("anna")
            token, delta, manifest = await slot_of(http, host)
            wrong = bytes([delta[0] ^ 1]) + delta[1:]
            answer = await upload(http, token, wrong)
            assert (answer.status_code, answer.json()["code"]) == (400, "wrong_digest")
            assert (await http.client.head(f"/uploads/{token}")).status_code == 404
            with http.world.store.read() as tx:
                assert tx.assignments.get(manifest.assignment).state == "invalid"

    asyncio.run(story())


def test_two_parts_at_once_do_not_mix(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            host = http.world.volunteer("anna")
            token, delta, _ = await slot_of(http, host)
            answers = await asyncio.gather(*(upload(http, token, delta[:100]) for _ in range(4)))
            assert sorted(answer.status_code for answer in answers) == [204, 409, 409, 409]
            assert (await upload(http, token, delta[100:], 100)).headers["upload-complete"] == "?1"

    asyncio.run(story())


def test_uploads_nobody_knows_or_without_an_offset(tmp_path):
    async def story():
        async with http_world(tmp_path, new_host_units=0) as http:
            assert (await upload(http, "0" * 48, b"x")).json()["code"] == "unknown_upload"
            token, _, _ = await slot_of(http, http.world.volunteer("anna"))
            for header in ({}, {"upload-offset": "-1"}, {"upload-offset": "one"}):
                answer = await http.client.patch(f"/uploads/{token}", content=b"x", headers=header)
                assert answer.json()["code"] == "malformed"

    asyncio.run(story())


def test_publishing_asks_for_what_is_missing(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            world = http.world
            digest = world.metadata.training_graph.digest
            graph = world.deps.blobs.get(digest)
            world.deps.blobs.delete(digest)
            with world.store.write() as tx:
                invite = new_invite(tx, world.deps, Role.PUBLISHER, lifetime_seconds=60)
            body = world.envelope(world.metadata, invite=invite, key=world.root)

            async def publish():
                answer = await http.client.post("/publish", content=body)
                kind, online = PayloadType.PUBLISH_REPLY, world.online.public
                return open_envelope(answer.content, kind, PublishReply, online)

            reply = await publish()
            assert [slot.digest for slot in reply.missing] == [digest]
            assert (await publish()).missing == reply.missing  # the same slot again
            await upload(http, reply.missing[0].upload, graph)
            reply = await publish()
            assert reply.missing == []
            assert reply.attach_link == f"{URL}/join/tiny#{world.root.fingerprint}"

    asyncio.run(story())


def test_publishing_without_an_invite(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            other = msgspec.structs.replace(http.world.metadata, project="other")
            body = http.world.envelope(other, invite="0" * 48, key=http.world.root)
            answer = await http.client.post("/publish", content=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_invite")

    asyncio.run(story())
