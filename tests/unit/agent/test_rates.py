"""The token bucket: pure, and as what transfers await."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.client.network import RateLimit, TokenBucket


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=50), st.floats(1024, 1e8))
def test_no_more_than_the_rate_and_its_burst_ever_goes(amounts, rate):
    bucket, now = TokenBucket(0.0), 0.0
    for amount in amounts:
        now += bucket.take(amount, rate, now)
    assert sum(amounts) <= rate * (now + 0.26)


def test_a_rest_buys_no_more_than_the_burst():
    bucket = TokenBucket(0.0)
    assert bucket.take(1000, 1000.0, 10_000.0) == pytest.approx(0.75)


def test_a_clock_that_stops_or_steps_back_gives_nothing():
    bucket = TokenBucket(5.0)
    assert bucket.take(100, 100.0, 5.0) == pytest.approx(1.0)
    assert bucket.take(0, 100.0, 4.0) == pytest.approx(1.0)


def timed(story):
    async def run():
        began = time.monotonic()
        await story()
        return time.monotonic() - began

    return asyncio.run(run())


def test_transfers_together_hold_the_rate_within_a_tenth():
    limit = RateLimit(lambda: 200_000)

    async def transfer():
        for _ in range(20):
            await limit.take(5_000)

    async def story():
        await asyncio.gather(transfer(), transfer())

    assert timed(story) == pytest.approx(1.0, rel=0.1)


def test_no_rate_is_no_wait():
    limit = RateLimit(lambda: None)

    async def story():
        for _ in range(1000):
            await limit.take(10**9)

    assert timed(story) < 0.5


def test_a_rate_that_is_lifted_ends_the_wait():
    rates: list[float | None] = [100.0]
    limit = RateLimit(lambda: rates[0])

    async def story():
        waiting = asyncio.create_task(limit.take(100_000))
        await asyncio.sleep(0.1)
        rates[0] = None
        await waiting

    assert timed(story) < 3
