"""The network as the user allows it: when, how fast, which way, and never one project's alone."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import time
from contextlib import asynccontextmanager

import pytest

from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import HttpSource, SourceKind
from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.http import Timeouts
from pleb_agent.client.network import Network
from pleb_agent.core.agent_state import Activity
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import LocalTime
from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol.parts import blob_of
from pleb_system.network_errors import NetworkError, WrongCertificateError
from tests.certificates import self_signed
from tests.integration.agent_home import CLOCK, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine

QUICK = Timeouts(connect=1, silence=2)
METERED = {"metered": True}


def allow(agent, loop, **readings):
    agent.readings = dataclasses.replace(agent.readings, **readings)
    loop.look_again()


# -- when ------------------------------------------------------------------------------------


def test_on_a_metered_network_the_unit_in_hand_is_trained_and_its_result_waits(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(2)
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 1)
            asked = len(coordinator.requests)
            allow(agent, loop, **METERED)
            await until(lambda: loop.state().activity is Activity.IDLE)
            assert engine.steps_computed == engine.steps
            assert len(coordinator.requests) == asked
            assert agent.journal.open_assignments()[0].state.value == "computed"
            assert "metered" in str(loop.state().sentence)
            assert loop.state().next_look_at is not None
            allow(agent, loop, metered=False)
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_results_that_wait_for_the_network_survive_a_restart(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 1)
            allow(agent, loop, **METERED)
            await until(lambda: loop.state().activity is Activity.IDLE)
            loop.stop(finish=True)  # nothing can be reported now: it ends all the same
            await asyncio.wait_for(task, 10)
            assert not coordinator.results()
            agent.readings = dataclasses.replace(agent.readings, metered=False)
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert len(engine.jobs) == 1

    asyncio.run(story())


def test_uploads_stop_when_the_network_may_not_be_used(tmp_path):
    async def story():
        engine = FakeEngine(delta_bytes=400_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            agent.preferences = Preferences(upload_bytes_per_second=100_000)
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: coordinator.uploads)
            await asyncio.sleep(0.3)
            allow(agent, loop, **METERED)
            agent.preferences = Preferences()
            await asyncio.sleep(0.5)
            assert delivered(coordinator) == []
            assert not task.done()
            allow(agent, loop, metered=False)
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_outside_of_the_network_hours_nothing_is_sent_and_the_next_time_is_shown(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.preferences = Preferences(network_hours="mon-sun 01:00-05:00")
            agent.readings = dataclasses.replace(agent.readings, local_time=LocalTime(2, 600))
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: "01:00" in str(loop.state().sentence))
            assert coordinator.requests == []
            allow(agent, loop, local_time=LocalTime(2, 61))
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_a_lease_that_ends_before_the_network_returns_is_warned_of_once(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            coordinator.lease_seconds = 300.0
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 1)
            allow(agent, loop, **METERED)
            await until(lambda: loop.state().activity is Activity.IDLE)
            for _ in range(3):
                loop.changed()
                await asyncio.sleep(0.05)
            told = [e for e in agent.journal.events(None, 99) if "must be sent" in str(e.sentence)]
            assert len(told) == 1
            assert "Unit 1 must be sent within 5 min" in str(told[0].sentence)
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_bytes_of_each_direction_are_counted(tmp_path):
    async def story():
        engine = FakeEngine(delta_bytes=100_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            today = agent.journal.totals()
            blobs = sum(len(coordinator.blobs[d]) for d in set(coordinator.blob_requests))
            assert 100_000 < today["bytes_sent"] < 106_000
            assert blobs < today["bytes_received"] < blobs + 12_000
            assert today["units"] == 1
            assert today["samples"] == 10
            assert today["compute_seconds"] == pytest.approx(
                agent.engine.step_seconds * agent.engine.steps, abs=1
            )

    asyncio.run(story())


def test_a_daily_cap_that_is_reached_ends_the_exchange_for_today(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.preferences = Preferences(upload_bytes_per_day=2**20)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            allow(agent, loop, uploaded_today_bytes=2**20)
            await until(lambda: "used up" in str(loop.state().sentence))
            asked = len(coordinator.requests)
            coordinator.arrived.set()
            await asyncio.sleep(0.3)
            assert len(coordinator.requests) == asked
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


# -- how fast --------------------------------------------------------------------------------


def fetcher_of(tmp_path, client):
    """What gets blobs from this coordinator alone."""

    async def no_others(_):
        return []

    coordinator = HttpSource(client, SourceKind.COORDINATOR)
    return BlobFetcher(BlobCache(tmp_path / "cache", 10**7), coordinator, no_others, Standings())


def test_downloads_and_uploads_hold_their_rates_within_a_tenth(tmp_path):
    data = bytes(300_000)
    blob = blob_of(data)

    async def story():
        coordinator = FakeCoordinator(CLOCK)
        coordinator.blobs[blob.digest] = data
        network = Network(
            download_rate=lambda: 200_000, upload_rate=lambda: 250_000, proxy=lambda: ""
        )
        async with serving(coordinator) as url:
            client = CoordinatorClient(url, timeouts=QUICK, network=network)
            began = time.monotonic()
            fetcher = fetcher_of(tmp_path, client)
            await fetcher.fetch(blob)
            assert time.monotonic() - began == pytest.approx(1.5, rel=0.1)
            began = time.monotonic()
            with pytest.raises(Refusal):
                await client.work("words", bytes(250_000))  # no request, but as long as one
            await client.close()
            return time.monotonic() - began

    assert asyncio.run(story()) == pytest.approx(1.0, rel=0.1)


def test_a_rate_can_be_changed_while_bytes_flow(tmp_path):
    data = bytes(1_000_000)
    blob = blob_of(data)
    rates: list[float | None] = [50_000.0]

    async def story():
        coordinator = FakeCoordinator(CLOCK)
        coordinator.blobs[blob.digest] = data
        network = Network(
            download_rate=lambda: rates[0], upload_rate=lambda: None, proxy=lambda: ""
        )
        async with serving(coordinator) as url:
            client = CoordinatorClient(url, timeouts=QUICK, network=network)
            fetcher = fetcher_of(tmp_path, client)
            task = asyncio.create_task(fetcher.fetch(blob))
            await asyncio.sleep(0.5)
            assert fetcher.received.total() < 200_000
            rates[0] = None
            await asyncio.wait_for(task, 10)
            await client.close()

    asyncio.run(story())


# -- which way -------------------------------------------------------------------------------


class Proxy:
    """A small forward proxy: CONNECT and absolute addresses, all of it sent to `target`."""

    def __init__(self, target) -> None:
        self.target = target
        self.heads: list[str] = []

    async def handle(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            if head.startswith("CONNECT"):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                method, address, rest = head.split(" ", 2)
                path = "/" + address.split("/", 3)[3]
                back.write(f"{method} {path} {rest}".encode())
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
        except OSError:
            pass
        finally:
            writer.close()
            back.transport.abort()


async def _pour(reader, writer) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def proxying(port):
    proxy, writers = Proxy(port), []

    async def handle(reader, writer):
        writers.append(writer)
        await proxy.handle(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)


def network_by(proxy):
    return Network(download_rate=lambda: None, upload_rate=lambda: None, proxy=proxy)


def test_a_proxy_with_a_password_sees_the_requests():
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        async with (
            serving(coordinator) as url,
            proxying(int(url.rpartition(":")[2])) as (proxy, at),
        ):
            address = f"http://volunteer:s3cret@{at}"
            client = CoordinatorClient(
                "http://coordinator.invalid:7532",
                timeouts=QUICK,
                network=network_by(lambda: address),
            )
            assert await client.metadata("words") == coordinator.metadata_envelope
            head = proxy.heads[0]
            assert head.startswith("GET http://coordinator.invalid:7532/projects/words/metadata ")
            secret = base64.b64encode(b"volunteer:s3cret").decode()
            assert f"proxy-authorization: basic {secret}".lower() in head.lower()
            await client.close()

    asyncio.run(story())


def test_the_environment_names_the_proxy_unless_the_user_does(monkeypatch):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        async with (
            serving(coordinator) as url,
            proxying(int(url.rpartition(":")[2])) as (proxy, at),
        ):
            monkeypatch.setenv("HTTP_PROXY", f"http://{at}")
            choice = [""]
            client = CoordinatorClient(
                "http://coordinator.invalid", timeouts=QUICK, network=network_by(lambda: choice[0])
            )
            assert await client.metadata("words")
            choice[0] = "none"  # changed while the client lives
            with pytest.raises(NetworkError, match="invalid cannot be reached"):
                await client.metadata("words")
            assert len(proxy.heads) == 1
            choice[0] = "127.0.0.1:1"
            with pytest.raises(NetworkError, match="through your proxy"):
                await client.metadata("words")
            choice[0] = at
            assert await client.metadata("words")
            assert len(proxy.heads) == 2
            await client.close()

    asyncio.run(story())


def test_what_runs_on_this_pc_is_never_asked_through_a_proxy(monkeypatch):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        async with serving(coordinator) as url:
            for proxy in ("", "http://127.0.0.1:1"):
                client = CoordinatorClient(
                    url, timeouts=QUICK, network=network_by(lambda proxy=proxy: proxy)
                )
                assert await client.metadata("words")
                await client.close()

    asyncio.run(story())


def test_a_pinned_certificate_holds_through_a_proxy_too(tmp_path):
    async def story():
        tls, pin = self_signed(tmp_path)

        async def handle(reader, writer):
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                await writer.drain()
            except asyncio.IncompleteReadError:
                pass
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        async with proxying(server.sockets[0].getsockname()[1]) as (proxy, at):
            url = "https://coordinator.invalid"
            right = CoordinatorClient(url, pin, timeouts=QUICK, network=network_by(lambda: at))
            assert await right.metadata("words") == b"ok"
            assert proxy.heads[0].startswith("CONNECT coordinator.invalid:443 ")
            wrong = CoordinatorClient(url, "0" * 64, timeouts=QUICK, network=network_by(lambda: at))
            with pytest.raises(WrongCertificateError):
                await wrong.metadata("words")
            unpinned = CoordinatorClient(url, timeouts=QUICK, network=network_by(lambda: at))
            with pytest.raises(NetworkError, match="cannot be reached"):
                await unpinned.metadata("words")
            for client in (right, wrong, unpinned):
                await client.close()
        server.close()

    asyncio.run(story())


def test_the_systems_own_anchors_decide_about_other_certificates(tmp_path, monkeypatch):
    async def story():
        tls, _ = self_signed(tmp_path)  # for 192.0.2.1

        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        async with proxying(server.sockets[0].getsockname()[1]) as (_, at):
            known, other = "https://192.0.2.1", "https://192.0.2.2"
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
            for url, fits in ((known, True), (other, False)):
                client = CoordinatorClient(url, timeouts=QUICK, network=network_by(lambda: at))
                if fits:
                    assert await client.metadata("words") == b"ok"
                else:
                    with pytest.raises(NetworkError, match="cannot be reached"):
                        await client.metadata("words")
                await client.close()
        server.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "proxy",
    ["socks5://u:s3cret@host:1", "http://", "ftp://u:s3cret@host", "http://u:s3cret@host:99999"],
)
def test_the_error_about_an_unusable_proxy_hides_its_password(proxy):
    async def story():
        client = CoordinatorClient(
            "http://coordinator.invalid", network=network_by(lambda: proxy), timeouts=QUICK
        )
        with pytest.raises(InputError, match="preference `proxy`") as caught:
            await client.metadata("words")
        assert "s3cret" not in str(caught.value)

    asyncio.run(story())


# -- never one project's alone ---------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drip_answers", "drip_blobs"])
def test_a_dripping_coordinator_costs_the_others_nothing(tmp_path, fault):
    async def story():
        engine = FakeEngine(step_seconds=0.02)
        async with attached(tmp_path, engine) as (dripping, agent):
            good = FakeCoordinator(CLOCK)
            async with serving(good) as url:
                await agent.attach(good.link(url))
                dripping.plan(3)
                good.plan(8)
                setattr(dripping.faults, fault, 10**6)
                began = time.monotonic()
                loop = agent.loop(units=8)
                task = asyncio.create_task(loop.run())
                await asyncio.wait_for(task, 15)
                assert delivered(good) == list(range(1, 9))
                assert delivered(dripping) == []
                return time.monotonic() - began

    # One second of patience for the errand that never ends, and what eight units take.
    assert asyncio.run(story()) < 8


def test_the_dripping_ones_own_unit_comes_in_the_end(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        async with attached(tmp_path, engine) as (slow, agent):
            good = FakeCoordinator(CLOCK)
            async with serving(good) as url:
                await agent.attach(good.link(url))
                slow.plan(1)
                good.plan(50)
                slow.faults.answer_late_seconds = 1.5  # longer than anybody waits for it
                loop = agent.loop()
                task = asyncio.create_task(loop.run())
                began = time.monotonic()
                await until(lambda: delivered(slow) == [1], 25)
                seconds = time.monotonic() - began
                # The engine had little else to do than the good one's units of 0.25 s.
                assert len(delivered(good)) * 0.25 >= 0.4 * seconds
                loop.stop()
                await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_shares_decide_how_much_is_computed_for_each(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.005)
        engine.claimed_seconds = 30.0
        async with attached(tmp_path, engine) as (words, agent):
            digits = FakeCoordinator(CLOCK, "digits")
            async with serving(digits) as url:
                await agent.attach(digits.link(url))
                agent.preferences = Preferences(shares={"words": 300})
                words.plan(40)
                digits.plan(40)
                await agent.work(units=24, seconds=30)
                counted = [agent.journal.counters(n)["compute_seconds"] for n in (1, 2)]
                assert counted[0] / sum(counted) == pytest.approx(0.75, abs=0.07)
                assert delivered(words)[-1] + delivered(digits)[-1] >= 24
                # Nobody's lease waits for the other's turn: what is asked for comes next.
                assert len(words.given) - len(delivered(words)) <= 1
                assert len(digits.given) - len(delivered(digits)) <= 1

    asyncio.run(story())


def test_shares_outlive_the_process(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.005)
        engine.claimed_seconds = 30.0
        async with attached(tmp_path, engine) as (words, agent):
            digits = FakeCoordinator(CLOCK, "digits")
            async with serving(digits) as url:
                await agent.attach(digits.link(url))
                agent.preferences = Preferences(shares={"words": 300})
                words.plan(40)
                digits.plan(40)
                for _ in range(12):
                    await agent.work(units=2)
                counted = [agent.journal.counters(n)["compute_seconds"] for n in (1, 2)]
                assert counted[0] / sum(counted) == pytest.approx(0.75, abs=0.1)

    asyncio.run(story())


def test_an_upload_in_parts_resumes_through_the_rate(tmp_path):
    async def story():
        engine = FakeEngine(delta_bytes=200_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            agent.preferences = Preferences(upload_bytes_per_second=400_000)
            coordinator.plan(1)
            coordinator.faults.cut_uploads = 1
            await agent.work(units=1)
            assert delivered(coordinator) == [1]

    asyncio.run(story())
