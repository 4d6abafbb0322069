"""Recompute versions from the log alone: `pleb-coordinator model verify`.

From version 0 on, as long as all results are kept. Where they are not, recomputing restarts at the
next version whose tensors and outer state are: those are compared with the digest in the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pleb_coordinator.aggregation.chunked import chunks_of
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.core.planning import is_warm_start
from pleb_coordinator.core.records import Kept
from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.tensors.layout import Tensors, load_tensors, version_digest
from pleb_shared.tensors.version import read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from pleb_coordinator.aggregation.combine import Encoded
    from pleb_coordinator.aggregation.noise import NoiseKey
    from pleb_coordinator.core.records import VersionInput, VersionRow
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["How", "Recomputed", "recompute"]


class How(StrEnum):
    """What was done to verify a version."""

    RECOMPUTED = "recomputed"
    """From the version before it, or version 0 itself."""
    READ = "read"
    """Its tensors are those that the log names; the results that made it, its predecessor, or the
    secret of its noise, are not kept."""
    NOT_KEPT = "not_kept"
    """Nothing: only its row is kept."""


@dataclass(frozen=True)
class Recomputed:
    """A version's digest in the log, and the one that its inputs give."""

    number: int
    recorded: str
    found: str
    """Empty: its tensors are not kept."""
    how: How = How.RECOMPUTED

    @property
    def matches(self) -> bool:
        """Whether the version is what the log says."""
        return self.how is How.NOT_KEPT or self.recorded == self.found


def recompute(
    versions: Iterable[VersionRow],
    metadata_at: Callable[[int], ProjectMetadata],
    blob: Callable[[str], bytes],
    delta: Callable[[int], Encoded],
    *,
    restored: Collection[int] = (),
    noise_key: NoiseKey | None = None,
) -> Iterator[Recomputed]:
    """Yield every version of an epoch, recomputed; `versions` must begin with version 0.

    Args:
        versions: the rows in order.
        metadata_at: gives metadata by its number.
        blob: gives a blob by its digest.
        delta: gives the bytes of an assignment's delta.
        restored: numbers of versions that later ones restore, whose outer state is kept for them.
        noise_key: gives the noise of versions that have some; without it, or with another one,
            those are read.

    Raises:
        EncodingError: bytes in the log are not those whose digest was recorded.
        Refusal: `unknown_blob`: bytes are missing.
    """
    version: Tensors = {}
    state: OuterState | None = None
    kept: dict[int, tuple[Tensors, OuterState]] = {}
    for row in versions:
        metadata, how = metadata_at(row.metadata_number), How.RECOMPUTED
        noise = noise_key.recorded_seed(metadata, row) if noise_key else None
        if row.number == 0:
            version = load_tensors(blob(metadata.model.initial.digest))
            state = OuterState.initial(version, metadata.model)
            found = version_digest(version, metadata.model)
        elif row.kept is Kept.LISTED:
            state = None
            yield Recomputed(row.number, row.digest, "", How.NOT_KEPT)
            continue
        elif row.restores in kept:
            version, state = kept[row.restores]
            found = version_digest(version, metadata.model)
        elif (
            state is None
            or row.kept is not Kept.EXACT
            or row.restores is not None
            or (metadata.privacy is not None and noise is None)
        ):
            version, state = _read(row, metadata, blob)
            found = version_digest(version, metadata.model)
            how = How.READ
        else:
            deltas = [(_checked(entry, delta), entry.weight) for entry in row.inputs]
            warm_start = is_warm_start(row.inputs)
            chunks = chunks_of(row.inputs, row.number - 1)
            made = next_version(
                version,
                state,
                deltas,
                metadata,
                warm_start=warm_start,
                chunks=chunks,
                noise=noise,
            )
            version, state, found = made.version, made.state, made.digest
        if row.number in restored and state is not None:
            kept[row.number] = version, state
        yield Recomputed(row.number, row.digest, found, how)


def _read(
    row: VersionRow, metadata: ProjectMetadata, blob: Callable[[str], bytes]
) -> tuple[Tensors, OuterState | None]:
    """Return the tensors of a version as hosts build it, with its outer state if that is kept."""
    version = read_version(row.readable_source, metadata, blob)
    return version, OuterState.from_bytes(blob(row.outer_state)) if row.outer_state else None


def _checked(entry: VersionInput, delta: Callable[[int], Encoded]) -> Encoded:
    data = delta(entry.assignment)
    if digest_of(data) != entry.digest:
        message = f"The delta of assignment {entry.assignment} is not the one that was applied."
        raise EncodingError(RefusalCode.WRONG_DIGEST, message)
    return data
