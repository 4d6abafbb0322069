"""Names of the store in one place, for modules that have not moved to their own yet."""

from __future__ import annotations

from pleb_coordinator.core.records import StoredDelta
from pleb_coordinator.store.assignments import Commitment, Judgement, Seeker
from pleb_coordinator.store.hosts import NewHost, Seen
from pleb_coordinator.store.transaction import Store, Transaction

__all__ = [
    "Commitment",
    "Judgement",
    "NewHost",
    "Seeker",
    "Seen",
    "Store",
    "StoredDelta",
    "Transaction",
]
