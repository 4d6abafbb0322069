"""A host that fetches blobs as agentd does, and nothing else: a process for each of many agents.

    python -m benchmarks.lan_host COORDINATOR KEY BLOBS FOLDER [FAULT]

BLOBS is a JSON list of blobs. When a line comes on stdin it fetches them in order, prints a line
of JSON, and passes on what it has until stdin ends. FAULT makes it a bad neighbour: `garbage` sends
other bytes, `stall` sends none, `liar` says that it has everything. It uses the product's own
cache, fetcher and LAN sharing; what agentd adds around them are units, keys and the journal.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import HttpSource, Offer, SourceKind
from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.http import HttpClient
from pleb_agent.client.network import NO_LIMITS, Network
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Readings
from pleb_agent.lan.shared_files import Holding
from pleb_agent.lan.sharing import LanSharing
from pleb_agent.program.clock import system_clock
from pleb_shared.protocol.parts import part_count, part_place
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FAULTS", "LanHost"]

FAULTS = ("garbage", "stall", "liar")
_AT_ONCE = 4


class LanHost:
    """One host of one project. It is what `LanSharing` knows a project by (`SharedFiles`)."""

    def __init__(
        self,
        coordinator: str,
        key: bytes,
        folder: Path,
        *,
        mirrors: Sequence[str] = (),
        fault: str = "",
        network: Network = NO_LIMITS,
        lan: bool = True,
    ) -> None:
        self.cache = BlobCache(folder, 2**40)
        self.lan_keys: Sequence[bytes] = [key]
        self.fault = fault
        self._known: dict[str, Blob] = {}
        standings = Standings()
        preferences = Preferences(lan_sharing=lan)
        self.lan = LanSharing(
            secrets.token_bytes(8),
            network,
            standings,
            lambda: preferences,
            lambda: Readings(now=system_clock()),
            system_clock,
        )
        self._coordinator = HttpSource(
            HttpClient(coordinator, network=network), SourceKind.COORDINATOR
        )
        self._mirrors = [
            HttpSource(HttpClient(url, network=network), SourceKind.MIRROR) for url in mirrors
        ]
        self._wanted: list[str] = []
        self.fetcher = BlobFetcher(self.cache, self._coordinator, self._others, standings)
        self.lan.join(self)

    async def fetch(self, blobs: Sequence[Blob]) -> None:
        """Fetch blobs as a unit's are fetched: a few at a time."""
        self._wanted = [blob.digest for blob in blobs]
        waiting = iter(blobs)

        async def fetch_next() -> None:
            for blob in waiting:
                self._known[blob.digest] = blob
                try:
                    await self.fetcher.fetch(blob)
                finally:
                    self.lan.done(blob.digest)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(fetch_next())

    async def _others(self, blob: Blob) -> list[Offer]:
        at = self._wanted.index(blob.digest) + 1
        offers = await self.lan.offers(self, blob, self._wanted[at : at + 64])
        return [*offers, *(Offer(mirror) for mirror in self._mirrors)]

    def lie_about(self, blobs: Sequence[Blob]) -> None:
        """Claim to have these blobs."""
        self._known |= {blob.digest: blob for blob in blobs}

    def holding(self, digest: str) -> Holding | None:
        """Return what is here of a blob, or is said to be."""
        blob = self._known.get(digest)
        if blob is None:
            return None

        def leaves() -> list[bytes] | None:
            return self.cache.leaves(blob)

        if self.fault:
            return Holding(blob, frozenset(), lambda number: self._bad(blob, number), leaves)
        part = self.fetcher.under_way.get(digest)
        if part is not None:
            return Holding(blob, part.missing, part.read, leaves)
        if not self.cache.has(blob):
            return None
        return Holding(blob, frozenset(), lambda number: self.cache.read_part(blob, number), leaves)

    def _bad(self, blob: Blob, number: int) -> bytes:
        if self.fault == "stall":
            time.sleep(8.0)  # in a thread of the server's
        if self.fault == "liar":
            raise ValueError(number)
        start, end = part_place(blob.size, number)
        return bytes(end - start)

    def add_offer(self, digest: str, offer: Offer) -> None:
        """Let a neighbour send parts of a blob that is being fetched."""
        self.fetcher.add(digest, offer)

    async def close(self) -> None:
        """Close the connections."""
        for source in (self._coordinator, *self._mirrors):
            await source.close()


async def _main(coordinator: str, key: str, wanted: list[Blob], folder: Path, fault: str) -> None:
    lan = key != "-"
    host = LanHost(
        coordinator,
        bytes.fromhex(key) if lan else bytes(32),
        folder,
        fault=fault,
        lan=lan,
    )
    sharing = asyncio.create_task(host.lan.run())
    _say(ready=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    await lines.readline()
    began = time.monotonic()
    if fault:
        host.lie_about(wanted)
    else:
        await host.fetch(wanted)
    seconds = time.monotonic() - began
    wrong = sum(not host.cache.check_again(blob) for blob in wanted) if not fault else 0
    parts = sum(part_count(blob.size) for blob in wanted)
    received = {str(kind): amount for kind, amount in host.fetcher.received.items()}
    neighbours = host.lan.neighbours
    _say(seconds=seconds, wrong=wrong, parts=parts, received=received, neighbours=neighbours)
    await lines.readline()
    sharing.cancel()
    await asyncio.gather(sharing, return_exceptions=True)
    await host.close()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    url, secret, listed, place, *bad = sys.argv[1:]
    named = msgspec.json.decode(Path(listed).read_bytes(), type=list[Blob])
    asyncio.run(_main(url, secret, named, Path(place), bad[0] if bad else ""))
