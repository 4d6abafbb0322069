"""How this home reaches coordinators: with its keys, its clock and the user's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.app.clock import system_clock
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.network import NO_LIMITS, Network
from pleb_agent.journal.keys import KeyStore
from pleb_agent.loop.attach import Attaching

if TYPE_CHECKING:
    from pleb_agent.app.home import Home
    from pleb_agent.journal.journal import Journal
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["attaching", "client_for"]


def attaching(home: Home, journal: Journal, network: Network = NO_LIMITS) -> Attaching:
    """Return what attaches projects to this home."""
    return Attaching(
        journal, KeyStore(home.keys), system_clock, lambda link: client_for(link, network)
    )


def client_for(link: AttachLink, network: Network = NO_LIMITS) -> CoordinatorClient:
    """Return a client for a link's coordinator."""
    return CoordinatorClient(link.base_url, link.certificate, network=network)
