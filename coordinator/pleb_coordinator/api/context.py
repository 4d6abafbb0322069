"""What every route uses; built once, in the composition root of the HTTP process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_coordinator.api.addresses import AddressPlaces
from pleb_coordinator.api.cards import CardCache
from pleb_coordinator.api.clock_watch import ClockWatch
from pleb_coordinator.api.known_hosts import KnownHosts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pleb_coordinator.api.blob_keys import BlobKeys
    from pleb_coordinator.api.counters import RequestCounters
    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.api.peers import Peers
    from pleb_coordinator.api.status import StatusCache
    from pleb_coordinator.api.waiting import Changes, Waiters
    from pleb_coordinator.blobs.parts import LeafCache
    from pleb_coordinator.home.downloads import Downloads
    from pleb_coordinator.home.models import ModelFiles
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.group_commit import GroupCommit
    from pleb_coordinator.store.transaction import Store

__all__ = ["MOST_DOWNLOADS", "MOST_DOWNLOADS_EACH", "Api"]

MOST_DOWNLOADS: Final = 256
MOST_DOWNLOADS_EACH: Final = 32
"""For one network address: a class may install at the same time."""


@dataclass(frozen=True)
class Api:
    """The HTTP process: its store, keys and counters. Everything runs in one event loop."""

    store: Store
    """Reads here; writes go through `commits`."""
    commits: GroupCommit
    deps: Deps
    links: LinkBase
    counters: RequestCounters
    changes: Changes
    waiters: Waiters
    statuses: StatusCache
    packages: Downloads
    """The agent's packages for volunteers."""
    models: ModelFiles
    releases: str
    """The address of a page that has more of them; empty: none."""
    closing: asyncio.Event
    """Set when the process stops: waiting requests are answered at once."""
    seconds_to_wait: Callable[[str], float]
    """Takes a token of an address's rate limit; returns the seconds to wait, 0 if there was one."""
    leaves: LeafCache
    blob_keys: BlobKeys
    peers: Peers
    """Hosts that share on the internet."""
    cards: CardCache = field(default_factory=CardCache)
    known_hosts: KnownHosts = field(default_factory=KnownHosts)
    clock_watch: ClockWatch = field(default_factory=lambda: ClockWatch(lambda _, __: None))
    listeners: AddressPlaces = field(default_factory=lambda: AddressPlaces(500, 50))
    """Event streams: a class may watch behind one address, and nobody can take all places."""
    downloads: AddressPlaces = field(
        default_factory=lambda: AddressPlaces(MOST_DOWNLOADS, MOST_DOWNLOADS_EACH)
    )
    """Packages that are being sent: slow clients must not take all connections from hosts."""
    uploads_busy: set[str] = field(default_factory=set)
    """Tokens of uploads that a part is being written to."""
