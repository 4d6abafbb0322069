"""A host that fetches blobs as agentd does, and nothing else: a process for each of many agents.

    python -m benchmarks.lan_host COORDINATOR KEY FOLDER MIRRORS [FAULT] [internet]

Commands come as lines of JSON on stdin, and each is answered by a line; it passes on what it has
until stdin ends. KEY `-`: it shares with nobody. FAULT makes it a bad neighbour: `garbage` sends
other bytes, `stall` sends none, `liar` says that it has everything. With `internet` it shares with
the hosts that the coordinator names instead. It uses the product's own cache, fetcher and sharing;
what agentd adds around them are units, keys and the journal.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from benchmarks.peers_waits import WAITS, watch_waits
from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import HttpSource, Offer, SourceKind
from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.http import HttpClient, Traffic
from pleb_agent.client.network import NO_LIMITS, Network
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Readings
from pleb_agent.lan.internet import InternetSharing
from pleb_agent.lan.shared_files import Holding
from pleb_agent.lan.sharing import LanSharing
from pleb_agent.program.clock import system_clock
from pleb_shared.protocol.parts import part_place
from pleb_shared.protocol.peers import Peer
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FAULTS", "LanHost"]

FAULTS = ("garbage", "stall", "liar")
_AT_ONCE = 4
_UPLOAD_BYTES = 1_000_000
"""As much is sent at once."""
_UPLOAD_SECONDS = 600.0
_ASKS_FROM = 0.55
"""Of a unit: when an agent on a slow line asks for the next one."""


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
        internet: bool = False,
    ) -> None:
        self.cache = BlobCache(folder, 2**40)
        self.lan_keys: Sequence[bytes] = [key]
        self.traffic = Traffic()
        self.fault = fault
        self.computed = 0.0
        """Seconds from the start of the first unit to the end of the last one."""
        self._known: dict[str, Blob] = {}
        standings = Standings()
        preferences = Preferences(lan_sharing=lan and not internet, internet_sharing=internet)
        kind: type[LanSharing | InternetSharing] = InternetSharing if internet else LanSharing
        self.lan = kind(
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
        self.fetcher = BlobFetcher(
            self.cache, self._coordinator, self._others, standings, self.lan.part_came
        )
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

    def count_sent(self, amount: int) -> None:
        """So much was sent over the internet."""
        self.traffic.sent += amount

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
            return Holding(
                blob, part.missing, part.read, leaves, lambda: self.fetcher.brings_in(digest)
            )
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


class Met(msgspec.Struct):
    """What the coordinator tells a host that shares."""

    peers: list[Peer]
    reached: str | None


class _Meet(msgspec.Struct, tag="meet"):
    """Tell the coordinator that this host shares, and learn of others, as a work request does."""

    host: int


class _Fetch(msgspec.Struct, tag="fetch"):
    """Fetch blobs as fast as possible."""

    blobs: list[Blob]


class _Train(msgspec.Struct, tag="train"):
    """Compute units that each need some blobs, getting those of the next one meanwhile."""

    units: list[list[Blob]]
    compute_seconds: float
    upload_bytes: int = 0
    """Of each result, sent while the next units are computed."""
    ahead: bool = True
    """Whether the next unit's blobs are fetched while one is computed."""


class _Lie(msgspec.Struct, tag="lie"):
    """Say that these are here."""

    blobs: list[Blob]


_Command = _Meet | _Fetch | _Train | _Lie


async def _meet(host: LanHost, number: int, url: str) -> None:
    assert isinstance(host.lan, InternetSharing)
    async with httpx.AsyncClient() as client:
        said = {"host": number, "sharing": msgspec.to_builtins(host.lan.sharing)}
        answer = await client.post(url, json=said)
    told = msgspec.json.decode(answer.content, type=Met)
    host.lan.told(host, told.peers, told.reached)


async def _train(host: LanHost, command: _Train, sink: str) -> None:
    """Go through units as the agent does, and deliver results; computing is waiting here."""
    began, ahead = 0.0, None
    async with httpx.AsyncClient(timeout=_UPLOAD_SECONDS) as client, asyncio.TaskGroup() as group:
        for number, blobs in enumerate(command.units):
            await (ahead or host.fetch(blobs))
            began = time.monotonic() if number == 0 else began
            ahead = None
            await asyncio.sleep(_ASKS_FROM * command.compute_seconds)
            if command.ahead and number + 1 < len(command.units):
                ahead = asyncio.create_task(host.fetch(command.units[number + 1]))
            await asyncio.sleep((1 - _ASKS_FROM) * command.compute_seconds)
            if command.upload_bytes:
                group.create_task(_upload(client, sink, command.upload_bytes))
        host.computed = time.monotonic() - began


async def _upload(client: httpx.AsyncClient, sink: str, size: int) -> None:
    for start in range(0, size, _UPLOAD_BYTES):
        part = bytes(min(_UPLOAD_BYTES, size - start))
        (await client.post(sink, content=part)).raise_for_status()


async def _main(
    coordinator: str, key: str, folder: Path, mirrors: Sequence[str], fault: str, internet: bool
) -> None:
    watch_waits()
    lan = key != "-"
    secret = bytes.fromhex(key) if lan else bytes(32)
    host = LanHost(
        coordinator, secret, folder, mirrors=mirrors, fault=fault, lan=lan, internet=internet
    )
    sharing = asyncio.create_task(host.lan.run())
    lines = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    _say(ready=True)
    wanted: dict[str, Blob] = {}
    while line := await lines.readline():
        command: _Command = msgspec.json.decode(line, type=_Command)
        began = time.monotonic()
        match command:
            case _Meet():
                await _meet(host, command.host, f"{coordinator}/share")
            case _Lie():
                host.lie_about(command.blobs)
            case _Fetch():
                wanted |= {blob.digest: blob for blob in command.blobs}
                await host.fetch(command.blobs)
            case _Train():
                wanted |= {blob.digest: blob for blobs in command.units for blob in blobs}
                await _train(host, command, f"{coordinator}/sink")
        _say(
            seconds=time.monotonic() - began,
            computed=host.computed,
            cpu=time.process_time(),
            wrong=sum(not host.cache.check_again(blob) for blob in wanted.values()),
            received={str(kind): amount for kind, amount in host.fetcher.received.items()},
            neighbours=host.lan.neighbours,
            reached=host.lan.reached if isinstance(host.lan, InternetSharing) else None,
            waits=WAITS,
        )
        WAITS.clear()
    sharing.cancel()
    await asyncio.gather(sharing, return_exceptions=True)
    await host.close()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    url, secret, place, spare, *rest = sys.argv[1:]
    bad, far = (*rest, "", "")[:2]
    asyncio.run(_main(url, secret, Path(place), spare.split(), bad, far == "internet"))
