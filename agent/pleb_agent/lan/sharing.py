"""LAN sharing: announces this agent, knows the others, and offers what they have.

It runs only while the user, the network and the power allow it and a project has members' keys.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.source import SourceKind
from pleb_agent.core.network_rules import may_share
from pleb_agent.lan.beacon import BeaconSocket
from pleb_agent.lan.blob_sharing import BlobSharing
from pleb_agent.lan.neighbours import Neighbour, Neighbours, beacon_interval
from pleb_agent.lan.server import BlobServer
from pleb_shared.protocol.lan import Beacon, read_beacon, write_beacon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.blobs.standing import Standings
    from pleb_agent.client.network import Network
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.lan.household import Household
    from pleb_agent.lan.server import Asker
    from pleb_agent.lan.shared_files import SharedFiles

__all__ = ["LanSharing"]

_LOG: Final = logging.getLogger("pleb.agent")
_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 300.0
_ANSWER_SECONDS: Final = 1.0
"""From one answer to those who ask where others are to the next."""


class LanSharing(BlobSharing):
    """Shares with agents that it hears; a household alone needs beacons and the server, too."""

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
        super().__init__(SourceKind.PEER, peer, network, standings, preferences, read, clock)
        self.received = 0
        """Bytes of blobs that neighbours have sent."""
        self._household = household
        self._table = Neighbours()
        self._beacons: BeaconSocket | None = None
        self._announced_at = self._answered_at = float("-inf")

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

    def _port_for(self, files: SharedFiles, asked: str) -> int:  # noqa: ARG002 - the interface's
        return self.port

    def _near(self, files: SharedFiles) -> list[Neighbour]:
        return self._table.sharing(files.lan_keys, asyncio.get_running_loop().time())

    def _asked_by(self, asker: Asker, digests: Sequence[str]) -> None:
        now = asyncio.get_running_loop().time()
        before = self._table.find(asker.peer)
        keys = {asker.key} | (set(before.keys) if before else set())
        neighbour = Neighbour(asker.peer, asker.address, asker.port, tuple(keys), now)
        self._table.heard(neighbour)
        self._blobs.asked_by(neighbour, asker.files[0], digests)

    # -- announcing -------------------------------------------------------------------------

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
        server = BlobServer(
            self._peer,
            lambda: self._files if self._shares else [],
            self._network.upload,
            self._clock,
            self._asked_by,
            self._blobs,
            self._household,
        )
        self._serve(server)
        _LOG.info("lan", extra={"port": server.port})

    async def _stop(self) -> None:
        if self._beacons is not None:
            self._beacons.close()
            self._beacons = None
        await super()._stop()

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
        if common and beacon.asks and now - self._answered_at > _ANSWER_SECONDS:
            self._answered_at = now
            self._announce(asks=False)

    def _keys(self) -> list[bytes]:
        """Return what beacons are made with: of a household first, since there is a most."""
        ours = [] if self._household is None else self._household.beacon_keys
        return [*ours, *(self._project_keys() if self._shares else ())]

    def _project_keys(self) -> list[bytes]:
        return list(dict.fromkeys(key for one in self._files for key in one.lan_keys))
