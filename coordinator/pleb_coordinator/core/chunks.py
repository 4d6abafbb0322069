"""Which chunk a host trains: the best one that fits into its memory and suits its link.

The whole model is best, then the project's chunks, the largest first. A unit belongs to no
chunk until a host gets it; from then on its checks and further tries are of the same chunk, and go
to hosts into whose memory it fits, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record
from pleb_shared.protocol.chunk import FULL, needed_memory
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import training_format

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Facts, Host, UnitRow
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "ChunkChoice",
    "Link",
    "best_chunk",
    "cost_of_chunk",
    "fits",
    "flops_of_chunk",
    "least_memory",
    "link_of",
    "room_for_chunks",
    "smaller_chunks",
    "whole_memory",
    "whole_steps",
    "why_chunk",
]

_LINK_SHARE: Final = 10.0
"""A unit should take this many times as long as to send its result."""
_WHOLE_SHARE: Final = 0.5
"""Of a round's units, for hosts that can train the whole model."""
_PATIENCE_UNITS: Final = 3.0
_PATIENCE_SECONDS: Final = 60.0
"""How long a unit is kept for them."""


class ChunkChoice(Record, frozen=True):
    """A chunk for a host."""

    name: str
    memory_bytes: int
    """What a host must have for it; 0: not known, so that every host is tried."""


def best_chunk(
    metadata: ProjectMetadata, memory_bytes: int | None, link: Link | None = None
) -> ChunkChoice | None:
    """Return the best chunk for a host with that much memory; None: not even the smallest fits.

    The first one that fits and whose delta does not take long to send, else the first one that
    fits. A host that does not say how much memory it has gets the whole model, as do all hosts of a
    project without chunks: its worker checks what it can do before it begins.
    """
    if not metadata.chunks or memory_bytes is None:
        known = whole_memory(metadata) if metadata.chunks else 0
        return ChunkChoice(FULL, known)
    whole = ChunkChoice(FULL, whole_memory(metadata))
    fitting = [
        choice
        for choice in (whole, *smaller_chunks(metadata, whole.memory_bytes))
        if choice.memory_bytes <= memory_bytes
    ]
    quick = (one for one in fitting if link is None or not link.is_slow(metadata, one.name))
    return next(quick, None) or next(iter(fitting), None)


class Link(Record, frozen=True):
    """How fast a host sends, and computes."""

    bytes_per_second: float
    step_seconds: float
    """Of the whole model."""
    costs: dict[str, float]
    """By a chunk's name, its FLOPs over those of the whole model."""

    def is_slow(self, metadata: ProjectMetadata, chunk: str) -> bool:
        """Whether to send a unit's delta takes more than a tenth of the time to compute it."""
        size = training_format(metadata, chunk).size
        computing = self.step_seconds * metadata.training.local_steps * self.costs[chunk]
        return _LINK_SHARE * size / self.bytes_per_second > computing


def link_of(host: Host, facts: Facts) -> Link | None:
    """Return what is known of the host's link; None: nothing."""
    if not host.upload_bytes_per_second or not host.seconds_per_step:
        return None
    costs = {name: cost_of_chunk(facts, name) for name in (FULL, *facts.chunk_flops)}
    return Link(host.upload_bytes_per_second, host.seconds_per_step, costs)


def smaller_chunks(metadata: ProjectMetadata, memory_bytes: int) -> list[ChunkChoice]:
    """Return the project's chunks for which a host needs less memory than that, largest first."""
    choices = [
        ChunkChoice(chunk.name, needed_memory(chunk.memory_bytes)) for chunk in metadata.chunks
    ]
    return [choice for choice in choices if choice.memory_bytes < memory_bytes]


def why_chunk(metadata: ProjectMetadata, facts: Facts, host: Host) -> str:
    """Return which chunk a host gets, and why, as a sentence."""
    if not metadata.chunks:
        return "the whole model: the project has no chunks"
    if host.memory_bytes is None:
        return "the whole model: the host does not say how much memory it has"
    has = f"a unit may take {host.memory_bytes >> 20} MiB there"
    needed = f"the whole model needs {_mib(whole_memory(metadata))}"
    best = best_chunk(metadata, host.memory_bytes, link_of(host, facts))
    if best is None:
        return f"none: {has}, and the smallest chunk needs {_mib(least_memory(metadata))}"
    if best.name == FULL:
        return f"the whole model: {has}, and {needed}"
    if best != best_chunk(metadata, host.memory_bytes):
        rate = (host.upload_bytes_per_second or 0.0) / 1e3
        return f"{best.name}: more would take long to send, at {rate:.3g} kB/s"
    return f"{best.name}, which needs {_mib(best.memory_bytes)}: {has}, and {needed}"


def whole_memory(metadata: ProjectMetadata) -> int:
    """Return the memory, in bytes, that a host must have for the whole model."""
    return needed_memory(metadata.limits.full_bytes)


def least_memory(metadata: ProjectMetadata) -> int:
    """Return the memory, in bytes, that a host of the project must have; 0: not known."""
    if not metadata.chunks:
        return 0
    least = min(chunk.memory_bytes for chunk in metadata.chunks)
    return min(needed_memory(least), needed_memory(metadata.limits.full_bytes))


def room_for_chunks(
    metadata: ProjectMetadata, given: int, strong_hosts: int, waited_seconds: float, usual: float
) -> bool:
    """Return whether one more unit of a round may be of a chunk.

    Small units are soon done, and could be the whole round: then nobody would train the rest of the
    model. So half of a round is for hosts that can train all of it, while there are any.

    Args:
        metadata: the project's.
        given: units of the round that are of a chunk already.
        strong_hosts: hosts that asked lately and have the memory for the whole model.
        waited_seconds: how long the unit has waited for one of them.
        usual: how long a unit takes the median host, in seconds.
    """
    if not strong_hosts or waited_seconds > _PATIENCE_UNITS * usual + _PATIENCE_SECONDS:
        return True
    return given < metadata.round.units - math.ceil(metadata.round.units * _WHOLE_SHARE)


def fits(unit: UnitRow, host: Host) -> bool:
    """Whether the host has the memory that the unit's chunk needs."""
    return host.memory_bytes is None or unit.memory_bytes <= host.memory_bytes


def cost_of_chunk(facts: Facts, chunk: str) -> float:
    """Return the FLOPs of a step of the chunk over those of the whole model's."""
    return flops_of_chunk(facts, chunk) / max(1, facts.flops_per_step)


def flops_of_chunk(facts: Facts, chunk: str) -> int:
    """Return the FLOPs of one step of the chunk, as counted from its graph."""
    return facts.flops_per_step if chunk == FULL else facts.chunk_flops[chunk]


def whole_steps(unit: UnitRow, facts: Facts) -> float:
    """Return how many steps of the whole model take as long as the unit's own.

    So hosts' speeds, which are all in seconds for a step of the whole model, say how long it takes.
    """
    if unit.kind is UnitKind.EVALUATE:
        return unit.local_steps
    return unit.local_steps * cost_of_chunk(facts, unit.chunk)


def _mib(size: int) -> str:
    return f"{-(-size >> 20)} MiB"
