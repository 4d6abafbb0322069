"""A chunk's view of a model: which tensors, or which of their numbers, it trains.

Everything that a unit of a chunk sends and that is done with it (encoding, comparing, combining)
goes by `ChunkView.model`, as that of the whole model goes by the model itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.chunk import FULL, kept_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.chunk import Axis, Chunk, Window
    from pleb_shared.protocol.project import ModelSpec, ProjectMetadata, TensorSpec
    from pleb_shared.tensors.layout import Tensors

__all__ = ["ChunkView", "chunk_view", "held_numbers", "norms_of_chunk", "view_of"]


@dataclass(frozen=True)
class ChunkView:
    """The tensors of a model as a chunk has them; `chunk` None: the whole model."""

    whole: ModelSpec
    chunk: Chunk | None
    model: ModelSpec
    """What a delta of it holds: its parameters, in their narrowed shapes, and its buffers."""
    frozen: list[TensorSpec]
    """Parameters of the whole model that it reads and does not train."""
    buffers: list[TensorSpec]
    """Of its graph: those of the whole model, in their narrowed shapes."""
    _axes: dict[str, list[tuple[Window, Axis]]]

    @property
    def base_tensors(self) -> list[TensorSpec]:
        """The specs of what its graph reads and does not change, in the graph's order."""
        return [*self.frozen, *self.whole.base_tensors]

    def taken(self, tensors: Tensors, version: int) -> Tensors:
        """Return those of `tensors` that the chunk trains or writes, narrowed.

        `tensors` have the shapes of the whole model's specs; those that it lacks are left out. What
        is not narrowed is not copied.
        """
        names = [*self.model.parameters, *self.buffers]
        return {
            spec.name: self.narrowed(spec.name, tensors[spec.name], version)
            for spec in names
            if spec.name in tensors
        }

    def is_narrowed(self, name: str) -> bool:
        """Whether the chunk has only a part of the tensor's numbers."""
        return name in self._axes

    def narrowed(self, name: str, array: NDArray[Any], version: int) -> NDArray[Any]:
        """Return those numbers of a tensor of the whole model that the chunk of `version` has."""
        places = self.places(name, array.shape, version)
        return array if places is None else np.ascontiguousarray(array[places])

    def places(
        self, name: str, shape: tuple[int, ...], version: int
    ) -> tuple[NDArray[np.intp], ...] | None:
        """Return what indexes a tensor [*shape] to narrow it; None: the chunk has all of it."""
        if name not in self._axes:
            return None
        chosen = [np.arange(size) for size in shape]
        for window, axis in self._axes[name]:
            chosen[axis.dimension] = _places(window, axis, version)
        return np.ix_(*chosen)


def chunk_view(metadata: ProjectMetadata, chunk: str) -> ChunkView:
    """Return the view of the project's chunk of that name.

    Raises:
        Refusal: `malformed`: the project has no such chunk, or its windows do not fit the model.
    """
    if chunk == FULL:
        return view_of(metadata.model, None)
    for one in metadata.chunks:
        if one.name == chunk:
            return view_of(metadata.model, one)
    names = ", ".join([FULL, *(one.name for one in metadata.chunks)])
    message = f"The project has no chunk {chunk!r}; there are {names}."
    raise Refusal(RefusalCode.MALFORMED, message)


def view_of(model: ModelSpec, chunk: Chunk | None) -> ChunkView:
    """Return a chunk's view of `model`; None: the whole model's.

    Raises:
        Refusal: `malformed`: it names a tensor that the model does not train, or a window does not
            fit a tensor's shape.
    """
    if chunk is None:
        return ChunkView(model, None, model, [], model.buffers, {})
    return _known_view(_Same(model), _Same(chunk))


class _Same:
    """A value that is compared by identity: specs may be large, and are never changed."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=16)
def _known_view(model_key: _Same, chunk_key: _Same) -> ChunkView:
    model: ModelSpec = model_key.value
    chunk: Chunk = chunk_key.value
    trained = set(chunk.parameters)
    parameters = [spec for spec in model.parameters if spec.name in trained]
    if [spec.name for spec in parameters] != chunk.parameters:
        raise _unfit(chunk, "trains parameters that the model lacks, or not in the model's order")
    axes = _axes_by_tensor(model, chunk)
    narrow = [_narrowed_spec(spec, axes.get(spec.name, [])) for spec in parameters]
    buffers = [_narrowed_spec(spec, axes.get(spec.name, [])) for spec in model.buffers]
    sent = [] if chunk.windows else buffers
    return ChunkView(
        whole=model,
        chunk=chunk,
        model=msgspec.structs.replace(model, parameters=narrow, buffers=sent, base=None),
        frozen=[spec for spec in model.parameters if spec.name not in trained],
        buffers=buffers,
        _axes=axes,
    )


def _axes_by_tensor(model: ModelSpec, chunk: Chunk) -> dict[str, list[tuple[Window, Axis]]]:
    """Return the windows over each tensor, checked against its shape."""
    trained = set(chunk.parameters)
    shapes = {spec.name: spec.shape for spec in _named(model, trained)}
    axes: dict[str, list[tuple[Window, Axis]]] = {}
    for window in chunk.windows:
        for axis in window.axes:
            shape = shapes.get(axis.tensor)
            if shape is None:
                raise _unfit(chunk, f"narrows {axis.tensor!r}, which it does not train")
            numbers = axis.blocks * window.units * axis.size
            if axis.dimension >= len(shape) or shape[axis.dimension] != numbers:
                raise _unfit(
                    chunk,
                    f"narrows dimension {axis.dimension} of {axis.tensor!r} as {numbers} numbers, "
                    f"but the tensor has shape {shape}",
                )
            found = axes.setdefault(axis.tensor, [])
            if any(other.dimension == axis.dimension for _, other in found):
                raise _unfit(chunk, f"narrows a dimension of {axis.tensor!r} twice")
            found.append((window, axis))
    return axes


def _named(model: ModelSpec, trained: Iterable[str]) -> list[TensorSpec]:
    return [spec for spec in model.parameters if spec.name in trained] + list(model.buffers)


def _narrowed_spec(spec: TensorSpec, axes: list[tuple[Window, Axis]]) -> TensorSpec:
    shape = list(spec.shape)
    for window, axis in axes:
        shape[axis.dimension] = axis.blocks * window.kept * axis.size
    return msgspec.structs.replace(spec, shape=shape) if axes else spec


def _places(window: Window, axis: Axis, version: int) -> NDArray[np.intp]:
    """Return the places of the window's numbers in a dimension [blocks * units * size]."""
    units = np.array(kept_units(window, version), np.intp)
    blocks = np.arange(axis.blocks)[:, None, None] * window.units * axis.size
    return (blocks + units[None, :, None] * axis.size + np.arange(axis.size)).reshape(-1)


def _unfit(chunk: Chunk, what: str) -> Refusal:
    return Refusal(RefusalCode.MALFORMED, f"The chunk {chunk.name!r} {what}: publish it again.")


def norms_of_chunk(norms: Sequence[float], view: ChunkView) -> tuple[float, ...]:
    """Return the norms of the chunk's parameters from those of the whole model's; () stays ().

    Those of a narrowed tensor are estimated: its numbers are as long on average as all of it.
    """
    if view.chunk is None or not norms:
        return tuple(norms)
    specs = {spec.name: spec for spec in view.model.parameters}
    found = []
    for norm, whole in zip(norms, view.whole.parameters, strict=True):
        if whole.name in specs:
            share = math.prod(specs[whole.name].shape) / max(1, math.prod(whole.shape))
            found.append(norm * math.sqrt(share))
    return tuple(found)


def held_numbers(view: ChunkView) -> int:
    """Return how many numbers of the model's parameters the chunk trains."""
    return sum(math.prod(spec.shape) for spec in view.model.parameters)
