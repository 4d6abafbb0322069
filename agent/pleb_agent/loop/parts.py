"""What the agent's loop is made of, built by hand in the process's composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.cache.blob_cache import BlobCache
    from pleb_agent.core.readings import Readings
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.loop.attach import ClientFactory
    from pleb_agent.loop.ports import Clock, CurrentPreferences, Draw, Engine

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """Everything outside of the loop's own decisions."""

    journal: Journal
    cache: BlobCache
    keys: KeyStore
    engine: Engine
    preferences: CurrentPreferences
    read: Callable[[], Readings]
    make_client: ClientFactory
    work_dir: Path
    clock: Clock
    draw: Draw
    most_wait_seconds: float = 25.0
    """How long a request for work may be held by the coordinator."""
    rest_seconds: float = 300.0
    """How long a warm engine without work keeps its memory."""
