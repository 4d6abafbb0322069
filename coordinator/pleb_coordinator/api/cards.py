"""Cards of showcases in memory: they are read for every view of a project's page."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pleb_coordinator.steps.access import blobs_of
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.showcase import Card

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps

__all__ = ["CardCache"]

_CACHED: Final = 32


class CardCache:
    """The cards that were read last, by digest: each is read once, however many look at it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Card] = OrderedDict()

    async def get(self, deps: Deps, project: Project, digest: str) -> Card:
        """Return the card of a project whose reader was let in.

        Raises:
            Refusal: `unknown_blob`, or as `ProjectBlobs.get`; the card was checked when it was
                published.
        """
        card = self._known.get(digest)
        if card is None:
            data = await asyncio.to_thread(blobs_of(deps, project).get, digest)
            card = strict_json.decode(data, Card, most_bytes=LIMITS.card_bytes)
        self._known[digest] = card
        self._known.move_to_end(digest)
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return card
