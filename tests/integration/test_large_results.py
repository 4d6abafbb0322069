"""Results and blobs that are larger than what a process may hold of them.

Of the real `serve`, on files and on a bucket. Nothing here depends on how fast the machine is: what
is asserted is how many bytes are sent, and how much memory a process has had.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import HttpSource, SourceKind
from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_shared.protocol.limits import LIMITS
from pleb_system.network_errors import NetworkError
from tests.e2e.world import wait_until
from tests.large_results import LargeServed, bucket_config, large_served
from tests.relay import Relay
from tests.s3_server import shared_nanio

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.blobs.source import Offer
    from pleb_shared.protocol.unit import Blob

RESULT_BYTES = 128 * 2**20
MARGIN_BYTES = 80 * 2**20
"""More than what is in memory at once: parts of a few MiB in each thread. The packed result alone
has 119 MB."""
_drifts = count(1)
HEAD_BYTES = 600
"""Of a request, at most."""


@pytest.fixture(scope="module", params=["files", "bucket"])
def served(request, tmp_path_factory):
    server = shared_nanio() if request.param == "bucket" else None
    bucket = "" if server is None else f"s3://{server.new_bucket()}/pleb"
    s3 = None if server is None else bucket_config(server.endpoint)
    folder = tmp_path_factory.mktemp(request.param)
    with (
        pytest.MonkeyPatch.context() as patch,
        large_served(folder, patch, result_bytes=RESULT_BYTES, bucket=bucket, s3=s3) as found,
    ):
        yield found


def slot(served: LargeServed) -> tuple[str, bytes, int]:
    """Return a slot of a new host's, whose result nobody else has."""
    drift = 0.001 * next(_drifts)
    host = served.world.volunteer(f"host-{drift}", calibrated=False, drift=drift)
    return served.slot(host)


def upload(url: str, token: str, packed: bytes) -> None:
    """Upload as a new agent would."""

    async def story() -> None:
        client = CoordinatorClient(url)
        try:
            await client.upload(token, io.BytesIO(packed), len(packed))
        finally:
            await client.close()

    asyncio.run(story())


def state_of(served: LargeServed, assignment: int) -> str:
    with served.world.store.read() as tx:
        return str(tx.assignments.get(assignment).state)


class Peak:
    """The most memory that a process has had since the beginning, which is measured anew."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._bytes("VmRSS")

    def grown(self) -> int:
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        lines = self._status.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is Linux's")
def test_a_large_result_and_a_large_blob_are_never_in_the_memory_of_serve(served):
    token, packed, assignment = slot(served)
    peak = Peak(served.part("web_app").pid)
    upload(served.url, token, packed)
    assert state_of(served, assignment) in {"reported", "valid"}
    blob = served.world.metadata.model.initial
    hasher = hashlib.sha256()
    with httpx.stream("GET", f"{served.url}/blobs/{blob.digest}", timeout=60) as answer:
        for part in answer.iter_raw():
            hasher.update(part)
    assert hasher.hexdigest() == blob.digest
    assert blob.size > RESULT_BYTES
    assert len(packed) > MARGIN_BYTES > peak.grown()


def test_after_each_break_at_most_a_part_is_sent_again(served):
    token, packed, assignment = slot(served)
    breaks = 0
    with Relay(served.port, cut_after=len(packed) // 4) as relay:

        def broken() -> None:
            nonlocal breaks
            with pytest.raises(NetworkError):
                upload(relay.url, token, packed)
            breaks += 1

        broken()  # the connection alone
        relay.cut_after = len(packed) // 2
        broken()
        served.kill()
        broken()
        served.start()
        relay.cut_after = relay.sent + len(packed) // 4
        broken()
        upload(relay.url, token, packed)
    parts = len(packed) // LIMITS.sent_part_bytes + 1 + 2 * breaks
    most = len(packed) + breaks * LIMITS.sent_part_bytes + HEAD_BYTES * parts
    assert len(packed) < relay.sent <= most
    wait_until("the result", lambda: state_of(served, assignment) in {"reported", "valid"})


def test_after_each_break_of_a_download_at_most_a_part_is_received_again(served, tmp_path):
    """Each time by an agent that knows only what is on its disk, as after a kill."""
    blob, taken = served.world.metadata.model.initial, 0

    async def fetch(url: str) -> None:
        nonlocal taken
        client = CoordinatorClient(url)

        async def no_others(_: Blob) -> list[Offer]:
            return []

        source = HttpSource(client, SourceKind.COORDINATOR)
        cache = BlobCache(tmp_path / "cache", 10**10)
        try:
            await BlobFetcher(cache, source, no_others, Standings()).fetch(blob)
        finally:
            taken += client.traffic.take()[0]
            await client.close()

    async def ended_by(
        relay: Relay, amount: int, end: Callable[[asyncio.Task[None]], object]
    ) -> None:
        """Fetch until so many bytes have passed, and then let something end it."""
        task = asyncio.create_task(fetch(relay.url))
        until = relay.received + amount
        while relay.received < until:
            assert not task.done()
            await asyncio.sleep(0.001)
        end(task)
        with pytest.raises((NetworkError, asyncio.CancelledError)):
            await task

    with Relay(served.port, cut_after_received=blob.size // 8) as relay:  # it goes on by itself
        asyncio.run(ended_by(relay, blob.size // 4, lambda _: served.kill()))
        served.start()
        asyncio.run(ended_by(relay, blob.size // 4, asyncio.Task.cancel))
        asyncio.run(fetch(relay.url))
    leaves = 32 * (blob.size // LIMITS.blob_part_bytes + 1)
    assert blob.size <= taken <= blob.size + 3 * (LIMITS.blob_part_bytes + leaves)
    assert BlobCache(tmp_path / "cache", 10**10).has(blob, None)
