"""Recompute every version from version 0 and the log alone: `pleb-coordinator model verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.core.planning import is_warm_start
from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.tensors.layout import Tensors, load_tensors, version_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from pleb_coordinator.aggregation.combine import Encoded
    from pleb_coordinator.core.records import VersionInput, VersionRow
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["Recomputed", "recompute"]


@dataclass(frozen=True)
class Recomputed:
    """A version's digest in the log, and the one that its inputs give."""

    number: int
    recorded: str
    found: str

    @property
    def matches(self) -> bool:
        """Whether the version is what the log says."""
        return self.recorded == self.found


def recompute(
    versions: Iterable[VersionRow],
    metadata_at: Callable[[int], ProjectMetadata],
    blob: Callable[[str], bytes],
    delta: Callable[[int], Encoded],
    *,
    restored: Collection[int] = (),
) -> Iterator[Recomputed]:
    """Yield every version of an epoch, recomputed; `versions` must begin with version 0.

    Args:
        versions: the rows in order.
        metadata_at: gives metadata by its number.
        blob: gives a blob by its digest.
        delta: gives the bytes of an assignment's delta.
        restored: numbers of versions that later ones restore, whose outer state is kept for them.

    Raises:
        EncodingError: bytes in the log are not those whose digest was recorded.
        Refusal: `unknown_blob`: bytes are missing.
    """
    version: Tensors = {}
    state = OuterState({}, {})
    kept: dict[int, tuple[Tensors, OuterState]] = {}
    for row in versions:
        metadata = metadata_at(row.metadata_number)
        if row.number == 0:
            version = load_tensors(blob(metadata.model.initial.digest))
            state = OuterState.initial(version, metadata.model)
            found = version_digest(version, metadata.model)
        elif row.restores is not None:
            version, state = kept[row.restores]
            found = version_digest(version, metadata.model)
        else:
            deltas = [(_checked(entry, delta), entry.weight) for entry in row.inputs]
            warm_start = is_warm_start(metadata, row.number - 1)
            made = next_version(version, state, deltas, metadata, warm_start=warm_start)
            version, state, found = made.version, made.state, made.digest
        if row.number in restored:
            kept[row.number] = version, state
        yield Recomputed(row.number, row.digest, found)


def _checked(entry: VersionInput, delta: Callable[[int], Encoded]) -> Encoded:
    data = delta(entry.assignment)
    if digest_of(data) != entry.digest:
        message = f"The delta of assignment {entry.assignment} is not the one that was applied."
        raise EncodingError(RefusalCode.WRONG_DIGEST, message)
    return data
