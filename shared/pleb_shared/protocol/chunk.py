"""Chunks: parts of a model that a unit can train where the whole model does not fit.

`layers`: some parameters are trained and sent, the others stay as they are. `width`: a narrower
model, made of some columns, heads or channels of each layer; which ones, its *windows* say, and
they move on with every version, so that all are trained in turn (Alam et al. 2022, FedRolex).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Blob, Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FULL", "Axis", "Chunk", "Window", "kept_units", "needed_memory"]

FULL: Final = "full"
"""The chunk that is the whole model; every project has it."""

_SHARE_MORE: Final = 0.3
_MOST_ONCE_MORE: Final = 16 * 2**20
"""A forecast counts what is in use. The allocator was measured to keep up to 30 % of some hundred
megabytes beyond it, 44 % of 94 MB, and 60 % of 20 MB (decision 51)."""

TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Size = Annotated[int, msgspec.Meta(ge=1, le=LIMITS.tensor_elements)]


class Axis(Struct, frozen=True):
    """A dimension of a tensor that a window narrows.

    Its numbers are `blocks` times `units` times `size`, where the window has the units: the rows
    of a fused query, key and value projection are 3 blocks of heads of `size` rows each.
    """

    tensor: TensorName
    dimension: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.tensor_dimensions)]
    blocks: Size = 1
    size: Size = 1


class Window(Struct, frozen=True):
    """Columns, heads or channels of which a narrower model has `kept` of `units`."""

    units: Annotated[int, msgspec.Meta(ge=2, le=LIMITS.tensor_elements)]
    kept: Size
    axes: Annotated[list[Axis], msgspec.Meta(min_length=1, max_length=LIMITS.tensors)]

    def __post_init__(self) -> None:
        """Refuse a window that is wider than what it looks at."""
        if self.kept >= self.units:
            raise ValueError(f"a window keeps {self.kept} of {self.units} units")


class Chunk(Struct, kw_only=True, frozen=True):
    """A part of the model that units may train, with a graph of its own.

    Its graph has the chunk's trained tensors as parameters; what it does not train is part of its
    base: first the model's other parameters, in the model's order, then the model's base.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LIMITS.name_characters)]
    training_graph: Blob
    parameters: Annotated[list[TensorName], msgspec.Meta(min_length=1, max_length=LIMITS.tensors)]
    """Those that it trains, whole or in part, in the model's order."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**44)]
    """What a unit of it is predicted to take beyond an idle worker."""
    windows: Annotated[list[Window], msgspec.Meta(max_length=LIMITS.chunk_windows)] = []
    """Empty: it trains its parameters whole, and buffers as the whole model does. Otherwise what
    its narrower layers see is no measure for the whole model, and it sends no buffers."""


def kept_units(window: Window, version: int) -> Sequence[int]:
    """Return which units the narrower model of `version` has, in ascending order.

    The window moves on by its own width, modulo the number of units: after units / kept versions
    every unit was trained equally often.
    """
    first = version * window.kept % window.units
    return sorted((first + i) % window.units for i in range(window.kept))


def needed_memory(forecast_bytes: int) -> int:
    """Return the memory, in bytes, that a host must have for a unit of this forecast."""
    share = int(forecast_bytes * _SHARE_MORE)
    return forecast_bytes + share + min(share, _MOST_ONCE_MORE)
