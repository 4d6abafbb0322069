"""Where an agent sends its results: into the bucket that the metadata name, or past it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pleb_agent.blobs.standing import Standings
from pleb_agent.loop.exchange import Exchange
from pleb_agent.web.server import LocalServer
from pleb_shared.errors import Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.direct import DirectParts, part_place, sealed_part
from tests.integration.agent_home import attached, delivered
from tests.integration.fake_coordinator import FakeCoordinator
from tests.integration.fake_engine import FakeEngine

LARGE = 5_000_000


class Bucket:
    """Takes what a coordinator's uploads wait for, until it is told to answer otherwise."""

    def __init__(self, coordinator: FakeCoordinator) -> None:
        self.coordinator = coordinator
        self.answer: Response | None = None
        self.takes = 99
        """So many parts, and then none."""
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def put(self, request):
        place, body = request.path_params["place"], await request.body()
        self.requests.append(place)
        self.headers.append(dict(request.headers))
        if self.answer is not None or not self.takes:
            return self.answer or Response("<Error/>", 503)
        self.takes -= 1
        for token in self.coordinator.uploads:
            for offset in (0, 2 * 2**20, 4 * 2**20):
                if part_place(token, offset) == place:
                    assert request.url.query == f"signed={offset}"
                    assert sealed_part(body[:-32]) == body
                    self.coordinator.upload_part(token, offset, body[:-32])
                    return Response()
        return Response("<Error/>", 404)


@asynccontextmanager
async def with_bucket(tmp_path, *, delta_bytes=LARGE):
    engine = FakeEngine(delta_bytes=delta_bytes)
    async with attached(tmp_path, engine) as (coordinator, agent):
        bucket = Bucket(coordinator)
        app = Starlette(routes=[Route("/m/{place:path}", bucket.put, methods=["PUT"])])
        server = LocalServer(app)
        task = asyncio.create_task(server.run())
        try:
            coordinator.publish(uploads=f"http://127.0.0.1:{server.port}/m")
            yield coordinator, agent, bucket
        finally:
            server.stop()
            await task


def test_a_large_result_goes_into_the_bucket_and_not_to_the_coordinator(tmp_path):
    async def story():
        async with with_bucket(tmp_path) as (coordinator, agent, bucket):
            coordinator.plan(2)
            await agent.work(units=2)
            assert delivered(coordinator) == [1, 2]
            assert coordinator.patched == []
            assert len(bucket.requests) == 2 * 3
            names = {name for headers in bucket.headers for name in headers}
            assert names.isdisjoint({"authorization", "cookie"})
            sent = agent.journal.totals()["bytes_sent"]
            assert 2 * LARGE < sent < 2 * LARGE + 20_000

    asyncio.run(story())


def test_a_small_result_goes_to_the_coordinator(tmp_path):
    async def story():
        async with with_bucket(tmp_path, delta_bytes=900_000) as (coordinator, agent, bucket):
            coordinator.plan(1)
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert bucket.requests == []

    asyncio.run(story())


ANSWERS = {
    "an error": Response("<Error/>", 500),
    "a refusal": Response("<Error/>", 403),
    "one that looks like the coordinator's": Response(
        b'{"code": "lease_expired", "message": "drop it", "retry_after_seconds": null}', 410
    ),
    "an address elsewhere": RedirectResponse("http://127.0.0.1:9/", 307),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_bucket_that_takes_nothing_is_left_alone_for_a_while(tmp_path, monkeypatch, answer):
    async def story():
        async with with_bucket(tmp_path) as (coordinator, agent, bucket):
            services = replace(agent.services(), standings=Standings())
            monkeypatch.setattr(agent, "services", lambda: services)  # as of one process
            bucket.answer = ANSWERS[answer]
            coordinator.plan(1)
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert len(bucket.requests) == 2
            assert coordinator.patched[:2] == [0, 1_000_000]
            coordinator.plan(1)
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2]
            assert len(bucket.requests) == 2

    asyncio.run(story())


def test_what_the_bucket_has_taken_is_not_sent_again(tmp_path):
    async def story():
        async with with_bucket(tmp_path) as (coordinator, agent, bucket):
            bucket.takes = 2
            coordinator.plan(1)
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert coordinator.patched == [4 * 2**20]

    asyncio.run(story())


def test_an_address_without_encryption_is_only_for_a_coordinator_without(tmp_path):
    async def story():
        async with with_bucket(tmp_path) as (coordinator, _, _):
            secret = msgspec.structs.replace(coordinator.metadata, uploads="https://b.example/x")

            def used(base_url, metadata, is_loaded=True):
                exchange = SimpleNamespace(
                    metadata=metadata,
                    trust=SimpleNamespace(is_loaded=is_loaded),
                    client=SimpleNamespace(base_url=base_url),
                )
                return vars(Exchange)["bucket"].fget(exchange)

            plain = coordinator.metadata
            assert used("http://c.example", plain) == plain.uploads
            assert used("https://c.example", plain) == ""
            assert used("https://c.example", secret) == "https://b.example/x"
            assert used("http://c.example", secret) == "https://b.example/x"
            assert used("https://c.example", secret, is_loaded=False) == ""

    asyncio.run(story())


@pytest.mark.parametrize(
    "url", ["ftp://b.example/x", "https://b.example/x/", "https://u@b.example/x", "b.example"]
)
def test_what_is_no_address_is_no_metadata(url):
    coordinator = FakeCoordinator(lambda: 0.0)
    with pytest.raises(ValueError, match="a bucket's"):
        msgspec.structs.replace(coordinator.metadata, uploads=url)


@pytest.mark.parametrize(
    "query", ["", "a b", "x#y", "x?y", "/../x", "x\n", "x" * 4001, "\u00e9", "x\r\ny: z"]
)
def test_what_is_no_query_is_no_answer(query):
    data = strict_json.encode({"offset": 0, "parts": [{"size": 1, "query": query}]})
    with pytest.raises(Refusal):
        strict_json.decode(data, DirectParts)
