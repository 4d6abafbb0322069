"""Which key a blob is sealed with."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pleb_coordinator.steps.access import key_id_of

if TYPE_CHECKING:
    from pleb_coordinator.blobs.store import Blobs

__all__ = ["BlobKeys"]

_KEPT: Final = 65_536


class BlobKeys:
    """Which key a blob is sealed with: it never changes, so it is read once."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, bytes | None] = OrderedDict()

    def known(self, digest: str) -> bool:
        """Whether `of` answers at once."""
        return digest in self._known

    def of(self, digest: str) -> bytes | None:
        """Return the id of the blob's key; None: it is not sealed. Raises `Refusal`."""
        if digest not in self._known:
            self._known[digest] = key_id_of(self._blobs, digest)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[digest]
