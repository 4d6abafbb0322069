"""What sharing nearby and sharing on the internet have in common: projects, server and offers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from pleb_agent.lan.peer_blobs import PeerBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.blobs.source import Offer, SourceKind
    from pleb_agent.blobs.standing import Standings
    from pleb_agent.client.network import Network
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.lan.neighbours import Neighbour
    from pleb_agent.lan.server import Asker, BlobServer
    from pleb_agent.lan.shared_files import SharedFiles
    from pleb_shared.protocol.unit import Blob

__all__ = ["BlobSharing"]


class BlobSharing(ABC):
    """One for each agent. `peer`: 8 random bytes; projects `join` and `leave`."""

    def __init__(
        self,
        kind: SourceKind,
        peer: bytes,
        network: Network,
        standings: Standings,
        preferences: Callable[[], Preferences],
        read: Callable[[], Readings],
        clock: Callable[[], float],
    ) -> None:
        self._peer = peer
        self._network = network
        self._preferences = preferences
        self._read = read
        self._clock = clock
        self._files: list[SharedFiles] = []
        self._shares = False
        """Whether blobs are shared now."""
        self._server: BlobServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._sent_before = 0
        """By servers that have been stopped."""
        self._changed = asyncio.Event()
        self._blobs = PeerBlobs(
            peer, kind, network.direct(), standings, clock, self._port_for, self._near
        )

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
    @abstractmethod
    def neighbours(self) -> int:
        """How many other hosts are known now."""

    @property
    def sent_bytes(self) -> int:
        """What others got from here since the agent started."""
        return self._sent_before + (0 if self._server is None else self._server.sent)

    @property
    def port(self) -> int:
        """Where this agent answers others; 0: it does not."""
        return 0 if self._server is None else self._server.port

    # -- what others have -------------------------------------------------------------------

    async def offers(self, files: SharedFiles, blob: Blob, also: Sequence[str]) -> list[Offer]:
        """Return the hosts that have a blob or fetch it, too; others may join later.

        `also`: blobs that are wanted after this one, which are asked for in the same request.
        """
        if self._server is None or not self._shares:
            return []
        return await self._blobs.offers(files, blob, also)

    def part_came(self) -> None:
        """A part of a blob is here now: others who wait for it are answered."""
        self._blobs.part_came()

    def done(self, digest: str) -> None:
        """A blob is not fetched any more."""
        self._blobs.done(digest)

    @abstractmethod
    def _port_for(self, files: SharedFiles, asked: str) -> int:
        """Return where another host, at the address `asked`, can ask this one; 0: nowhere."""

    @abstractmethod
    def _near(self, files: SharedFiles) -> Sequence[Neighbour]:
        """Return who may be asked for a project's blobs."""

    @abstractmethod
    def _asked_by(self, asker: Asker, digests: Sequence[str]) -> None:
        """Another host wants blobs, and fetches them now."""

    # -- running ----------------------------------------------------------------------------

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

    @abstractmethod
    async def _look(self) -> float:
        """Start or stop; return the seconds until the next look."""

    def _serve(self, server: BlobServer) -> None:
        self._server = server
        self._serving = asyncio.create_task(server.run())

    async def _stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.stop()
            self._sent_before += self._server.sent
            self._server = None
            await self._serving
        await self._blobs.stop()
