"""The outer step: a pure function of (version, outer state, ordered deltas).

    g      = the deltas (version - local), combined by the rule of the project: see `combine`,
             or, with [privacy], `private`
    M      = m M + g                            Nesterov momentum, as in DiLoCo
    theta* = theta* - lr (g + m M)              float32 masters (Douillard et al. 2023)
    q      = Q_down(theta* - theta)             what is published
    theta  = theta + dequantised q              what hosts have; the residue stays in theta*

A warm-start step is theta* = theta* - g, and leaves M alone. Buffers have no masters and no
momentum: their next value is the previous one minus the mean change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pleb_coordinator.aggregation.chunked import combined_chunks
from pleb_coordinator.aggregation.combine import Encoded, combined_delta
from pleb_coordinator.aggregation.private import private_delta
from pleb_shared.errors import InputError
from pleb_shared.tensors.format import difference_format, training_format
from pleb_shared.tensors.layout import Tensors, load_tensors, save_tensors, version_digest
from pleb_shared.tensors.packing import pack
from pleb_shared.tensors.version import apply_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.aggregation.chunked import Chunks
    from pleb_shared.protocol.project import ModelSpec, OuterStep, ProjectMetadata

__all__ = ["Made", "OuterState", "next_version"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OuterState:
    """The optimizer's durable memory: float32 arrays [*shape of the parameter], by its name."""

    masters: dict[str, Floats]
    """theta*: the exact parameters. Their difference to the version is the quantisation residue."""
    momentum: dict[str, Floats]
    """M."""

    @classmethod
    def initial(cls, version: Tensors, model: ModelSpec) -> OuterState:
        """Return the state at version 0: masters equal the version, momentum is zero.

        `version` has every tensor of the model, in its shape.
        """
        names = [spec.name for spec in model.parameters]
        return cls(
            {name: version[name].copy() for name in names},
            {name: np.zeros_like(version[name]) for name in names},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> OuterState:
        """Read what `to_bytes` wrote. Raises `EncodingError`."""
        masters: dict[str, Floats] = {}
        momentum: dict[str, Floats] = {}
        for key, array in load_tensors(data).items():
            kind, _, name = key.partition("/")
            (masters if kind == "master" else momentum)[name] = array
        return cls(masters, momentum)

    def to_bytes(self) -> bytes:
        """Return the state as safetensors; equal states give equal bytes."""
        named: Tensors = {f"master/{name}": array for name, array in self.masters.items()}
        named |= {f"momentum/{name}": array for name, array in self.momentum.items()}
        return save_tensors(named)


@dataclass(frozen=True)
class Made:
    """A next version and what makes it."""

    version: Tensors
    digest: str
    difference: bytes
    """In codec `down`, packed: decoded and added to the previous version it is `version`."""
    state: OuterState


def next_version(
    version: Tensors,
    state: OuterState,
    deltas: Sequence[tuple[Encoded, float]],
    metadata: ProjectMetadata,
    *,
    warm_start: bool,
    chunks: Chunks | None = None,
    noise: bytes | None = None,
) -> Made:
    """Return the version that follows `version`.

    Args:
        version: theta and the buffers: every tensor of the model, in its shape.
        state: theta* and M, for every parameter.
        deltas: encoded deltas with their weights (samples), in the order in which they are added.
        metadata: the model, the codecs, the outer optimizer's settings.
        warm_start: whether theta* moves by g itself.
        chunks: which parts of the model the deltas cover; None: each covers all of it.
        noise: the seed of the noise, where the metadata have [privacy].

    Raises:
        EncodingError: a delta does not fit the model, or the result is not finite.
        InputError: there must be noise, and there is no seed.
    """
    model = metadata.model
    encoded, weights = [data for data, _ in deltas], [weight for _, weight in deltas]
    untouched: Mapping[str, NDArray[np.bool_]] = {}
    if metadata.privacy is not None:
        if noise is None:
            message = (
                "The noise of this version cannot be drawn: this home has another secret than the "
                "one that it was made with. Restore the file secret of the home."
            )
            raise InputError(message)
        combined = private_delta(encoded, weights, metadata, metadata.privacy, noise)
    elif chunks is None or chunks.is_whole:
        combined = combined_delta(encoded, weights, training_format(metadata), metadata.outer)
    else:
        combined, untouched = combined_chunks(encoded, weights, chunks, metadata)
    stepped = _stepped(state, combined, metadata.outer, warm_start=warm_start)
    state = _but_for(untouched, state, stepped)
    change: Tensors = {
        spec.name: state.masters[spec.name] - version[spec.name] for spec in model.parameters
    }
    change |= {spec.name: np.asarray(-combined[spec.name]) for spec in model.buffers}
    published = difference_format(metadata)
    difference = published.encode(change)
    following = apply_difference(version, published.decode(difference), model)
    return Made(following, version_digest(following, model), pack(difference), state)


def _but_for(
    untouched: Mapping[str, NDArray[np.bool_]], before: OuterState, after: OuterState
) -> OuterState:
    """Return the state `after`, but `before` where nobody trained.

    `untouched` has [*shape] of the parameters of which some numbers were trained by nobody: neither
    they nor their momentum change.
    """
    masters, momentum = dict(after.masters), dict(after.momentum)
    for name, places in untouched.items():
        masters[name] = np.where(places, before.masters[name], masters[name])
        momentum[name] = np.where(places, before.momentum[name], momentum[name])
    return OuterState(masters, momentum)


def _stepped(
    state: OuterState, combined: Tensors, outer: OuterStep, *, warm_start: bool
) -> OuterState:
    """Return the state after one step; `combined` is g, for each parameter in its shape.

    Every operation is float32 and on its own (no fused multiply-add), so it is the same to the bit
    on every machine.
    """
    if warm_start:
        moved = {name: master - combined[name] for name, master in state.masters.items()}
        return OuterState(moved, state.momentum)
    m, rate = np.float32(outer.momentum), np.float32(outer.learning_rate)
    masters: dict[str, Floats] = {}
    momentum: dict[str, Floats] = {}
    for name, master in state.masters.items():
        g: Floats = combined[name]
        # M = m M + g, then theta* = theta* - lr (g + m M): Nesterov's look-ahead
        momentum[name] = np.asarray(m * state.momentum[name] + g, np.float32)
        masters[name] = np.asarray(master - rate * (g + m * momentum[name]), np.float32)
    return OuterState(masters, momentum)
