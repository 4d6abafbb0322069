"""A member's agent: a private project's keys, files and neighbours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from pleb_agent.cache.shard_cipher import ShardCipher
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.loop.attach import leave_host
from pleb_agent.loop.files import ProjectFiles
from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol.ids import digest_of, parse_attach_link
from pleb_shared.protocol.lan import LanKey
from pleb_shared.protocol.report import FailureResult
from pleb_shared.protocol.sealing import read_reading, seal_mark
from tests.integration.agent_home import CLOCK, Agent, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine

SHARD = bytes([1]) * 50


@asynccontextmanager
async def member(tmp_path, engine=None):
    coordinator = FakeCoordinator(CLOCK)
    coordinator.make_private()
    agent = Agent(tmp_path, engine)
    async with serving(coordinator) as url:
        await agent.attach(coordinator.link(url))
        try:
            yield coordinator, agent
        finally:
            agent.journal.close()


def cached(tmp_path):
    folder = tmp_path / "cache"
    return [path for path in folder.rglob("*") if path.is_file()]


def reading_of(tmp_path):
    [file] = (tmp_path / "keys").glob("*.reading")
    return read_reading(file.read_bytes())


def test_the_worker_gets_what_is_inside_and_the_disk_has_only_sealed_files(tmp_path):
    async def story():
        engine = FakeEngine()
        async with member(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(2)
            await agent.work(units=2)
            assert delivered(coordinator) == [1, 2]
            inputs = engine.inputs[1]
            assert inputs["shard-0.safetensors"] == digest_of(bytes([1]) * 2000)
            assert inputs["snapshot.safetensors"] == digest_of(b"version zero" * 100)
            assert inputs["graph.json"] not in coordinator.blobs
            for path in cached(tmp_path):
                data = path.read_bytes()
                assert b"version zero" not in data
                assert SHARD not in data

    asyncio.run(story())


def test_a_replaced_key_is_fetched_before_the_files_that_need_it(tmp_path):
    async def story():
        async with member(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            before = reading_of(tmp_path)
            coordinator.replace_key()
            coordinator.plan(1)
            await agent.work(units=1)
            after = reading_of(tmp_path)
            assert delivered(coordinator) == [1, 2]
            assert [key.number for key in before.keys] == [1]
            assert [key.number for key in after.keys] == [1, 2]

    asyncio.run(story())


def test_who_does_not_get_a_key_gives_the_unit_back(tmp_path):
    async def story():
        async with member(tmp_path) as (coordinator, agent):
            coordinator.keys.clear()  # a coordinator that keeps it to itself
            for name in (tmp_path / "keys").glob("*.reading"):
                data = msgspec.json.decode(name.read_bytes())
                data["keys"][0]["key"] = "0" * 64
                name.write_bytes(msgspec.json.encode(data))
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: failures(coordinator), seconds=20)
            loop.stop()
            await asyncio.wait_for(task, 10)
            assert "is not here" in failures(coordinator)[0]
            assert delivered(coordinator) == []

    asyncio.run(story())


def failures(coordinator):
    reports = [report for request in coordinator.requests for report in request.reports]
    return [one.result.reason for one in reports if isinstance(one.result, FailureResult)]


def test_without_its_keys_a_private_project_is_not_attached(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        coordinator.make_private()
        coordinator.keys.clear()
        agent = Agent(tmp_path)
        async with serving(coordinator) as url:
            try:
                await agent.attach(coordinator.link(url))
            finally:
                agent.journal.close()

    with pytest.raises(TrustError, match="did not come"):
        asyncio.run(story())


def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path):
    async def story():
        async with member(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            for path in cached(tmp_path):
                data = bytearray(path.read_bytes())
                if seal_mark(bytes(data)):
                    data[-1] ^= 1
                    path.write_bytes(data)
            coordinator.plan(1)
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2]

    asyncio.run(story())


def test_keys_go_with_the_project(tmp_path):
    async def story():
        async with member(tmp_path) as (_, agent):
            assert reading_of(tmp_path)
            [row] = agent.journal.projects()
            leave_host(agent.journal, agent.services().keys, row)
            assert not list((tmp_path / "keys").iterdir())

    asyncio.run(story())


def test_nothing_of_a_private_project_is_sent_over_http_to_another_machine():
    link = parse_attach_link("http://10.1.2.3:7532/join/words#" + "a" * 64)
    client = CoordinatorClient.for_link(link)
    with pytest.raises(InputError, match="needs HTTPS"):
        client.read_as("words.h" + "0" * 64 + "." + "0" * 48)
    assert client.reader == ""
    for url in ("https://10.1.2.3", "http://127.0.0.1:7532", "http://[::1]:7532"):
        link = parse_attach_link(f"{url}/join/words#" + "a" * 64)
        client = CoordinatorClient.for_link(link)
        client.read_as("words")
        assert client.reader == "words"


def test_with_a_new_key_of_the_project_all_keys_of_neighbours_are_new(tmp_path):
    """Otherwise somebody who was removed would stay a neighbour for two days."""

    class Lan:
        def join(self, _):
            pass

        def look_again(self):
            pass

        def part_came(self):
            pass

    agent = Agent(tmp_path)
    services = agent.services()
    object.__setattr__(services, "lan", Lan())
    link = parse_attach_link("http://127.0.0.1:7532/join/words#" + "a" * 64)
    files = ProjectFiles(agent.make_client(link), ShardCipher(b"k" * 32), services)
    for number, key in ((1, "1"), (1, "2"), (2, "3")):
        files.take_key(LanKey(key=key * 64, period=1), number)
    assert [key.hex()[0] for key in files.lan_keys] == ["3"]
    agent.journal.close()
