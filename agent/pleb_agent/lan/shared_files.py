"""What a project passes on to neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pleb_agent.blobs.source import Offer
    from pleb_agent.client.http import Traffic
    from pleb_shared.protocol.unit import Blob

__all__ = ["Holding", "SharedFiles"]


@dataclass(frozen=True)
class Holding:
    """A blob of which at least some parts are here, or will be.

    `missing`: the numbers of those that are not, which changes as they come.
    """

    blob: Blob
    missing: Collection[int]
    read: Callable[[int], bytes]
    """Returns a part that is here. Raises `CorruptBlobError`, `ValueError`: not any more."""
    leaves: Callable[[], list[bytes] | None]
    brings_in: Callable[[], set[int]] = set
    """Returns the parts that are read from other than neighbours now."""


class SharedFiles(Protocol):
    """One project's files, as neighbours may have them."""

    @property
    def lan_keys(self) -> Sequence[bytes]:
        """The keys of its members, the newest first; none: nothing is shared."""

    @property
    def traffic(self) -> Traffic:
        """Where the bytes are counted that go over the internet."""

    def count_sent(self, amount: int) -> None:
        """So many bytes of its blobs went over the internet."""

    def holding(self, digest: str) -> Holding | None:
        """Return what is here of a blob of this project; None: nothing of it, or no such blob.

        It may hash a file that has changed on the disk: call it in a thread.
        """

    def add_offer(self, digest: str, offer: Offer) -> None:
        """Let a neighbour send parts of a blob that is being fetched."""
