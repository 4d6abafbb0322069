"""One attached project while the agent runs: its trust, keys, connection and patience."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.cache.shard_cipher import ShardCipher
from pleb_agent.core.backoff import BACKOFF
from pleb_agent.core.trust import TrustedProject
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.ports import Clock
    from pleb_shared.protocol.project import ProjectMetadata, ShardList
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Unit

__all__ = ["Session"]

_MOST_FETCHED: Final = 256


@dataclass
class Session:
    """A project's live side. `next_look_at` counts on the event loop's clock, in seconds."""

    project: int
    name: str
    trust: TrustedProject
    client: CoordinatorClient
    host_key: SigningKey
    cipher: ShardCipher
    """Of this project's shards on the disk; it ends with the host key."""
    next_look_at: float = 0.0
    failures: int = 0
    failed_units: int = 0
    problem: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One request at a time: sequence numbers go out in order."""
    errand: asyncio.Task[Any] | None = None
    """Network work under way, or done and not looked at yet (`loop.errands`)."""
    fetched: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_FETCHED))
    """Digests of public blobs that this project's units needed since the process began."""
    shards: tuple[str, ShardList] | None = None
    """The shard list that was read last, by its blob's digest."""

    @classmethod
    def open(cls, row: ProjectRow, key: SigningKey, client: CoordinatorClient) -> Session:
        """Return the live side of a project; its metadata still has to be loaded."""
        trust = TrustedProject(row.name, row.attach_link.root, row.host, row.memory)
        return cls(row.id, row.name, trust, client, key, ShardCipher(key.to_bytes()))

    @property
    def is_busy(self) -> bool:
        """Whether an errand is under way."""
        return self.errand is not None and not self.errand.done()

    @property
    def metadata(self) -> ProjectMetadata:
        """The newest accepted metadata."""
        return self.trust.metadata

    @property
    def loaded(self) -> bool:
        """Whether metadata was accepted since the process began."""
        return self.trust.is_loaded

    def load_metadata(self, row: ProjectRow, clock: Clock) -> None:
        """Accept the metadata that the journal has.

        Raises:
            TrustError: its delegation has ended meanwhile; newer metadata is needed.
        """
        self.trust.update_metadata(row.metadata, clock())

    async def refresh_metadata(self, journal: Journal, clock: Clock) -> bool:
        """Get the newest metadata from the coordinator; return whether it is new."""
        before = self.trust.memory.metadata_number
        envelope = await self.client.metadata(self.name)
        self.trust.update_metadata(envelope, clock())
        journal.set_metadata(self.project, envelope, self.trust.memory)
        return self.trust.memory.metadata_number > before

    def samples_of(self, unit: Unit) -> int:
        """Return how many training examples a unit goes through."""
        if unit.kind is UnitKind.EVALUATE or not self.loaded:
            return 0
        return unit.local_steps * self.metadata.training.batch_examples

    def note_fetched(self, digest: str) -> None:
        """A unit needed this public blob."""
        if digest not in self.fetched:
            self.fetched.append(digest)

    def count_traffic(self, journal: Journal, now: float) -> None:
        """Count the bytes that went over the network since the last call."""
        received, sent = self.client.traffic.take()
        if received or sent:
            journal.count(self.project, now, bytes_received=received, bytes_sent=sent)

    def succeeded(self) -> None:
        """The coordinator answered as it should."""
        self.failures = 0
        self.problem = ""

    def failed(
        self, problem: str, now: float, draw: float, retry_after_seconds: float | None = None
    ) -> float:
        """Note a failure; return the seconds until the next try."""
        self.failures += 1
        self.problem = problem
        delay = BACKOFF.delay_seconds(self.failures, draw, retry_after_seconds)
        self.next_look_at = now + delay
        return delay
