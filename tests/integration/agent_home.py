"""One agent's home around fakes of its coordinator and its engine, for the tests of its loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import replace

from msgspec.structs import replace as replace_struct

from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.http import Timeouts
from pleb_agent.client.network import Network
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Readings
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.lan.internet import InternetSharing
from pleb_agent.lan.sharing import LanSharing
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_agent.loop.attach import Attaching
from pleb_agent.loop.services import Services
from pleb_agent.loop.side_by_side import SideBySide
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine

CLOCK = time.time


class Agent:
    """One home; `loop` may be called again and again, as after a restart."""

    def __init__(self, home, engine=None) -> None:
        self.home = home
        self.engine = engine or FakeEngine()
        self.readings = Readings(now=0)
        self.preferences = Preferences()
        self.network = Network.following(lambda: self.preferences)
        self.most_wait_seconds = 0.5
        self.rest_seconds = 300.0
        (home / "work").mkdir(parents=True, exist_ok=True)
        self.journal = Journal(home / "journal.sqlite")
        self.cache = BlobCache(home / "cache", 10**7)
        self.lan: LanSharing | None = None
        self.internet: InternetSharing | None = None

    def share(self) -> LanSharing:
        """Share with the agents of the local network; `lan.run` has to run."""
        self.standings = Standings()
        self.lan = LanSharing(
            secrets.token_bytes(8),
            self.network,
            self.standings,
            lambda: self.preferences,
            lambda: self.readings,
            CLOCK,
        )
        return self.lan

    def share_on_internet(self) -> InternetSharing:
        """Share with hosts that the coordinator names; `internet.run` has to run."""
        self.preferences = replace_struct(self.preferences, internet_sharing=True)
        self.internet = InternetSharing(
            secrets.token_bytes(8),
            self.network,
            Standings(),
            lambda: self.preferences,
            lambda: self.readings,
            CLOCK,
        )
        return self.internet

    def make_client(self, link):
        return CoordinatorClient(
            link.base_url,
            link.certificate,
            timeouts=Timeouts(connect=1, silence=2),
            network=self.network,
        )

    async def attach(self, link):
        return await self.attaching().attach(link, invite=None, name="tester")

    def attaching(self) -> Attaching:
        return Attaching(self.journal, KeyStore(self.home / "keys"), CLOCK, self.make_client)

    def loop(self, units=None, listener=None) -> AgentLoop:
        return AgentLoop(self.services(), listener, units=units)

    def services(self) -> Services:
        return Services(
            journal=self.journal,
            cache=self.cache,
            keys=KeyStore(self.home / "keys"),
            engine=self.engine,
            preferences=lambda: self.preferences,
            read=lambda: self.readings,
            make_client=self.make_client,
            work_dir=self.home / "work",
            clock=CLOCK,
            draw=lambda: 0.0,
            most_wait_seconds=self.most_wait_seconds,
            rest_seconds=self.rest_seconds,
            lan=self.lan,
            internet=self.internet,
        )

    def side_by_side(self, engines, units=None, listener=None) -> SideBySide:
        """Return loops on this agent's engine, as the processor's, and `engines` by device."""
        main = self.services()
        others = [
            replace(main, engine=engine, device=name, work_dir=self.home / f"work-{name}")
            for name, engine in engines.items()
        ]
        return SideBySide([main, *others], listener, units=units)

    async def work(self, units, seconds=15):
        loop = self.loop(units)
        async with asyncio.timeout(seconds):
            await loop.run()
        return loop


@asynccontextmanager
async def attached(tmp_path, engine=None):
    coordinator = FakeCoordinator(CLOCK)
    agent = Agent(tmp_path, engine)
    async with serving(coordinator) as url:
        await agent.attach(coordinator.link(url))
        try:
            yield coordinator, agent
        finally:
            agent.journal.close()


def delivered(coordinator) -> list[int]:
    return [number for number in coordinator.given if coordinator.is_delivered(number)]


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
