"""Agents of one local network: who is a member, what is passed on, and neighbours that are bad."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.lan_host import LanHost
from pleb_agent.blobs import fetch as fetch_module
from pleb_agent.blobs.source import SourceKind
from pleb_agent.client.network import NO_LIMITS
from pleb_agent.lan import peer_blobs, sharing
from pleb_agent.lan.neighbours import Neighbour
from pleb_agent.lan.peer_source import PeerSource
from pleb_agent.program.http_server import HttpServer
from pleb_coordinator.api.blob_files import parse_range
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.lan import SignedHeaders, request_mac
from pleb_shared.protocol.parts import blob_of, leaves_of
from tests.integration.agent_home import Agent, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving

KEY = bytes(range(32))
LARGE = secrets.token_bytes(9 * 2**20 + 5)
SMALL = [secrets.token_bytes(200_000 + n) for n in range(6)]
BLOBS = [blob_of(data) for data in (LARGE, *SMALL)]
TOTAL = sum(blob.size for blob in BLOBS)


class Air:
    """Every beacon is heard by all sockets of the test, from 127.0.0.1."""

    def __init__(self):
        self.sockets = []

    def socket(self, heard):
        found = _Socket(self, heard)
        self.sockets.append(found)
        return found


class _Socket:
    def __init__(self, air, heard):
        self._air, self.heard = air, heard

    async def open(self):
        """It is open."""

    def close(self):
        self._air.sockets.remove(self)

    def send(self, packet):
        loop = asyncio.get_running_loop()
        for one in self._air.sockets:
            loop.call_soon(one.heard, packet, "127.0.0.1")


@pytest.fixture(autouse=True)
def _air(monkeypatch):
    monkeypatch.setattr(sharing, "BeaconSocket", Air().socket)


class Coordinator:
    """Blobs behind a line of so many bytes a second."""

    def __init__(self, speed=20e6):
        self.data = {blob_of(data).digest: data for data in (LARGE, *SMALL)}
        self.sent = 0
        self._speed, self._free_at = speed, 0.0

    async def _line(self, amount):
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + amount / self._speed
        await asyncio.sleep(self._free_at - now)

    async def blob(self, request):
        data = self.data[request.path_params["digest"]]
        start, end = parse_range(request.headers.get("range"), len(data))
        await self._line(end - start)
        self.sent += end - start
        headers = {"content-range": f"bytes {start}-{end - 1}/{len(data)}"}
        ranged = "range" in request.headers
        return Response(data[start:end], 206 if ranged else 200, headers if ranged else None)

    async def parts(self, request):
        return Response(b"".join(leaves_of(self.data[request.path_params["digest"]])))

    @asynccontextmanager
    async def serving(self):
        routes = [Route("/blobs/{digest}", self.blob), Route("/parts/{digest}", self.parts)]
        server = HttpServer(Starlette(routes=routes))
        task = asyncio.create_task(server.run())
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.stop()
            await task


@asynccontextmanager
async def hosts(url, tmp_path, count, faults=(), key=KEY):
    """Run hosts that share, the bad ones too; gives the good ones."""
    good = [LanHost(url, key, tmp_path / f"good-{n}") for n in range(count)]
    bad = [LanHost(url, key, tmp_path / fault, fault=fault) for fault in faults]
    for one in bad:
        one.lie_about(BLOBS)
    tasks = [asyncio.create_task(one.lan.run()) for one in [*good, *bad]]
    try:
        await until(lambda: all(one.lan.port for one in [*good, *bad]))
        if key == KEY:
            everybody = count + len(bad) - 1
            await until(lambda: all(one.lan.neighbours == everybody for one in good))
        yield good
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in [*good, *bad]:
            await one.close()


async def fetch(*good):
    await asyncio.wait_for(asyncio.gather(*(one.fetch(BLOBS) for one in good)), 60)
    for one in good:
        assert all(one.cache.check_again(blob) for blob in BLOBS)


@pytest.fixture
def patient_hosts(monkeypatch):
    """All hosts of a test share one thread: on a busy PC their answers take seconds."""
    monkeypatch.setattr(peer_blobs, "_ASK_SECONDS", 20.0)
    monkeypatch.setattr(peer_blobs, "_WANTED_SECONDS", 60.0)
    monkeypatch.setattr(peer_blobs, "_GONE_SECONDS", 60.0)
    monkeypatch.setattr(fetch_module, "STALL_SECONDS", 30.0)
    monkeypatch.setattr(fetch_module, "_LOOKS", 60)
    monkeypatch.setattr(fetch_module, "_SLOW_SECONDS", 60.0)


@pytest.mark.usefixtures("patient_hosts")
def test_what_one_has_the_others_get_from_it(tmp_path):
    async def story():
        coordinator = Coordinator()
        async with coordinator.serving() as url, hosts(url, tmp_path, 4) as good:
            await fetch(good[0])
            before = coordinator.sent
            await fetch(*good[1:])
            assert coordinator.sent - before < TOTAL / 4
            assert all(one.fetcher.received[SourceKind.PEER] > TOTAL * 3 / 4 for one in good[1:])

    asyncio.run(story())


@pytest.mark.usefixtures("patient_hosts")
def test_those_that_begin_together_bring_each_part_in_once_or_twice(tmp_path):
    async def story():
        coordinator = Coordinator()
        async with coordinator.serving() as url, hosts(url, tmp_path, 5) as good:
            await fetch(*good)
            assert coordinator.sent < 2.5 * TOTAL
            everything = sum(one.fetcher.received.total() for one in good)
            peers = sum(one.fetcher.received[SourceKind.PEER] for one in good)
            assert peers > everything / 2

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["garbage", "stall", "liar"])
def test_a_bad_neighbour_is_of_no_use_and_no_harm(tmp_path, fault, monkeypatch):
    monkeypatch.setattr("pleb_agent.blobs.fetch.STALL_SECONDS", 0.5)

    async def story():
        coordinator = Coordinator()
        async with coordinator.serving() as url, hosts(url, tmp_path, 3, [fault]) as good:
            began = time.monotonic()
            await fetch(*good)  # checks every byte
            return time.monotonic() - began

    assert asyncio.run(story()) < 30


def test_another_projects_members_get_nothing(tmp_path):
    async def story():
        coordinator = Coordinator()
        async with (
            coordinator.serving() as url,
            hosts(url, tmp_path, 1) as [one],
            hosts(url, tmp_path / "other", 1, key=bytes(32)) as [other],
        ):
            await fetch(one)
            await other.fetch(BLOBS[:1])
            assert other.lan.neighbours == 0
            assert other.fetcher.received[SourceKind.PEER] == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    "change",
    [
        {"pleb-mac": "0" * 64},
        {"pleb-mac": "é"},
        {"pleb-time": "1000"},
        {"pleb-time": "9" * 30},
        {"pleb-peer": "x"},
        {"pleb-port": "99"},
        {"range": "bytes=0-9"},
    ],
)
def test_a_request_that_no_member_signed_is_refused(tmp_path, change):
    async def story():
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            await fetch(one)
            path = f"/blobs/{BLOBS[1].digest}"
            headers = signed_headers(one, path)
            address = f"http://127.0.0.1:{one.lan.port}"
            async with httpx.AsyncClient(base_url=address) as http:
                good = await http.get(path, headers=headers)
                assert (good.status_code, good.content) == (200, SMALL[0])
                changed = [(k, v.encode()) for k, v in (headers | change).items()]
                bad = await http.get(path, headers=changed)
                assert (bad.status_code, bad.json()["code"]) == (403, "not_permitted")
                other = f"/blobs/{BLOBS[2].digest}"
                assert (await http.get(other, headers=headers)).status_code == 403

    asyncio.run(story())


def test_what_is_asked_for_is_bounded(tmp_path):
    async def story():
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            await fetch(one)
            near = Neighbour(one.lan._peer, "127.0.0.1", one.lan.port, (KEY,), 0.0)
            source = PeerSource(near, KEY, (b"12345678", lambda: 9), NO_LIMITS, time.time)
            found = await source.have([blob.digest for blob in BLOBS])
            assert sorted(found.whole) == sorted(blob.digest for blob in BLOBS)
            unknown = blob_of(b"of no project")
            with pytest.raises(Refusal) as caught:
                async for _ in source.read(unknown, 0, unknown.size):
                    pass
            assert caught.value.code is RefusalCode.UNKNOWN_BLOB
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{near.url}/have", content=bytes(2**20))
                assert answer.status_code == 413
            await source.close()

    asyncio.run(story())


def signed_headers(one, path):
    """Return the headers of a member's GET."""
    signed = SignedHeaders(one.lan._peer.hex(), "ab" * 8, 1234, int(time.time()))
    return {
        "pleb-peer": signed.peer,
        "pleb-port": "1234",
        "pleb-time": str(signed.time),
        "pleb-mac": request_mac(KEY, signed, "GET", path, "", b""),
    }


def test_what_breaks_off_leaves_no_traceback(tmp_path, caplog, monkeypatch):
    """A body that cannot be sent to its end, and a request of which only a part comes."""

    async def story():
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            await fetch(one)
            read = one.cache.read_part

            def half(blob, number, **options):
                if number:
                    raise OSError(5, "Input/output error")
                return read(blob, number, **options)

            monkeypatch.setattr(one.cache, "read_part", half)
            path = f"/blobs/{BLOBS[0].digest}"
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{one.lan.port}") as http:
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.get(path, headers=signed_headers(one, path))
            _, writer = await asyncio.open_connection("127.0.0.1", one.lan.port)
            writer.write(b"POST /have HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nhalf")
            await writer.drain()
            server = one.lan._server._server._server.server_state
            await until(lambda: len(server.connections) == 1 and server.tasks)
            writer.close()
            await until(lambda: not server.tasks)
            small = f"/blobs/{BLOBS[1].digest}"
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{one.lan.port}") as http:
                answer = await http.get(small, headers=signed_headers(one, small))
                assert answer.content == SMALL[0], "the place of the transfer is free again"

    asyncio.run(story())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_agents_of_a_project_share_its_shards_and_versions(tmp_path):
    """The agent's own loop: the second one to come needs nothing from the coordinator."""

    async def story():
        coordinator = FakeCoordinator(time.time)
        async with serving(coordinator) as url:
            agents = [Agent(tmp_path / name) for name in ("first", "second")]
            tasks = []
            first_lan = agents[0].share()
            for agent, lan in zip(agents, (first_lan, agents[1].share()), strict=True):
                await agent.attach(coordinator.link(url))
                tasks.append(asyncio.create_task(lan.run()))
            first = agents[0].loop()
            first_task = asyncio.create_task(first.run())
            coordinator.plan(1)
            coordinator.arrived.set()
            await until(lambda: delivered(coordinator) == [1])
            asked = len(coordinator.blob_requests)
            assert asked > 4
            mine = agents[0].journal.projects()[0].id
            agents[0].journal.set_no_new_work(mine, on=True)  # the next unit is not for it
            await asyncio.sleep(2 * agents[0].most_wait_seconds)  # a request of before has ended
            coordinator.plan(1)  # the same shard
            second_task = asyncio.create_task(agents[1].loop().run())
            await until(lambda: delivered(coordinator) == [1, 2], 10)
            peers = sum(r.received.peers for r in coordinator.requests if r.received)
            assert peers > 3000, "all that the first one has"
            for task in (first_task, second_task, *tasks):
                task.cancel()
            await asyncio.gather(first_task, second_task, *tasks, return_exceptions=True)
            [project] = agents[1].journal.projects()
            counters = agents[1].journal.counters(project.id)
            assert counters["bytes_from_neighbours"] == peers
            assert first_lan.sent_bytes >= peers
            for agent in agents:
                agent.journal.close()
            return asked, len(coordinator.blob_requests), peers

    asked, in_all, _ = asyncio.run(story())
    assert in_all <= asked + 2


def test_what_is_remembered_of_neighbours_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_blobs, "_MOST_HELD", 5)

    async def story():
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            near = Neighbour(one.lan._peer, "127.0.0.1", one.lan.port, (KEY,), 0.0)
            source = PeerSource(near, KEY, (b"12345678", lambda: 9), NO_LIMITS, time.time)
            for number in range(30):
                await source.have([f"{number:064x}"])
                assert len(one.lan._blobs._held) <= 11
            await source.close()

    asyncio.run(story())
