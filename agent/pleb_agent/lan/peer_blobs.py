"""What other agents have of the blobs that are fetched here: asks, follows and offers them.

Agents that begin to fetch the same blob at once ask one another first. Whoever asks wants the blob,
so each knows the others, and each part is brought in by one of them for all (`protocol.lan.owner`).
One that cannot be asked itself brings in nothing for others, so it leaves that to them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.fetch import fault_of
from pleb_agent.blobs.source import Offer, SourceKind
from pleb_agent.lan.peer_source import PeerSource
from pleb_shared.errors import Refusal
from pleb_shared.protocol.lan import from_bitmap, owner
from pleb_shared.protocol.parts import part_count
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pleb_agent.blobs.standing import Standings
    from pleb_agent.client.network import Network
    from pleb_agent.lan.neighbours import Neighbour
    from pleb_agent.lan.shared_files import SharedFiles
    from pleb_shared.protocol.lan import HaveReply
    from pleb_shared.protocol.unit import Blob

__all__ = ["PeerBlobs"]

_LOG: Final = logging.getLogger("pleb.agent")
_ASK_SECONDS: Final = 1.0
"""How long the first answers are waited for; later ones count when they come."""
_ASKED: Final = 16
"""Agents that are asked for a blob."""
_REFRESH_SECONDS: Final = 1.0
_WANTED_SECONDS: Final = 10.0
"""How long somebody who asked for a blob is believed to fetch it."""
_MOST_HELD: Final = 2000
"""Of agents and blobs about which something is remembered."""
_MOST_SOURCES: Final = 128
_GONE_SECONDS: Final = 3.0
"""After that, who does not say that it fetches a blob has given up."""


@dataclass
class _Held:
    """What a neighbour has of a blob, as far as it said."""

    whole: bool = False
    parts: set[int] = field(default_factory=set)
    now: set[int] = field(default_factory=set)
    """What it is getting from elsewhere."""
    wanted_at: float = float("-inf")
    """When it last asked for the blob, or said that it is fetching it."""


class PeerBlobs:
    """What is known of others, of one kind: neighbours, or hosts elsewhere.

    `peer`: this agent. `port`: where it can be asked by one at that address; 0: nowhere. `near`:
    who may be asked for a project's blobs.
    """

    def __init__(
        self,
        peer: bytes,
        kind: SourceKind,
        network: Network,
        standings: Standings,
        clock: Callable[[], float],
        port: Callable[[SharedFiles, str], int],
        near: Callable[[SharedFiles], Sequence[Neighbour]],
    ) -> None:
        self._peer = peer
        self._kind = kind
        self._network = network
        self._standings = standings
        self._clock = clock
        self._port = port
        self._near = near
        self._held: dict[tuple[bytes, str], _Held] = {}
        self._about: dict[str, float] = {}
        """Blobs that are about to be fetched here, and since when."""
        self._sources: dict[tuple[bytes, bytes], PeerSource] = {}
        self._watched: dict[str, tuple[SharedFiles, Blob]] = {}
        """Blobs that are fetched now with others."""
        self._offered: set[tuple[bytes, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        """Set when a part comes, and replaced."""

    def part_came(self) -> None:
        """A part of a blob is here now: others who wait for it are answered."""
        self._news.set()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Return what is set when the next part comes."""
        return self._news

    def is_about(self, digest: str) -> bool:
        """Whether a blob is about to be fetched here."""
        return digest in self._about

    async def offers(self, files: SharedFiles, blob: Blob, also: Sequence[str]) -> list[Offer]:
        """Return those that have a blob or fetch it, too; others may join later.

        `also`: blobs that are wanted after this one, which are asked for in the same request.
        """
        now = asyncio.get_running_loop().time()
        self._about = {one: at for one, at in self._about.items() if now - at < _WANTED_SECONDS}
        self._about[blob.digest] = now
        asked = self._nearest(files, blob.digest)
        if not asked:
            return []
        self._watched[blob.digest] = files, blob
        digests = [blob.digest, *also]
        asking = {self._spawn(self._ask(source, digests)) for source in asked}
        await asyncio.wait(asking, timeout=_ASK_SECONDS)
        found = [self._offer(source, blob) for source in asked if self._has_any(source, blob)]
        self._offered |= {(source.neighbour.peer, blob.digest) for source in asked} & {
            (peer, blob.digest) for peer, digest in self._held if digest == blob.digest
        }
        return found

    def done(self, digest: str) -> None:
        """A blob is not fetched any more."""
        self._watched.pop(digest, None)
        self._about.pop(digest, None)
        self._offered = {pair for pair in self._offered if pair[1] != digest}
        for pair in [pair for pair in self._held if pair[1] == digest]:
            del self._held[pair]

    async def stop(self) -> None:
        """Ask nobody any more, and forget everybody."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in self._sources.values():
            await source.close()
        self._sources.clear()
        self._held.clear()
        self._watched.clear()

    def _nearest(self, files: SharedFiles, digest: str) -> list[PeerSource]:
        """Return who is to be asked: where there are many, others for each blob."""
        now = asyncio.get_running_loop().time()
        near = [one for one in self._near(files) if not self._standings.is_shunned(one.url, now)]
        near.sort(key=lambda one: hashlib.sha256(one.peer + digest.encode()).digest())
        return [self._source(one, files) for one in near[:_ASKED]]

    def _source(self, neighbour: Neighbour, files: SharedFiles) -> PeerSource:
        key = next(key for key in files.lan_keys if key in neighbour.keys)
        source = self._sources.pop((neighbour.peer, key), None)
        if source is not None and source.name != neighbour.url:
            self._spawn(source.close())
            source = None
        if source is None:
            own = self._peer, partial(self._port, files, neighbour.address)
            traffic = files.traffic if self._kind is SourceKind.INTERNET else None
            source = PeerSource(
                neighbour, key, own, self._network, self._clock, self._kind, traffic
            )
        self._sources[neighbour.peer, key] = source
        if len(self._sources) > _MOST_SOURCES:
            oldest = self._sources.pop(next(iter(self._sources)))
            self._spawn(oldest.close())
        return source

    def _offer(self, source: PeerSource, blob: Blob) -> Offer:
        peer, digest = source.neighbour.peer, blob.digest
        alone = part_count(blob.size) == 1

        def can(number: int) -> bool:
            held = self._held.get((peer, digest))
            return held is not None and (held.whole or number in held.parts)

        def soon(number: int) -> bool:
            held = self._held.get((peer, digest))
            if held is None or not self._fetches(held):
                return False
            if number in held.now:
                return True
            members = self._members(digest, source.neighbour.address)
            return owner(members, digest, number) == peer

        def whole() -> bool:
            held = self._held.get((peer, digest))
            return held is not None and (held.whole or (alone and bool(held.parts)))

        return Offer(source, can, soon, whole)

    def _members(self, digest: str, address: str) -> list[bytes]:
        """Return who fetches a blob now, with this agent if the one at `address` can ask it."""
        others = [p for (p, d), held in self._held.items() if d == digest and self._fetches(held)]
        watched = self._watched.get(digest)
        asked = watched is not None and self._port(watched[0], address)
        return [self._peer, *others] if asked else others

    def _fetches(self, held: _Held) -> bool:
        now = asyncio.get_running_loop().time()
        return not held.whole and now - held.wanted_at < _WANTED_SECONDS

    def _has_any(self, source: PeerSource, blob: Blob) -> bool:
        held = self._held.get((source.neighbour.peer, blob.digest))
        return held is not None and (held.whole or bool(held.parts) or self._fetches(held))

    async def _ask(
        self, source: PeerSource, digests: Sequence[str], seen: int | None = None
    ) -> None:
        """Ask a neighbour what it has; one that does not answer is left alone for a while."""
        try:
            self._note(source, digests, await source.have(digests, seen))
        except (NetworkError, Refusal, ValueError) as error:
            _LOG.info("neighbour", extra={"peer": source.name, "problem": str(error)})
            fault = fault_of(error)
            if fault is not None:
                now = asyncio.get_running_loop().time()
                self._standings.failed(source.name, fault, now)
                gone = source.neighbour.peer  # it brings in nothing for us
                self._held = {pair: one for pair, one in self._held.items() if pair[0] != gone}

    def _note(self, source: PeerSource, digests: Sequence[str], reply: HaveReply) -> None:
        peer, now = source.neighbour.peer, asyncio.get_running_loop().time()
        for digest in digests:
            if digest in reply.whole:
                self._state(peer, digest).whole = True
        for coming in reply.coming:
            watched = self._watched.get(coming.digest)
            if watched is not None and coming.digest in digests:
                held = self._state(peer, coming.digest)
                held.parts = from_bitmap(coming.parts, part_count(watched[1].size))
                held.now = from_bitmap(coming.now, part_count(watched[1].size))
                held.wanted_at = now
        said = {*reply.whole, *(coming.digest for coming in reply.coming)}
        for digest in set(digests) - said:
            before = self._held.get((peer, digest))
            if before is not None and now - before.wanted_at > _GONE_SECONDS:
                del self._held[peer, digest]  # it has given up
        self._offer_new(source)
        if any((peer, digest) in self._held for digest in self._watched):
            self._spawn_once(f"follow {source.name}", partial(self._follow, source))

    def _state(self, peer: bytes, digest: str) -> _Held:
        return self._held.setdefault((peer, digest), _Held())

    def _offer_new(self, source: PeerSource) -> None:
        """Let a neighbour send parts of what is being fetched, if it was not asked for yet."""
        peer = source.neighbour.peer
        for digest, (files, blob) in self._watched.items():
            if (peer, digest) in self._held and (peer, digest) not in self._offered:
                self._offered.add((peer, digest))
                files.add_offer(digest, self._offer(source, blob))

    def asked_by(self, neighbour: Neighbour, files: SharedFiles, digests: Sequence[str]) -> None:
        """Another agent wants blobs, and can be asked itself: it fetches them now."""
        now = asyncio.get_running_loop().time()
        first = digests[:1]  # the others come after it
        for digest in first:
            held = self._state(neighbour.peer, digest)
            held.wanted_at = now
        if len(self._held) > _MOST_HELD:
            self._held = {
                pair: held
                for pair, held in self._held.items()
                if pair[1] in self._watched or now - held.wanted_at < _WANTED_SECONDS
            }
            if len(self._held) > 2 * _MOST_HELD:  # somebody asks for anything
                self._held.clear()
        source = self._source(neighbour, files)
        self._offer_new(source)
        if any(digest in self._watched for digest in first):
            self._spawn_once(f"follow {source.name}", partial(self._follow, source))

    async def _follow(self, source: PeerSource) -> None:
        """Learn what a neighbour gets of the blobs that are fetched here, as it gets it."""
        peer = source.neighbour.peer
        while self._watched:
            began = asyncio.get_running_loop().time()
            digests, seen = [], 0
            for digest, (_, blob) in list(self._watched.items()):
                held = self._held.get((peer, digest))
                if held is None or not held.whole:
                    digests.append(digest)
                    seen += 0 if held is None else min(len(held.parts), part_count(blob.size))
            if digests:
                await self._ask(source, digests, seen)
            now = asyncio.get_running_loop().time()
            if self._standings.is_shunned(source.name, now):
                return
            await asyncio.sleep(max(0.0, _REFRESH_SECONDS / 4 - (now - began)))

    def _spawn(self, work: Coroutine[None, None, None], name: str = "") -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_once(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if all(task.get_name() != name for task in self._tasks):
            self._spawn(work(), name)
