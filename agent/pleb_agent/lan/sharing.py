"""LAN sharing: announces this agent, knows the others, and offers what they have.

It runs only while the user, the network and the power allow it and a project has members' keys.
Agents that begin to fetch the same blob at once ask one another first. Whoever asks wants the blob,
so each knows the others, and each part is brought in by one of them for all (`protocol.lan.owner`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.fetch import fault_of
from pleb_agent.blobs.source import Offer
from pleb_agent.core.network_rules import may_share
from pleb_agent.lan.beacon import BeaconSocket
from pleb_agent.lan.neighbours import Neighbour, Neighbours, beacon_interval
from pleb_agent.lan.peer_source import PeerSource
from pleb_agent.lan.server import LanServer
from pleb_shared.errors import Refusal
from pleb_shared.protocol.lan import Beacon, from_bitmap, owner, read_beacon, write_beacon
from pleb_shared.protocol.parts import part_count
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pleb_agent.blobs.standing import Standings
    from pleb_agent.client.network import Network
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.lan.household import Household
    from pleb_agent.lan.server import Asker
    from pleb_agent.lan.shared_files import SharedFiles
    from pleb_shared.protocol.lan import HaveReply
    from pleb_shared.protocol.unit import Blob

__all__ = ["LanSharing"]

_LOG: Final = logging.getLogger("pleb.agent")
_ASK_SECONDS: Final = 1.0
"""How long the first answers are waited for; later ones count when they come."""
_ASKED: Final = 16
"""Neighbours that are asked for a blob."""
_REFRESH_SECONDS: Final = 1.0
_WANTED_SECONDS: Final = 10.0
"""How long somebody who asked for a blob is believed to fetch it."""
_MOST_HELD: Final = 2000
"""Of neighbours and blobs about which something is remembered."""
_GONE_SECONDS: Final = 3.0
"""After that, who does not say that it fetches a blob has given up."""
_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 300.0


@dataclass
class _Held:
    """What a neighbour has of a blob, as far as it said."""

    whole: bool = False
    parts: set[int] = field(default_factory=set)
    now: set[int] = field(default_factory=set)
    """What it is getting from elsewhere."""
    wanted_at: float = float("-inf")
    """When it last asked for the blob, or said that it is fetching it."""


class LanSharing:
    """One for each agent. `peer`: 8 random bytes; projects `join` and `leave`."""

    def __init__(
        self,
        peer: bytes,
        network: Network,
        standings: Standings,
        preferences: Callable[[], Preferences],
        read: Callable[[], Readings],
        clock: Callable[[], float],
        household: Household | None = None,
    ) -> None:
        self._household = household
        self._shares = False
        """Whether blobs are shared; a household alone needs beacons and the server, too."""
        self.received = 0
        """Bytes of blobs that neighbours have sent."""
        self._peer = peer
        self._network = network
        self._standings = standings
        self._preferences = preferences
        self._read = read
        self._clock = clock
        self._files: list[SharedFiles] = []
        self._table = Neighbours()
        self._held: dict[tuple[bytes, str], _Held] = {}
        self._about: dict[str, float] = {}
        """Blobs that are about to be fetched here, and since when."""
        self._sources: dict[tuple[bytes, bytes], PeerSource] = {}
        self._watched: dict[str, tuple[SharedFiles, Blob]] = {}
        """Blobs that are fetched now with neighbours."""
        self._offered: set[tuple[bytes, str]] = set()
        self._server: LanServer | None = None
        self._sent_before = 0
        """By servers that have been stopped."""
        self._serving: asyncio.Task[None] | None = None
        self._beacons: BeaconSocket | None = None
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        """Set when a part comes, and replaced."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._announced_at = self._answered_at = float("-inf")

    # -- projects ---------------------------------------------------------------------------

    def join(self, files: SharedFiles) -> None:
        """Share a project's files from now on, once it has its members' key."""
        self._files.append(files)
        self._changed.set()

    def leave(self, files: SharedFiles) -> None:
        """Share them no more."""
        if files in self._files:
            self._files.remove(files)

    def look_again(self) -> None:
        """A key, a preference or a reading has changed."""
        self._changed.set()

    @property
    def neighbours(self) -> int:
        """How many agents near by have a project in common."""
        return len(self._table.sharing(self._project_keys(), asyncio.get_running_loop().time()))

    def with_key(self, key: bytes) -> list[Neighbour]:
        """Return the agents near by that have a key of households."""
        return self._table.sharing([key], asyncio.get_running_loop().time())

    def ask_around(self) -> None:
        """Ask the agents near by to say where they are, at once."""
        self._announce(asks=True)

    @property
    def sent_bytes(self) -> int:
        """What neighbours got from here since the agent started."""
        return self._sent_before + (0 if self._server is None else self._server.sent)

    @property
    def port(self) -> int:
        """Where this agent answers its neighbours; 0: it does not."""
        return 0 if self._server is None else self._server.port

    def part_came(self) -> None:
        """A part of a blob is here now: neighbours who wait for it are answered."""
        self._news.set()
        self._news = asyncio.Event()

    # -- what neighbours have ---------------------------------------------------------------

    async def offers(self, files: SharedFiles, blob: Blob, also: Sequence[str]) -> list[Offer]:
        """Return the neighbours that have a blob or fetch it, too; others may join later.

        `also`: blobs that are wanted after this one, which are asked for in the same request.
        """
        if self._server is None or not self._shares:
            return []
        loop = asyncio.get_running_loop()
        now = loop.time()
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

    def _nearest(self, files: SharedFiles, digest: str) -> list[PeerSource]:
        """Return the neighbours to ask: where there are many, others for each blob."""
        now = asyncio.get_running_loop().time()
        near = [
            one
            for one in self._table.sharing(files.lan_keys, now)
            if not self._standings.is_shunned(one.url, now)
        ]
        near.sort(key=lambda one: hashlib.sha256(one.peer + digest.encode()).digest())
        return [self._source(one, files.lan_keys) for one in near[:_ASKED]]

    def _source(self, neighbour: Neighbour, keys: Sequence[bytes]) -> PeerSource:
        key = next(key for key in keys if key in neighbour.keys)
        source = self._sources.get((neighbour.peer, key))
        if source is None or source.name != neighbour.url:
            source = PeerSource(neighbour, key, (self._peer, self.port), self._network, self._clock)
            self._sources[neighbour.peer, key] = source
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
            return owner(self._members(digest), digest, number) == peer

        def whole() -> bool:
            held = self._held.get((peer, digest))
            return held is not None and (held.whole or (alone and bool(held.parts)))

        return Offer(source, can, soon, whole)

    def _members(self, digest: str) -> list[bytes]:
        """Return who fetches a blob now: this agent, and neighbours."""
        others = [p for (p, d), held in self._held.items() if d == digest and self._fetches(held)]
        return [self._peer, *others]

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

    def _asked_by(self, asker: Asker, digests: Sequence[str]) -> None:
        """A neighbour wants blobs: it is near, and fetches them now."""
        now = asyncio.get_running_loop().time()
        before = self._table.find(asker.peer)
        keys = {asker.key} | (set(before.keys) if before else set())
        neighbour = Neighbour(asker.peer, asker.address, asker.port, tuple(keys), now)
        self._table.heard(neighbour)
        first = digests[:1]  # the others come after it
        for digest in first:
            held = self._state(asker.peer, digest)
            held.wanted_at = now
        if len(self._held) > _MOST_HELD:
            self._held = {
                pair: held
                for pair, held in self._held.items()
                if pair[1] in self._watched or now - held.wanted_at < _WANTED_SECONDS
            }
            if len(self._held) > 2 * _MOST_HELD:  # somebody asks for anything
                self._held.clear()
        source = self._source(neighbour, [asker.key])
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

    # -- announcing -------------------------------------------------------------------------

    async def run(self) -> None:
        """Share while it is allowed, until cancelled."""
        try:
            while True:
                self._changed.clear()
                wait = await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
        finally:
            await self._stop()

    async def _look(self) -> float:
        """Start or stop, announce this agent; return the seconds until the next look."""
        shares = bool(self._project_keys()) and may_share(self._read(), self._preferences())
        if shares != self._shares:
            await self._stop()  # and begin again: what was shared is not any more, or is now
            self._shares = shares
        if not self._keys():
            await self._stop()
            return _LOOK_SECONDS
        begins = self._server is None
        if begins:
            try:
                await self._start()
            except OSError as error:
                _LOG.info("lan", extra={"problem": str(error)})
                await self._stop()
                return _RETRY_SECONDS
        now, interval = asyncio.get_running_loop().time(), beacon_interval(len(self._table))
        if begins or now - self._announced_at >= interval:
            self._announced_at = now
            self._announce(asks=begins)
        return max(1.0, self._announced_at + interval - now)

    async def _start(self) -> None:
        self._beacons = BeaconSocket(self._heard)
        await self._beacons.open()
        self._server = LanServer(
            self._peer,
            lambda: self._files if self._shares else [],
            self._network.upload,
            self._clock,
            self._asked_by,
            lambda digest: digest in self._about,
            lambda: self._news,
            self._household,
        )
        self._serving = asyncio.create_task(self._server.run())
        _LOG.info("lan", extra={"port": self._server.port})

    async def _stop(self) -> None:
        if self._beacons is not None:
            self._beacons.close()
            self._beacons = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None and self._serving is not None:
            self._server.stop()
            self._sent_before += self._server.sent
            self._server = None
            await self._serving
        for source in self._sources.values():
            await source.close()
        self._sources.clear()
        self._held.clear()
        self._watched.clear()

    def _announce(self, *, asks: bool) -> None:
        if self._beacons is not None and self._server is not None:
            beacon = Beacon(self._peer, self._server.port, int(self._clock()), asks)
            self._beacons.send(write_beacon(beacon, self._keys()))

    def _heard(self, packet: bytes, address: str) -> None:
        try:
            beacon, common = read_beacon(packet, self._keys(), self._clock())
        except ValueError:
            return
        if beacon.peer == self._peer:
            return
        now = asyncio.get_running_loop().time()
        self._table.heard(Neighbour(beacon.peer, address, beacon.port, tuple(common), now))
        # One answer for all who begin at once: a room that is switched on is no storm.
        if common and beacon.asks and now - self._answered_at > _REFRESH_SECONDS:
            self._answered_at = now
            self._announce(asks=False)

    def _keys(self) -> list[bytes]:
        """Return what beacons are made with: of a household first, since there is a most."""
        ours = [] if self._household is None else self._household.beacon_keys
        return [*ours, *(self._project_keys() if self._shares else ())]

    def _project_keys(self) -> list[bytes]:
        return list(dict.fromkeys(key for one in self._files for key in one.lan_keys))

    def _spawn(self, work: Coroutine[None, None, None], name: str = "") -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_once(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if all(task.get_name() != name for task in self._tasks):
            self._spawn(work(), name)
