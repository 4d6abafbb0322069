"""Fetching from sources of which any may lie, stall, break or lack what it offers."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_agent.blobs import fetch as fetching
from pleb_agent.blobs.errors import StalledError
from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import Offer, SourceKind
from pleb_agent.blobs.standing import Fault, Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.parts import blob_of, leaves_of
from pleb_system.network_errors import NetworkError, UnreachableError, WrongBytesError

PART = 2**20
DATA = bytes(range(256)) * (8 * PART // 256) + b"the end"
BLOB = blob_of(DATA)
SMALL = b"a small one"


class Server:
    """A source in memory. `fault` says what it does wrong."""

    def __init__(self, kind, fault="", name="", chunk=256 * 1024, can=lambda _: True):
        self.kind, self.fault, self.name = kind, fault, name or f"{kind}-{fault}"
        self.data = {blob_of(one).digest: one for one in (DATA, SMALL)}
        self.chunk, self.can = chunk, can
        self.sent = 0
        self.asked = []
        self.breaks = 0

    async def leaves(self, blob):
        await self._act()
        right = b"".join(leaves_of(self.data[blob.digest]))
        return bytes(len(right)) if self.fault == "garbage" else right

    async def read(self, blob, start, end):
        self.asked.append((start, end))
        await self._act()
        data = self.data[blob.digest][start:end]
        if self.fault == "short":
            data = data[:-1]
        for at in range(0, len(data), self.chunk):
            if self.fault == "trickle":
                await asyncio.sleep(0.02)
                yield data[at : at + 10]
                continue
            piece = data[at : at + self.chunk]
            if self.fault == "garbage":
                piece = bytes(len(piece))
            self.sent += len(piece)
            yield piece
            if self.fault == "slow":
                await asyncio.sleep(0.05)
            if self.fault == "breaks" and self.breaks < 5:
                self.breaks += 1
                raise UnreachableError("broken")
        if self.fault == "short":
            raise UnreachableError("cut off")

    async def pace(self, amount):
        await asyncio.sleep(0)

    async def _act(self):
        if self.fault == "stall":
            await asyncio.sleep(60)
        if self.fault == "lacking":
            raise Refusal(RefusalCode.UNKNOWN_BLOB, "No such blob.")
        if self.fault == "dead":
            raise UnreachableError("nothing answers")


def mirror(fault="", **options):
    return Server(SourceKind.MIRROR, fault, **options)


def coordinator(fault="", **options):
    return Server(SourceKind.COORDINATOR, fault, **options)


class Fetcher:
    """The real fetcher over such servers."""

    def __init__(self, folder, last, *others):
        self.last, self.others = last, others
        self.standings = Standings()
        self.cache = BlobCache(folder, 10**8)
        self.real = BlobFetcher(self.cache, last, self._offers, self.standings)

    async def _offers(self, _):
        return [Offer(one, one.can) for one in self.others]

    def fetch(self, blob=BLOB):
        asyncio.run(self.real.fetch(blob))
        return self.cache.read(blob)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.3)
    monkeypatch.setattr("pleb_agent.blobs.fetcher.STALL_SECONDS", 0.3)


def test_a_mirror_that_has_all_of_it_spares_the_coordinator(tmp_path):
    fetcher = Fetcher(tmp_path, coordinator(), mirror())
    assert fetcher.fetch() == DATA
    assert fetcher.fetch(blob_of(SMALL)) == SMALL
    assert fetcher.last.asked == []
    leaves = len(leaves_of(DATA)) * 32
    assert fetcher.real.received == {SourceKind.MIRROR: len(DATA) + len(SMALL) + leaves}


def test_several_sources_send_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "STALL_SECONDS", 30.0)
    others = [mirror("slow", name=f"m{n}") for n in range(3)]
    fetcher = Fetcher(tmp_path, coordinator(), *others)
    assert fetcher.fetch() == DATA
    assert all(other.sent >= PART for other in others)
    assert fetcher.last.sent == 0


@pytest.mark.parametrize("fault", ["garbage", "stall", "lacking", "dead", "short", "trickle"])
def test_a_bad_source_is_replaced_and_remembered(tmp_path, fault):
    bad = mirror(fault, chunk=64 * 1024)
    fetcher = Fetcher(tmp_path, coordinator(), bad)
    began = time.monotonic()
    assert fetcher.fetch() == DATA
    assert time.monotonic() - began < 5
    asked = len(bad.asked)
    assert fetcher.fetch(blob_of(SMALL)) == SMALL
    assert len(bad.asked) == asked, "it is left alone"


@pytest.mark.parametrize("fault", ["garbage", "stall", "lacking", "dead", "short", "trickle"])
def test_a_bad_source_leaves_its_parts_to_a_good_one(tmp_path, fault):
    fetcher = Fetcher(tmp_path, coordinator(), mirror(fault), mirror())
    assert fetcher.fetch() == DATA
    assert fetcher.last.sent <= PART


def test_a_slow_source_is_overtaken_at_the_end(tmp_path):
    slow = mirror("slow", name="slow", chunk=64 * 1024)  # a part takes it 0.8 s
    fetcher = Fetcher(tmp_path, coordinator(), slow, mirror())
    began = time.monotonic()
    assert fetcher.fetch() == DATA
    assert time.monotonic() - began < 0.8 + 2


def test_the_coordinator_helps_where_the_others_are_much_slower(tmp_path):
    fetcher = Fetcher(tmp_path, coordinator(), mirror("slow", chunk=64 * 1024))
    fetcher.standings.brought("mirror-slow", 10**6, 1.0)
    fetcher.standings.brought("coordinator-", 10**9, 1.0)
    assert fetcher.fetch() == DATA
    assert fetcher.last.sent > len(DATA) / 2


def test_without_the_coordinator_the_others_are_enough(tmp_path):
    fetcher = Fetcher(tmp_path, coordinator("dead"), mirror())
    assert fetcher.fetch() == DATA


@pytest.mark.parametrize(
    ("fault", "error"), [("dead", UnreachableError), ("garbage", WrongBytesError)]
)
def test_what_came_is_kept_when_no_source_is_left(tmp_path, fault, error):
    half = mirror(can=lambda number: number < 4)
    with pytest.raises(error):
        Fetcher(tmp_path, coordinator(fault), half).fetch()
    again = Fetcher(tmp_path, coordinator())
    assert again.fetch() == DATA
    assert again.last.sent == len(DATA) - 4 * PART


def test_a_refusal_is_the_coordinators_own(tmp_path):
    with pytest.raises(Refusal):
        Fetcher(tmp_path, coordinator("lacking"), mirror("lacking")).fetch()
    with pytest.raises(Refusal):
        Fetcher(tmp_path / "small", coordinator("lacking")).fetch(blob_of(SMALL))


def test_a_connection_that_breaks_goes_on_where_it_was(tmp_path):
    fetcher = Fetcher(tmp_path, coordinator("breaks"))
    assert fetcher.fetch() == DATA
    assert fetcher.last.sent == len(DATA)
    assert fetcher.last.asked[1][0] == 256 * 1024


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["", "garbage", "stall", "lacking", "dead", "short"]), max_size=5),
    st.randoms(use_true_random=False),
)
def test_whatever_the_others_do_the_blob_comes(tmp_path_factory, faults, chance):
    others = [mirror(fault, name=f"{n}-{fault}") for n, fault in enumerate(faults)]
    chance.shuffle(others)
    fetcher = Fetcher(tmp_path_factory.mktemp("cache"), coordinator(), *others)
    assert fetcher.fetch() == DATA


def test_two_devices_fetch_a_blob_once(tmp_path):
    fetcher = Fetcher(tmp_path, coordinator("slow"))

    async def both():
        await asyncio.gather(fetcher.real.fetch(BLOB), fetcher.real.fetch(BLOB))

    asyncio.run(both())
    assert fetcher.last.sent == len(DATA)


def test_faults_are_forgiven_after_a_while_and_weigh_more_each_time():
    standings = Standings()
    assert not standings.is_shunned("m", 0.0)
    standings.failed("m", Fault.STALLED, 0.0)
    assert standings.is_shunned("m", 29.0)
    assert not standings.is_shunned("m", 31.0)
    standings.failed("m", Fault.STALLED, 31.0)
    assert standings.is_shunned("m", 31.0 + 59.0)
    for _ in range(30):
        standings.failed("m", Fault.WRONG_BYTES, 100.0)
    assert standings.is_shunned("m", 3600.0)
    assert not standings.is_shunned("m", 3701.0)
    standings.brought("m", 10**6, 0.5)
    standings.brought("m", 100, 5.0)  # too few bytes to measure by
    assert standings.speed("m") == 2 * 10**6
    assert standings.speed("other") is None
    for number in range(300):
        standings.brought(str(number), 1, 1.0)
    assert standings.speed("m") is None, "what is remembered is bounded"


def test_errors_of_sources_are_network_errors():
    assert issubclass(StalledError, NetworkError)
