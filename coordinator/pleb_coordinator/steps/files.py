"""What several steps do about files: keep those that new rows need, let go of the others.

A blob may be removed once no row refers to it. So a step that is about to write a row first keeps
its blobs, in the same transaction: from then on they have a reference, and nothing removes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.blobs.signing import SIGNED_SECONDS
from pleb_coordinator.core.records import FileKind
from pleb_coordinator.store.background import CLAIM_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pleb_coordinator.core.records import VersionRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "BlobsSeen",
    "keep_blobs",
    "keep_less",
    "look_at_tombstones",
    "lost_blobs",
    "release_blobs",
    "remove_delta",
    "remove_upload",
]

_LONGEST_PART_SECONDS: Final = 3600.0
"""How long a part may be on its way that began while its signature was good."""


def lost_blobs(
    tx: Transaction, deps: Deps, digests: Iterable[str], there: Collection[str] = ()
) -> set[str]:
    """Keep blobs that a new row is to refer to; return those that are gone, or going.

    One that was there when it was written may have been removed since, if it was useless before.
    Of those that are known to be `there` (`BlobsSeen`) the files are not asked for.
    """
    wanted = set(digests)
    dying = tx.tombstones.revive_blobs(wanted)
    unsure = wanted - dying - set(there)
    return dying | (unsure - deps.blobs.sizes(unsure).keys())


@dataclass(frozen=True)
class BlobsSeen:
    """When blobs were looked for, and which of them had a tombstone then.

    A tombstone waits for `CLAIM_SECONDS` before its blob is deleted. So what had none was there for
    at least half of that time, even if the clocks of two machines differ by the other half.
    """

    at: float
    dying: frozenset[str]

    def still_there(self, digests: Collection[str], now: float) -> set[str]:
        """Return those of the blobs, all of which were there, that must be there now."""
        fresh = 0 <= now - self.at < CLAIM_SECONDS / 2
        return set(digests) - self.dying if fresh else set()


def look_at_tombstones(tx: Transaction, deps: Deps) -> BlobsSeen:
    """Return what there is to know of blobs before they are looked for."""
    return BlobsSeen(deps.clock(), frozenset(tx.tombstones.blobs()))


def keep_blobs(tx: Transaction, deps: Deps, digests: Iterable[str]) -> None:
    """Keep blobs that a new row is to refer to.

    Raises:
        LookupError: one is being deleted right now: the row must not be written.
    """
    if lost := lost_blobs(tx, deps, digests):
        message = f"Blob {min(lost)[:12]}... is being deleted: try again in a minute."
        raise LookupError(message)


def release_blobs(tx: Transaction, deps: Deps, digests: Iterable[str]) -> None:
    """Let blobs be removed that a row has needed, unless another one needs them.

    Not at once: a background process that found them may still be reading them.
    """
    for digest in digests:
        if not tx.references.needed(digest):
            tx.tombstones.add(FileKind.BLOB, digest, deps.clock() + CLAIM_SECONDS)


def keep_less(tx: Transaction, deps: Deps, row: VersionRow, **changes: Any) -> None:
    """Change what is kept of a version, and let go of the blobs that it does not need any more."""
    row = msgspec.structs.replace(row, **changes)
    own = {row.difference, row.outer_state, row.snapshot} - {""}
    size = sum(deps.blobs.sizes(own).values())
    released = tx.versions.keep_less(msgspec.structs.replace(row, blob_bytes=size))
    release_blobs(tx, deps, released)


def remove_upload(tx: Transaction, deps: Deps, token: str) -> None:
    """Remove the bytes of an upload that has ended: now, and again once no more can come.

    Its host may have signatures by which it puts parts into the bucket.
    """
    now = deps.clock()
    tx.tombstones.add(FileKind.UPLOAD, token, now)
    if deps.blobs.signer is not None:
        no_more_at = now + SIGNED_SECONDS + _LONGEST_PART_SECONDS
        tx.tombstones.add(FileKind.LATE_UPLOAD, token, no_more_at)


def remove_delta(tx: Transaction, deps: Deps, assignment: int) -> None:
    """Remove the bytes of a result."""
    stored = tx.assignments.delta(assignment)
    if stored is not None:
        tx.assignments.remove_delta(assignment)
        if stored.data is None:
            tx.tombstones.add(FileKind.DELTA, str(assignment), deps.clock() + CLAIM_SECONDS)
