"""Whom a coordinator names to hosts that share on the internet, and what hostile ones get of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx
import msgspec
import pytest

from pleb_coordinator.api import peers as table
from pleb_coordinator.api.peers import Peers, send_to_host
from pleb_coordinator.core.reputation import standing_of
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.lan import HaveReply, lan_key, lan_period
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.peers import Sharing
from tests.integration.http_world import URL, http_world, soon

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + strict_json.encode(HaveReply())
KEYS = ["11" * 32, "22" * 32]


class Hosts:
    """Hosts that are asked whether they are reached; all answer what `answer` is."""

    def __init__(self, answer=ANSWER):
        self.answer = answer
        self.asked = []
        self.now = 1000.0

    async def send(self, address, port, request):
        self.asked.append((address, port, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def table(self):
        return Peers(lambda: self.now, self.send)


def sharing(number, port=7000):
    return Sharing(peer=f"{number:016x}", port=port)


async def settled(peers):
    await soon(lambda: not peers._questions)


def test_hosts_are_named_once_they_were_reached(tmp_path):
    async def story():
        hosts = Hosts()
        peers = hosts.table()
        assert not peers.near("p", 1, "192.88.99.1", sharing(1)).candidates
        peers.seen("p", 1, "192.88.99.1", sharing(1), KEYS)
        assert list(peers.near("p", 2, "192.88.99.2", sharing(2)).candidates) == []
        await settled(peers)
        [(address, port, request)] = hosts.asked
        assert (address, port) == ("192.88.99.1", 7000)
        assert request.startswith(b"POST /have HTTP/1.1\r\nhost: 192.88.99.1:7000\r\n")
        [named] = peers.near("p", 2, "192.88.99.2", sharing(2)).candidates
        assert (named.peer.address, named.peer.port, named.bits) == ("192.88.99.1", 7000, 30)
        assert peers.near("p", 1, "192.88.99.1", sharing(1)).reached == "192.88.99.1"
        for who in (
            ("p", 2, "192.88.99.2", None),  # does not share
            ("other", 2, "192.88.99.2", sharing(2)),
            ("p", 1, "192.88.99.1", sharing(1)),  # itself
            ("p", 2, "192.88.99.1", sharing(2)),  # of the same local network
            ("p", 2, "10.0.0.1", sharing(2)),
        ):
            assert list(peers.near(*who).candidates) == []

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        OSError("refused"),
        TimeoutError(),
        b"",
        b"HTTP/1.1 301 Moved\r\nlocation: http://192.88.99.9/\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 4000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff" * 4096,
    ],
)
def test_who_does_not_answer_as_an_agent_is_not_named(answer):
    async def story():
        hosts = Hosts(answer)
        peers = hosts.table()
        peers.seen("p", 1, "192.88.99.1", sharing(1), KEYS)
        await settled(peers)
        assert list(peers.near("p", 2, "192.88.99.2", sharing(2)).candidates) == []
        assert peers.near("p", 1, "192.88.99.1", sharing(1)).reached == ""
        assert len(hosts.asked) == (1 if isinstance(answer, Exception) else 2), "with both keys"

    asyncio.run(story())


def test_an_answer_is_read_to_its_bound_and_not_beyond():
    async def story():
        async def flood(reader, writer):
            with suppress(ConnectionError):
                while True:
                    writer.write(bytes(10_000))
                    await writer.drain()

        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert len(await send_to_host("127.0.0.1", port, b"x")) == 4096
        server.close()

    asyncio.run(story())


def test_one_host_cannot_have_many_questions_asked():
    async def story():
        hosts = Hosts()
        peers = hosts.table()
        for port in range(2000, 2100):  # as a scan of its own router's ports
            peers.seen("p", 1, "192.88.99.1", sharing(1, port), KEYS)
            await settled(peers)
        assert len(hosts.asked) == 1
        hosts.now += 61
        peers.seen("p", 1, "192.88.99.1", sharing(1, 3000), KEYS)
        await settled(peers)
        assert [port for _, port, _ in hosts.asked] == [2000, 3000]

    asyncio.run(story())


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(table, "_MOST", 50)

    async def story():
        hosts = Hosts()
        peers = hosts.table()
        for number in range(100):
            peers.seen("p", number, "192.88.99.1", sharing(number), KEYS)
        assert len(peers) == 32, "of one network"
        for number in range(100, 200):
            peers.seen("p", number, f"2d00:{number}::1", sharing(number), KEYS)
        assert len(peers) == 50
        await settled(peers)
        hosts.now += 3 * 3600
        peers.seen("q", 1, "2d00::1", sharing(1), KEYS)
        await settled(peers)
        assert len(peers) == 1, "the others were not seen for long"
        assert not peers._networks.keys() - {"2d00::/48"}

    asyncio.run(story())


def test_a_host_that_moves_or_stops_is_named_no_more():
    async def story():
        peers = Hosts().table()
        peers.seen("p", 1, "192.88.99.1", sharing(1), KEYS)
        await settled(peers)
        asks = "p", 2, "192.88.99.2", sharing(2)
        assert len(peers.near(*asks).candidates) == 1
        peers.seen("p", 1, "192.88.99.9", sharing(1), KEYS)
        assert list(peers.near(*asks).candidates) == [], "until it was reached there"
        peers.seen("p", 1, "192.88.99.9", None, KEYS)
        assert len(peers) == 0

    asyncio.run(story())


# -- by HTTP ---------------------------------------------------------------------------------


@asynccontextmanager
async def several(tmp_path):
    """Gives the world and a function that sends a host's work request from an address."""
    async with http_world(tmp_path) as http:
        hosts = Hosts()
        http.web.api.peers._send = hosts.send
        clients = {}

        async def work(host, address, **changes):
            if address not in clients:
                transport = httpx.ASGITransport(http.web.app, client=(address, 4242))
                clients[address] = httpx.AsyncClient(transport=transport, base_url=URL)
            http.client = clients[address]
            reply = await http.work(host, **changes)
            await settled(http.web.api.peers)
            return reply

        yield http, hosts, work
        for client in clients.values():
            await client.aclose()


def test_hosts_that_share_learn_of_each_other(tmp_path):
    async def story():
        async with several(tmp_path) as (http, hosts, work):
            anna, berta, carl = (http.world.volunteer(name) for name in ("anna", "berta", "carl"))
            first = await work(anna, "192.88.99.1", sharing=sharing(1))
            assert (first.peers, first.reached) == ([], None)
            [(_, _, request)] = hosts.asked
            key = lan_key(http.world.deps.secret, "tiny", lan_period(http.world.clock.now))
            assert first.lan_key == key
            assert key.key.encode() not in request
            second = await work(berta, "192.88.99.2", sharing=Sharing(peer="b" * 16))
            assert [one.address for one in second.peers] == ["192.88.99.1"]
            assert second.reached is None
            assert len(hosts.asked) == 1, "who only takes is not asked"
            third = await work(anna, "192.88.99.1", sharing=sharing(1))
            assert (third.peers, third.reached) == ([], "192.88.99.1")
            fourth = await work(carl, "192.88.99.3")
            assert (fourth.peers, fourth.reached) == ([], None), "it does not share"

    asyncio.run(story())


def test_banned_hosts_are_not_named_and_learn_of_nobody(tmp_path):
    async def story():
        async with several(tmp_path) as (http, _, work):
            anna, berta = (http.world.volunteer(name) for name in ("anna", "berta"))
            await work(anna, "192.88.99.1", sharing=sharing(1))
            until = http.world.clock.now + 3600
            with http.world.store.write() as tx:
                host = tx.hosts.find(http.world.project.id, anna.key.fingerprint)
                banned = msgspec.structs.replace(standing_of(host), banned_until=until)
                tx.hosts.set_standing(host.id, banned)
            reply = await work(berta, "192.88.99.2", sharing=sharing(2))
            assert reply.peers == [], "from the moment of the ban on"
            assert len(http.web.api.peers) == 2
            refused = await http.post(anna, http.request(anna, [], sharing=sharing(1)))
            assert refused.json()["code"] == "banned"
            assert len(http.web.api.peers) == 1

    asyncio.run(story())


def test_no_more_are_named_than_the_protocol_allows(tmp_path):
    async def story():
        async with several(tmp_path) as (http, _, work):
            named = []
            for number in range(1, 14):
                host = http.world.volunteer(f"host {number}")
                reply = await work(host, f"2d00:{number}::1", sharing=sharing(number))
                named.append(len(reply.peers))
            assert named[:8] == list(range(8))
            assert LIMITS.peers - 1 <= named[-1] <= max(named) <= LIMITS.peers

    asyncio.run(story())


def test_a_replayed_request_moves_nobody(tmp_path):
    """Who has a host's signed request cannot draw others, or the coordinator, to an address."""

    async def story():
        async with several(tmp_path) as (http, hosts, work):
            anna, berta = (http.world.volunteer(name) for name in ("anna", "berta"))
            request = http.request(anna, [], sharing=sharing(1))
            transport = httpx.ASGITransport(http.web.app, client=("192.88.99.1", 4242))
            async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
                http.client = client
                first = await http.post(anna, request)
            await settled(http.web.api.peers)
            transport = httpx.ASGITransport(http.web.app, client=("192.88.99.66", 4242))
            async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
                http.client = client
                assert (await http.post(anna, request)).content == first.content
            reply = await work(berta, "192.88.99.2", sharing=sharing(2))
            assert [one.address for one in reply.peers] == ["192.88.99.1"]
            assert {address for address, _, _ in hosts.asked} == {"192.88.99.1", "192.88.99.2"}

    asyncio.run(story())
