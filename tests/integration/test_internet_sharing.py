"""Hosts that share on the internet: what passes between them, and named peers that are bad."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from benchmarks.lan_host import LanHost
from pleb_agent.blobs.source import SourceKind
from pleb_agent.lan import internet
from pleb_agent.program.http_server import HttpServer
from pleb_shared.protocol.peers import Peer
from tests.integration.agent_home import Agent, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.test_lan_sharing import BLOBS, KEY, SMALL, TOTAL, Coordinator, fetch
from tests.integration.test_lan_sharing import signed_headers as signed

HERE = "127.0.0.1"


@pytest.fixture
def loopback(monkeypatch):
    """Let this machine's own addresses count as public ones."""

    def any_address(text):
        found = ip_address(text or "::")
        return getattr(found, "ipv4_mapped", None) or found

    monkeypatch.setattr(internet, "public_address", any_address)


@asynccontextmanager
async def hosts(url, tmp_path, count):
    """Run hosts that share on the internet."""
    found = [LanHost(url, KEY, tmp_path / f"{n}", internet=True) for n in range(count)]
    tasks = [asyncio.create_task(one.lan.run()) for one in found]
    try:
        await until(lambda: all(one.lan.port for one in found))
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in found:
            await one.close()


def meet(found, reached):
    """Name the reached ones to all."""
    peers = [Peer(peer=one.lan.sharing.peer, address=HERE, port=one.lan.port) for one in reached]
    for one in found:
        one.lan.told(one, peers, HERE if one in reached else "")


@pytest.mark.usefixtures("loopback")
def test_who_cannot_be_reached_gets_from_who_can(tmp_path):
    async def story():
        coordinator = Coordinator()
        async with coordinator.serving() as url, hosts(url, tmp_path, 3) as found:
            giver, *takers = found
            meet(found, [giver])
            await fetch(giver)
            before = coordinator.sent
            await fetch(*takers)
            assert coordinator.sent - before < TOTAL / 2
            for one in takers:
                got = one.fetcher.received[SourceKind.INTERNET]
                assert got > TOTAL / 2
                assert one.traffic.received >= got, "it counts against the daily limits"
                assert one.lan.sent_bytes == 0
            assert giver.lan.sent_bytes == giver.traffic.sent > TOTAL
            assert [one.lan.neighbours for one in found] == [0, 1, 1], "nobody asks who takes"

    asyncio.run(story())


@pytest.mark.usefixtures("loopback")
def test_those_that_begin_together_bring_parts_in_for_each_other(tmp_path):
    async def story():
        coordinator = Coordinator()
        async with coordinator.serving() as url, hosts(url, tmp_path, 4) as found:
            meet(found, found)
            await fetch(*found)
            assert coordinator.sent < 3 * TOTAL

    asyncio.run(story())


def test_addresses_of_a_network_of_ones_own_are_never_asked(tmp_path):
    """A coordinator names this PC, its router and its neighbours, to hosts that share."""

    async def story():
        asked: list[str] = []

        async def came(_, writer):
            asked.append("somebody")
            writer.close()

        server = await asyncio.start_server(came, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            places = (HERE, "192.168.1.1", "::1", "fe80::1", "::ffff:127.0.0.1", "localhost")
            peers = [Peer(peer=secrets.token_hex(8), address=at, port=port) for at in places]
            one.lan.told(one, peers, None)
            assert one.lan.neighbours == 0
            await fetch(one)
        server.close()
        assert asked == []

    asyncio.run(story())


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("kind", ["redirect", "huge", "page", "silent"])
def test_a_named_peer_that_is_no_agent_is_of_no_use_and_no_harm(tmp_path, kind):
    async def story():
        elsewhere = []

        async def other(request):
            elsewhere.append(request.url)
            return Response(b"")

        async def bad(_):
            if kind == "redirect":
                return RedirectResponse(f"http://{HERE}:{target.port}/have")
            if kind == "huge":
                return Response(b'{"whole": [' + b" " * 2**24 + b"]}")
            if kind == "silent":
                await asyncio.sleep(6)
            return Response(b"<html>")

        everywhere = [Route("/{path:path}", bad, methods=["GET", "POST"])]
        server = HttpServer(Starlette(routes=everywhere))
        target = HttpServer(Starlette(routes=[Route("/{path:path}", other)]))
        tasks = [asyncio.create_task(one.run()) for one in (server, target)]
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            peer = Peer(peer="ab" * 8, address=HERE, port=server.port)
            one.lan.told(one, [peer], None)
            began = time.monotonic()
            await fetch(one)
            assert time.monotonic() - began < 8
            assert one.fetcher.received[SourceKind.INTERNET] == 0
        for running in (server, target):
            running.stop()
        await asyncio.gather(*tasks)
        assert elsewhere == []

    asyncio.run(story())


@pytest.mark.usefixtures("loopback")
def test_strangers_get_nothing_and_a_household_is_not_there(tmp_path):
    async def story():
        async with Coordinator().serving() as url, hosts(url, tmp_path, 1) as [one]:
            await fetch(one)
            path = f"/blobs/{BLOBS[1].digest}"
            async with httpx.AsyncClient(base_url=f"http://{HERE}:{one.lan.port}") as http:
                good = await http.get(path, headers=signed(one, path))
                assert good.content == SMALL[0]
                assert (await http.get(path)).status_code == 403
                wrong = signed(one, path) | {"pleb-mac": "0" * 64}
                assert (await http.get(path, headers=wrong)).status_code == 403
                large = await http.post("/have", content=bytes(40_000))
                assert large.status_code == 413
                assert (await http.post("/household", content=b"x")).status_code == 404

    asyncio.run(story())


def test_nothing_is_said_or_served_unless_the_user_wants_it(tmp_path):
    async def story():
        coordinator = FakeCoordinator(time.time)
        async with serving(coordinator) as url:
            agent = Agent(tmp_path)
            await agent.attach(coordinator.link(url))
            sharing = agent.share_on_internet()
            wanted, agent.preferences = agent.preferences, type(agent.preferences)()
            running = asyncio.create_task(sharing.run())
            loop = asyncio.create_task(agent.loop().run())
            await until(lambda: len(coordinator.requests) > 1)
            assert (sharing.port, sharing.sharing) == (0, None)
            assert {one.sharing for one in coordinator.requests} == {None}
            agent.preferences = wanted
            sharing.look_again()
            await until(lambda: coordinator.requests[-1].sharing is not None)
            assert coordinator.requests[-1].sharing == sharing.sharing
            assert sharing.port > 0
            agent.preferences = type(wanted)(internet_sharing=True, proxy="proxy.example:3128")
            sharing.look_again()
            await until(lambda: sharing.port == 0)
            for task in (loop, running):
                task.cancel()
            await asyncio.gather(loop, running, return_exceptions=True)
            agent.journal.close()

    asyncio.run(story())
