"""`POST /projects/P/work`: order, refusals, repetition, attached deltas, waiting."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.home.config import CoordinatorConfig
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import ReceiptOutcome
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.signing import SigningKey, Unverified
from pleb_shared.protocol.unit import UnitKind
from tests.integration.http_world import http_world, soon


def test_a_hosts_first_hour(tmp_path):
    async def story():
        async with http_world(tmp_path, audit_rate=0.0) as http:
            host = http.world.volunteer("anna", calibrated=False)
            assert (await http.enrol(host)).sequence == 0
            first = await http.work(host)
            calibration = first.manifests[0]
            assert calibration.unit.kind == UnitKind.CALIBRATE
            report, delta = http.result(host, calibration)
            reply = await http.work(host, [report], attached=delta, units=0)
            assert [r.outcome for r in reply.receipts] == [ReceiptOutcome.STORED]
            http.world.run()
            reply = await http.work(host)
            unit = reply.manifests[0]
            assert (unit.unit.kind, unit.host) == (UnitKind.TRAIN, host.key.fingerprint)
            assert (await http.enrol(host)).sequence == 3

    asyncio.run(story())


def test_the_same_bytes_get_the_stored_answer(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            request = http.request(host, [])
            first = await http.post(host, request)
            assert (await http.post(host, request)).content == first.content
            http.world.clock.now += 7200  # also when its times are over
            assert (await http.post(host, request)).content == first.content
            other = msgspec.structs.replace(request, max_units=2)
            assert (await http.post(host, other)).json()["code"] == "sequence_reused"
            older = msgspec.structs.replace(request, sequence=1)
            assert (await http.post(host, older)).json()["code"] == "stale_sequence"

    asyncio.run(story())


def test_the_same_bytes_twice_at_once_lease_one_unit(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            request = http.request(host, [])
            answers = await asyncio.gather(*(http.post(host, request) for _ in range(5)))
            assert len({answer.content for answer in answers}) == 1
            assert len(http.opened(answers[0], request).manifests) == 1
            assert len(http.world.events("issued")) == 2  # its calibration and this one

    asyncio.run(story())


def test_a_wrong_signature_uses_up_no_sequence(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            request = http.request(host, [])
            thief = dataclasses.replace(host, key=SigningKey.generate())
            answer = await http.post(thief, request)
            assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
            assert http.opened(await http.post(host, request), request).manifests

    asyncio.run(story())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"protocols": [9]}, "unsupported_protocol"),
        ({"project": "other"}, "wrong_audience"),
        ({"host": "0" * 64}, "unknown_host"),
        ({"issued_at": 0, "expires_at": 60}, "clock_skew"),
        ({"expires_at": 1}, "expired"),
        ({"wait_seconds": 31.0}, "malformed"),
        ({"max_units": 65}, "malformed"),
    ],
)
def test_requests_that_are_refused_whole(tmp_path, changes, code):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            request = msgspec.structs.replace(http.request(host, []), **changes)
            answer = await http.post(host, request)
            assert answer.json()["code"] == code

    asyncio.run(story())


def test_bodies_that_are_too_long_or_no_envelope(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            path = "/projects/tiny/work"
            for body, code in (
                (b"x" * (LIMITS.request_bytes + 1), "too_large"),
                (b"x" * (LIMITS.message_bytes + 1), "too_large"),
                (b"{}", "malformed"),
                (b"", "malformed"),
                (b"\xff\xfe", "malformed"),
            ):
                assert (await http.client.post(path, content=body)).json()["code"] == code

            async def endless():
                while True:
                    yield b"x" * 100_000

            answer = await http.client.post(path, content=endless())
            assert answer.status_code == 413

    asyncio.run(story())


def test_attached_deltas_are_as_long_as_their_reports_say(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            report, delta = http.result(host, manifest)
            for attached in (b"", delta[:-1], delta + b"\n"):
                answer = await http.post(host, http.request(host, [report]), attached)
                assert answer.json()["code"] == "malformed"
            reply = await http.work(host, [report], attached=delta)
            assert reply.receipts[0].outcome == ReceiptOutcome.STORED

    asyncio.run(story())


def test_a_banned_host_is_told_why_and_for_how_long(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            row, now = http.world.row(host), http.world.clock.now
            with http.world.store.write() as tx:
                reason = because(ReasonCode.BANNED_BY_OPERATOR, text="it lied")
                standing = msgspec.structs.replace(
                    standing_of(row), banned_until=now + 3600, ban_reason=reason
                )
                tx.hosts.set_standing(row.id, standing)
            answer = await http.post(host, http.request(host, []))
            assert (answer.status_code, answer.json()["code"]) == (403, "banned")
            message = answer.json()["message"]
            assert "it lied" in message
            assert message.endswith("it lied. Ask the project's operator.")
            # soon enough for `host unban` to reach it, long before the ban ends
            assert answer.headers["retry-after"] == "300"
            http.world.clock.now += 3601
            assert (await http.work(host)).in_reply_to == host.sequence

    asyncio.run(story())


def test_a_banned_host_that_was_known_soon_costs_no_signature_any_more(tmp_path, monkeypatch):
    verified = []
    verify = Unverified.verify

    def counted(signed, key):
        verified.append(key)
        verify(signed, key)

    async def story():
        async with http_world(tmp_path) as http:
            host = http.world.volunteer("anna")
            await http.work(host)
            row = http.world.row(host)
            with http.world.store.write() as tx:
                until = http.world.clock.now + 3600
                tx.hosts.set_standing(
                    row.id, msgspec.structs.replace(standing_of(row), banned_until=until)
                )
            monkeypatch.setattr(Unverified, "verify", counted)
            for _ in range(3):
                answer = await http.post(host, http.request(host, []))
                assert answer.json()["code"] == "banned"
            assert len(verified) == 1

    asyncio.run(story())


def test_an_address_that_asks_too_often_waits(tmp_path):
    async def story(client):
        config = CoordinatorConfig(requests_per_second=0.5, request_burst=3)
        async with http_world(tmp_path, client=client, config=config) as http:
            return [(await http.client.get("/health")).status_code for _ in range(5)]

    assert asyncio.run(story(("203.0.113.7", 1))) == [200, 200, 200, 429, 429]


def test_a_waiting_host_gets_work_as_soon_as_there_is_some(tmp_path):
    async def story():
        async with http_world(tmp_path, units=1, quorum=1, new_host_units=0) as http:
            busy, waiting = http.world.volunteer("anna"), http.world.volunteer("boris")
            manifest = (await http.work(busy)).manifests[0]
            loop = asyncio.get_running_loop()
            start = loop.time()
            held = asyncio.create_task(http.work(waiting, wait_seconds=20.0))
            await soon(lambda: http.web.api.changes.places_taken == 1)
            assert not held.done()
            report, delta = http.result(busy, manifest)
            await http.work(busy, [report], attached=delta, units=0)
            http.world.clock.now += 31  # the grace window is over
            http.world.run()  # verify, advance, plan
            assert http.world.project.version == 1
            reply = await held
            assert (len(reply.manifests), reply.latest_version) == (1, 1)
            assert loop.time() - start < 5
            assert http.web.api.changes.places_taken == 0

    asyncio.run(story())


def test_what_is_planned_while_a_waiting_host_pauses_is_not_missed(tmp_path):
    async def story():
        async with http_world(tmp_path, units=1, quorum=1, new_host_units=0) as http:
            busy, waiting = http.world.volunteer("anna"), http.world.volunteer("boris")
            manifest = (await http.work(busy)).manifests[0]
            held = asyncio.create_task(http.work(waiting, wait_seconds=20.0))
            await soon(lambda: http.web.api.changes.places_taken == 1)
            report, delta = http.result(busy, manifest)
            for _ in range(30):  # it looks in vain, and pauses for longer each time
                with http.world.store.write() as tx:
                    tx.events.add(1, 0.0, "noise")
                await asyncio.sleep(0.02)
            await http.work(busy, [report], attached=delta, units=0)
            http.world.clock.now += 31
            http.world.run()
            async with asyncio.timeout(6):
                assert (await held).manifests

    asyncio.run(story())


def test_receipts_survive_a_crash_while_the_host_waits(tmp_path):
    async def story():
        async with http_world(tmp_path, units=1, quorum=1) as http:
            host = http.world.volunteer("anna")
            manifest = (await http.work(host)).manifests[0]
            report, delta = http.result(host, manifest)
            request = http.request(host, [report], wait_seconds=20.0)
            held = asyncio.create_task(http.post(host, request, delta))
            await soon(lambda: http.web.api.changes.places_taken == 1)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            reply = http.opened(await http.post(host, request, delta), request)
            assert [r.outcome for r in reply.receipts] == [ReceiptOutcome.STORED]

    asyncio.run(story())


def test_without_a_place_to_wait_a_host_is_answered_at_once(tmp_path):
    async def story():
        config = CoordinatorConfig(waiters=1)
        async with http_world(tmp_path, units=1, quorum=1, config=config) as http:
            hosts = [http.world.volunteer(name) for name in ("anna", "boris", "carla")]
            await http.work(hosts[0])
            held = asyncio.create_task(http.work(hosts[1], wait_seconds=20.0))
            await soon(lambda: http.web.api.changes.places_taken == 1)
            async with asyncio.timeout(15):
                reply = await http.work(hosts[2], wait_seconds=20.0)
            assert reply.no_work is not None
            assert reply.no_work.retry_after_seconds > 0
            http.web.api.closing.set()
            http.web.api.changes.wake_all()
            async with asyncio.timeout(15):
                assert not (await held).manifests  # closing answers whoever waits

    asyncio.run(story())


def test_who_hangs_up_while_waiting_leases_nothing(tmp_path):
    async def story():
        async with http_world(tmp_path, units=1, quorum=1, new_host_units=0) as http:
            busy, gone = http.world.volunteer("anna"), http.world.volunteer("boris")
            manifest = (await http.work(busy)).manifests[0]
            body = http.signed(gone, http.request(gone, [], wait_seconds=20.0))
            parts = iter([{"type": "http.request", "body": body, "more_body": False}])
            hung_up = asyncio.Event()

            async def receive():
                if (part := next(parts, None)) is not None:
                    return part
                await hung_up.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                pass

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/projects/tiny/work",
                "raw_path": b"/projects/tiny/work",
                "query_string": b"",
                "headers": [],
                "client": ("203.0.113.9", 1),
                "server": ("c", 80),
                "scheme": "http",
                "http_version": "1.1",
            }
            task = asyncio.create_task(http.web.app(scope, receive, send))
            await soon(lambda: http.web.api.changes.places_taken == 1)
            hung_up.set()
            report, delta = http.result(busy, manifest)
            await http.work(busy, [report], attached=delta, units=0)
            http.world.clock.now += 31
            http.world.run()
            await task
            row = http.world.row(gone)
            with http.world.store.read() as tx:
                assert tx.assignments.in_hand(row.id) == []

    asyncio.run(story())


def test_metadata_is_served_as_it_was_signed(tmp_path):
    async def story():
        async with http_world(tmp_path) as http:
            answer = await http.client.get("/projects/tiny/metadata")
            project = http.world.project.id
            with http.world.store.read() as tx:
                assert answer.content == tx.projects.envelope(project, 1)
            assert (await http.client.get("/projects/none/metadata")).status_code == 404
            info = (await http.client.get("/coordinator")).json()
            assert info["online_key"] == http.world.online.public
            assert info["projects"] == ["tiny"]
            assert (await http.client.get("/ready")).json()["ready"] is True

    asyncio.run(story())
