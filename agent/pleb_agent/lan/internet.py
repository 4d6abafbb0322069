"""Sharing on the internet: with hosts that the coordinator names, if the user wants it.

Off by default, since the others see this PC's address. The coordinator learns at which port this
agent answers, tries whether that can be reached, and names it to others that share, too. One that
cannot be reached, behind most routers, takes and does not give. What is said and checked between
two agents is the same as on a local network.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.source import SourceKind
from pleb_agent.core.network_rules import may_share_on_internet
from pleb_agent.lan.blob_sharing import BlobSharing
from pleb_agent.lan.neighbours import Neighbour, Neighbours
from pleb_agent.lan.server import BlobServer
from pleb_shared.protocol.peers import LEAST_PORT, Sharing, public_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.blobs.standing import Standings
    from pleb_agent.client.network import Network
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.lan.server import Asker
    from pleb_agent.lan.shared_files import SharedFiles
    from pleb_shared.protocol.peers import Peer

__all__ = ["InternetSharing"]

_LOG: Final = logging.getLogger("pleb.agent")
_KEPT_SECONDS: Final = 2 * 3600.0
"""How long peers are asked after the coordinator named them."""
_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 300.0


class InternetSharing(BlobSharing):
    """Shares with hosts that coordinators name, and with those that ask."""

    def __init__(
        self,
        peer: bytes,
        network: Network,
        standings: Standings,
        preferences: Callable[[], Preferences],
        read: Callable[[], Readings],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(SourceKind.INTERNET, peer, network, standings, preferences, read, clock)
        self._named: dict[SharedFiles, tuple[float, Sequence[Peer]]] = {}
        """When the coordinator named whom."""
        self._reached: dict[SharedFiles, str] = {}
        """The address at which a coordinator reached this agent; empty: it could not."""
        self._askers = Neighbours()
        """Others that have asked for blobs and can be asked."""
        self._wanted_port: int | None = None

    def leave(self, files: SharedFiles) -> None:
        """Share them no more."""
        super().leave(files)
        self._named.pop(files, None)
        self._reached.pop(files, None)

    @property
    def sharing(self) -> Sharing | None:
        """What a coordinator is told; None: nothing is shared now."""
        if self._server is None:
            return None
        port = self.port if self.port >= LEAST_PORT else None
        return Sharing(peer=self._peer.hex(), port=port)

    def told(self, files: SharedFiles, peers: Sequence[Peer], reached: str | None) -> None:
        """A project's coordinator has named other hosts, and said where it reached this one."""
        if self._server is None or files not in self._files:
            return
        if peers:
            self._named[files] = asyncio.get_running_loop().time(), peers
        if reached is not None:
            self._reached[files] = reached

    @property
    def reached(self) -> str | None:
        """The address at which a coordinator reached this agent; empty: none did; None: unknown."""
        return max(self._reached.values(), default=None)

    @property
    def neighbours(self) -> int:
        """How many other hosts are known now."""
        return len({one.peer for files in self._files for one in self._near(files)})

    def _port_for(self, files: SharedFiles, asked: str) -> int:
        # It sees this one's address of the same kind, which may not be the one that is reached.
        own, other = public_address(self._reached.get(files, "")), public_address(asked)
        alike = own is not None and other is not None and own.version == other.version
        return self.port if alike else 0

    def _near(self, files: SharedFiles) -> list[Neighbour]:
        now, keys = asyncio.get_running_loop().time(), tuple(files.lan_keys)
        at, named = self._named.get(files, (float("-inf"), ()))
        found = {}
        for one in named if keys and now - at < _KEPT_SECONDS else ():
            where, peer = public_address(one.address), bytes.fromhex(one.peer)
            if where is not None and peer != self._peer:
                found[peer] = Neighbour(peer, str(where), one.port, keys[:1], now)
        for asker in self._askers.sharing(keys, now):
            found.setdefault(asker.peer, asker)
        return list(found.values())

    def _asked_by(self, asker: Asker, digests: Sequence[str]) -> None:
        """Another host wants blobs; it is asked for them, too, if it says that it answers."""
        where = public_address(asker.address)
        if where is None or not LEAST_PORT <= asker.port < 2**16 or asker.peer == self._peer:
            return
        files, now = asker.files[0], asyncio.get_running_loop().time()
        known = {one.peer: one for one in self._near(files)}
        if asker.peer not in known:
            one = Neighbour(asker.peer, str(where), asker.port, (asker.key,), now)
            self._askers.heard(one)
            known = {one.peer: one for one in self._askers.sharing([asker.key], now)}
        if asker.peer in known:  # where it was named, if it was
            self._blobs.asked_by(known[asker.peer], files, digests)

    async def _look(self) -> float:
        """Start or stop; return the seconds until the next look."""
        preferences = self._preferences()
        shares = may_share_on_internet(self._read(), preferences)
        shares = shares and any(one.lan_keys for one in self._files)
        moved = self._wanted_port != preferences.internet_port
        if self._server is not None and (not shares or moved):
            await self._stop()
        self._shares = shares
        if shares and self._server is None:
            self._wanted_port = preferences.internet_port
            try:
                self._start()
            except OSError as error:
                _LOG.info("internet", extra={"problem": str(error)})
                return _RETRY_SECONDS
        return _LOOK_SECONDS

    def _start(self) -> None:
        server = BlobServer(
            self._peer,
            lambda: self._files,
            self._network.upload,
            self._clock,
            self._asked_by,
            self._blobs,
            internet_port=self._wanted_port or 0,
        )
        self._serve(server)
        _LOG.info("internet", extra={"port": server.port})

    async def _stop(self) -> None:
        self._named.clear()
        self._reached.clear()
        await super()._stop()
