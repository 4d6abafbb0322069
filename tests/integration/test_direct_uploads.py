"""Results that hosts put into the coordinator's bucket themselves, of the real `serve`.

The bucket's server verifies every signature; between it and the host is a proxy that fails.
"""

from __future__ import annotations

import asyncio
import io
import time
from itertools import count
from typing import Any

import httpx
import pytest

from pleb_agent.client.bucket import BucketClient, BucketFailedError, put_result
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.http import Timeouts
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.direct import SEAL_BYTES, part_place, sealed_part
from pleb_shared.protocol.limits import LIMITS
from tests.e2e.world import wait_until
from tests.large_results import LargeServed, bucket_config, large_served
from tests.relay import Relay
from tests.s3_server import Fault, FaultyProxy, shared_nanio

RESULT_BYTES = 12 * 2**20
COUNTED = {"reported", "valid"}
PART = LIMITS.direct_part_bytes
_drifts = count(1)


class Direct:
    """A `serve`, a bucket that hosts reach through a proxy, and a result that is reported."""

    def __init__(self, served: LargeServed, proxy: FaultyProxy, address: str) -> None:
        self.served, self.proxy, self.address = served, proxy, address
        drift = 0.001 * next(_drifts)  # no two have the same result
        self.host = served.world.volunteer(f"host-{drift}", calibrated=False, drift=drift)
        self.token, self.packed, self.assignment = served.slot(self.host)

    def put(self, packed: bytes | None = None) -> bool:
        """Put the result into the bucket as an agent does."""
        data = self.packed if packed is None else packed

        async def story() -> bool:
            client = CoordinatorClient(self.served.url)
            bucket = BucketClient(self.address, timeouts=Timeouts(silence=2.0))
            try:
                return await put_result(client, bucket, self.token, io.BytesIO(data), len(data))
            finally:
                await client.close()
                await bucket.close()

        return asyncio.run(story())

    def send(self, url: str = "") -> None:
        """Send the rest to `serve`, as an agent does after the bucket has failed."""

        async def story() -> None:
            client = CoordinatorClient(url or self.served.url)
            try:
                await client.upload(self.token, io.BytesIO(self.packed), len(self.packed))
            finally:
                await client.close()

        asyncio.run(story())

    def parts(self) -> Any:
        return httpx.get(f"{self.served.url}/uploads/{self.token}/parts").json()

    def raw_put(self, place: str, query: str, body: bytes) -> int:
        return httpx.put(f"{self.address}/{place}?{query}", content=body).status_code

    def state(self) -> str:
        with self.served.world.store.read() as tx:
            return str(tx.assignments.get(self.assignment).state)

    def await_count(self) -> None:
        wait_until("the result to count", lambda: self.state() in COUNTED, seconds=60)


@pytest.fixture(scope="module")
def served_directly(tmp_path_factory):
    """A `serve` whose bucket hosts reach through a proxy."""
    server = shared_nanio()
    name = server.new_bucket()
    with (
        FaultyProxy(server.endpoint, keep_host=True) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        address = f"{proxy.endpoint}/{name}/pleb"
        with large_served(
            tmp_path_factory.mktemp("direct"),
            patch,
            result_bytes=RESULT_BYTES,
            bucket=f"s3://{name}/pleb",
            s3=bucket_config(server.endpoint, address),
            uploads=address,
        ) as served:
            yield served, proxy, address


@pytest.fixture
def direct(served_directly):
    served, proxy, address = served_directly
    proxy.faults, proxy.received = [], 0
    return Direct(served, proxy, address)


def test_a_result_that_goes_into_the_bucket_counts_and_never_passes_serve(direct):
    process = direct.served.part("web_app")
    before = process.io_counters()
    assert direct.put()
    after = process.io_counters()
    direct.await_count()
    assert len(direct.packed) > 8 * 2**20
    passed = after.read_chars - before.read_chars + after.write_chars - before.write_chars
    assert passed < 2**20


FAULTS = {
    "an error of the server": Fault(1, status=500),
    "too many requests": Fault(1, status=503),
    "an error after it was done": Fault(1, status=500, after=True),
    "a connection that breaks": Fault(1, cut=True),
    "other bytes on the way": Fault(1, spoil_sent=True),
    "slow": Fault(1, delay_seconds=0.5),
    "no answer": Fault(1, delay_seconds=4.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bucket_that_fails_for_a_moment_gets_one_part_again(direct, fault):
    direct.proxy.faults = [FAULTS[fault]]
    assert direct.put()
    direct.await_count()
    assert not direct.proxy.faults[0].times
    parts = -(-len(direct.packed) // PART)
    assert direct.proxy.received <= len(direct.packed) + PART + (parts + 1) * SEAL_BYTES


@pytest.mark.parametrize("status", [503, 403])
def test_a_bucket_that_stays_away_leaves_the_rest_to_serve(direct, status):
    direct.proxy.faults = [Fault(9999, status=status)]
    before = direct.proxy.requests
    with pytest.raises(BucketFailedError):
        direct.put()
    assert direct.proxy.requests - before <= 2
    direct.send()
    assert direct.state() in COUNTED


def test_after_a_break_in_the_middle_serve_gets_only_the_rest(direct):
    direct.proxy.faults = [Fault(3), Fault(9999, status=503)]
    with pytest.raises(BucketFailedError):
        direct.put()
    assert direct.parts()["offset"] == 3 * PART
    with Relay(direct.served.port) as relay:
        direct.send(relay.url)
    assert relay.sent < len(direct.packed) - 3 * PART + 8 * 1024
    assert direct.state() in COUNTED


def test_killed_on_either_side_at_most_a_part_is_put_again(direct):
    """The agent has its token and its file, the coordinator its row, and the bucket the parts."""
    parts = direct.parts()
    data = direct.packed
    for number in range(2):
        place = part_place(direct.token, number * PART)
        body = sealed_part(data[number * PART : (number + 1) * PART])
        assert direct.raw_put(place, parts["parts"][number]["query"], body) == 200
    direct.served.kill()
    direct.served.start()
    direct.proxy.received = 0
    assert direct.put()
    assert direct.put()  # its answer was lost
    direct.await_count()
    assert direct.put()  # and again, when it counts already
    count = -(-len(data) // PART) - 2
    assert direct.proxy.received == len(data) - 2 * PART + count * SEAL_BYTES


def test_other_bytes_than_reported_are_refused_with_their_reason(direct):
    wrong = bytes([direct.packed[0] ^ 1]) + direct.packed[1:]
    assert direct.put(wrong)
    wait_until("a refusal", lambda: direct.state() == "invalid", seconds=60)
    verdicts = direct.served.work(direct.host, [], 0).verdicts
    assert [(v.assignment, v.verdict) for v in verdicts] == [(direct.assignment, "invalid")]
    assert "not the delta that was reported" in str(verdicts[0].reason.values["text"])
    assert httpx.get(f"{direct.served.url}/uploads/{direct.token}/parts").status_code == 404


def test_what_is_not_whole_does_not_land(direct):
    parts = direct.parts()
    assert [part["size"] for part in parts["parts"]][:2] == [PART, PART]
    place = part_place(direct.token, 0)
    assert (
        direct.raw_put(place, parts["parts"][0]["query"], sealed_part(direct.packed[:PART])) == 200
    )
    answer = httpx.post(f"{direct.served.url}/uploads/{direct.token}/landed")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_offset")
    assert direct.parts()["offset"] == PART


def test_an_agent_that_knows_no_bucket_sends_to_serve_as_ever(direct):
    direct.send()
    assert direct.state() in COUNTED
    assert direct.proxy.received == 0


def test_uploads_that_are_not_known_have_no_parts(direct):
    url = f"{direct.served.url}/uploads/{'0' * 48}"
    for answer in (httpx.get(f"{url}/parts"), httpx.post(f"{url}/landed")):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_upload")

    async def story() -> None:
        client = CoordinatorClient(direct.served.url)
        try:
            with pytest.raises(Refusal) as caught:
                await client.direct_parts("0" * 48)
            assert caught.value.code is RefusalCode.UNKNOWN_UPLOAD
        finally:
            await client.close()

    asyncio.run(story())


def test_a_bucket_that_does_not_answer_is_left_in_a_bounded_time(direct):
    direct.proxy.faults = [Fault(9999, delay_seconds=30.0)]
    began = time.monotonic()
    with pytest.raises(BucketFailedError):
        direct.put()
    assert time.monotonic() - began < 25  # two silences of 2 s, and what they wait in between
