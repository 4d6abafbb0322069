"""K encoded deltas become one, g, by the rule of the project, stretch by stretch.

The deltas are decoded a stretch of one parameter at a time, so that only g and a few MB are in
memory however many deltas there are; what was given is only read. Sums are taken in the order of
the deltas and in stretches whose length follows from K and the format alone. Every operation is
elementwise or a sum in a fixed order, so g is the same to the bit wherever it is computed.

    mean              sum_k w_k c_k d_k / sum_k w_k,  c_k = min(1, norm_band * median |d| / |d_k|)
    median            the middle of the K numbers of each coordinate (Yin et al. 2018)
    trimmed_mean      their mean without the t lowest and t highest  (Yin et al. 2018)
    centred_clipping  v <- v + sum_k w_k min(1, tau / |d_k - v|) (d_k - v) / sum_k w_k
                      from v = the median             (Karimireddy et al. 2021, equation 2)

For `median` and `trimmed_mean` every delta is one voice: what they withstand is a number of wrong
deltas, and a weight would be a larger voice.

Buffers have a rule of their own whatever the project's is: the mean, each buffer's deltas clipped
by their own norms.
"""

from __future__ import annotations

import math
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pleb_coordinator.aggregation.ranks import sort_rows
from pleb_shared.protocol.project import elements
from pleb_shared.tensors.distance import tensor_norm
from pleb_shared.tensors.format import buffer_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_shared.protocol.project import OuterStep, TensorSpec
    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = [
    "Cell",
    "Encoded",
    "Stretches",
    "cells_of",
    "clip_factors",
    "combined_buffers",
    "combined_cells",
    "combined_delta",
    "squared_norms",
    "trimmed_count",
]

Encoded = bytes | memoryview
"""A delta as its host sent it; a view may be of a file that is read as it is needed."""
Floats = NDArray[np.float32]

_CACHED_NUMBERS: Final = 2**19
"""2 MiB of float32: K rows of a stretch stay in a core's cache (measured: 16 x 32,768 is best)."""
_LONGEST_STRETCH: Final = 2**16
_FEWEST_NUMBERS: Final = 4096
"""In shorter rows the cost of a numpy call outweighs its work."""
_MOST_NUMBERS: Final = 2**22
"""16 MiB of float32, however many deltas there are."""


def clip_factors(norms: Sequence[float], band: float) -> list[float]:
    """Return c_k = min(1, band * median(norms) / norm_k) for each of the K norms.

    1 where a norm is 0. Honest deltas of a round lie well inside of the band and stay as they
    are; one huge delta cannot outweigh the others.
    """
    longest = band * statistics.median(norms)
    return [min(1.0, longest / norm) if norm > 0 else 1.0 for norm in norms]


def trimmed_count(deltas: int, fraction: float) -> int:
    """Return how many of each coordinate's numbers are left out at each end.

    At least `fraction` of them, so that as large a share of wrong deltas is out, and at most as
    many as leave one or two. A product that is whole but for rounding counts as whole.
    """
    return min(math.ceil(deltas * fraction - 1e-9), (deltas - 1) // 2)


def combined_delta(
    deltas: Sequence[Encoded], weights: Sequence[float], encoding: DeltaFormat, rule: OuterStep
) -> Tensors:
    """Return g: what the outer step moves along.

    Args:
        deltas: K > 0 encoded deltas, in the order in which they are added; they are only read.
        weights: w_k, the number of samples that delta k was trained on.
        encoding: the format of all of them.
        rule: the combination and its numbers.

    Returns:
        Every tensor of the model in its own shape: parameters as float32, buffers in the dtype of
        their changes (whole numbers and booleans as int64, rounded half to even).

    Raises:
        EncodingError: `wrong_size`.
    """
    cells, parameters = cells_of(deltas, encoding), encoding.model.parameters
    result = combined_cells(cells, weights, encoding.stretch_step, rule)
    result = {spec.name: result[spec.name].reshape(spec.shape) for spec in parameters}
    return result | combined_buffers(deltas, weights, encoding, rule.norm_band)


def cells_of(deltas: Sequence[Encoded], encoding: DeltaFormat) -> list[Cell]:
    """Return what all the deltas hold, a cell for each parameter, in order.

    Raises:
        EncodingError: `wrong_size`.
    """
    parts = [[part for _, part in encoding.parameter_parts(data)] for data in deltas]

    def cell(place: int, spec: TensorSpec) -> Cell:
        numbers = elements(spec)

        def read(k: int, start: int, stop: int) -> Floats:
            return encoding.decode_stretch(parts[k][place], numbers, start, stop)

        return Cell(spec.name, numbers, read)

    return [cell(place, spec) for place, spec in enumerate(encoding.model.parameters)]


class Cell(NamedTuple):
    """Numbers that all of K deltas hold."""

    name: str
    numbers: int
    read: Callable[[int, int, int], Floats]
    """Decodes numbers `start` to `stop` [stop - start] of delta k, given k, start and stop."""


def combined_cells(
    cells: Sequence[Cell], weights: Sequence[float], step: int, rule: OuterStep
) -> Tensors:
    """Return g of every cell [numbers], by its name, from K = len(weights) deltas.

    All cells together are one delta to the rule: norms and distances are over all of them.
    `step`: cells are read from multiples of it on.
    """
    result: Tensors = {cell.name: np.zeros(cell.numbers, np.float32) for cell in cells}
    stretches = Stretches(cells, len(weights), step)
    match rule.combination:
        case "mean":
            _mean(stretches, weights, rule, result)
        case "median":
            _median(stretches, result)
        case "trimmed_mean":
            _trimmed_mean(stretches, rule, result)
        case "centred_clipping":
            _centred_clipping(stretches, weights, rule, result)
    return result


class Stretches:
    """The cells of K deltas, a stretch at a time."""

    def __init__(self, cells: Sequence[Cell], count: int, step: int) -> None:
        self.count = count
        self._cells = cells
        numbers = max(
            _CACHED_NUMBERS // self.count, min(_FEWEST_NUMBERS, _MOST_NUMBERS // self.count)
        )
        self.longest = step * max(1, min(numbers, _LONGEST_STRETCH) // step)
        """Numbers in all stretches but the last of a cell."""

    def __iter__(self) -> Iterator[tuple[str, slice, Callable[[int], Floats]]]:
        """Yield a cell's name, where the stretch lies in it, and what decodes delta k's."""
        for cell in self._cells:
            for start in range(0, cell.numbers, self.longest):
                part = slice(start, min(start + self.longest, cell.numbers))
                yield cell.name, part, partial(_read, cell, part)

    def sorted_rows(self, first: int, last: int) -> Iterator[tuple[str, slice, list[Floats]]]:
        """Yield each stretch with rows `first` to `last` of its sorted numbers; see `sort_rows`."""
        work = np.empty((self.count + 1, self.longest), np.float32)
        for name, part, read in self:
            size = part.stop - part.start
            rows = [row[:size] for row in work]  # each [size]
            for k in range(self.count):
                rows[k][:] = read(k)
            yield name, part, sort_rows(rows[:-1], rows[-1], first, last)[first : last + 1]


def _read(cell: Cell, part: slice, k: int) -> Floats:
    """Return the cell's numbers [n] in `part` of delta k."""
    return cell.read(k, part.start, part.stop)


def _mean(stretches: Stretches, weights: Sequence[float], rule: OuterStep, result: Tensors) -> None:
    norms = [math.sqrt(square) for square in squared_norms(stretches)]
    factors = clip_factors(norms, rule.norm_band)
    shares = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
    total = float(sum(weights))
    sums = np.empty(stretches.longest, np.float64)
    terms = np.empty(stretches.longest, np.float64)
    for name, part, read in stretches:
        size = part.stop - part.start
        added, term = sums[:size], terms[:size]
        added[:] = 0
        for k, share in enumerate(shares):
            np.multiply(read(k), share, out=term, dtype=np.float64)
            added += term
        added /= total
        result[name][part] = added


def _median(stretches: Stretches, result: Tensors) -> None:
    middle = ((stretches.count - 1) // 2, stretches.count // 2)
    for name, part, rows in stretches.sorted_rows(*middle):
        out = result[name][part]
        if len(rows) == 1:
            out[:] = rows[0]
        else:
            np.add(rows[0], rows[1], out=out)
            out *= np.float32(0.5)
        out += np.float32(0)  # the sign of a zero is not defined


def _trimmed_mean(stretches: Stretches, rule: OuterStep, result: Tensors) -> None:
    left_out = trimmed_count(stretches.count, rule.trim_fraction)
    kept = stretches.count - 2 * left_out
    for name, part, rows in stretches.sorted_rows(left_out, stretches.count - left_out - 1):
        out = result[name][part]  # zeros
        for row in rows:
            out += row
        out /= np.float32(kept)


def _centred_clipping(
    stretches: Stretches, weights: Sequence[float], rule: OuterStep, result: Tensors
) -> None:
    """`result` is v throughout: each pass moves it and measures the distances to where it is then.

    tau is `clipping_radius` times the median distance to the first centre, so it follows the
    scale of the deltas, which falls as training goes on.
    """
    _median(stretches, result)
    distances = _distances(stretches, result, None)
    radius = rule.clipping_radius * statistics.median(distances)
    total = float(sum(weights))
    for _ in range(rule.clipping_iterations):
        shares = [
            weight / total * (min(1.0, radius / distance) if distance > 0 else 1.0)
            for weight, distance in zip(weights, distances, strict=True)
        ]
        distances = _distances(stretches, result, shares)


def _distances(
    stretches: Stretches, centre: Tensors, shares: Sequence[float] | None
) -> list[float]:
    """Move `centre` by sum_k shares_k (d_k - v) if there are shares; return all |d_k - v| then."""
    squares = [0.0] * stretches.count
    sums = np.empty(stretches.longest, np.float64)
    terms = np.empty(stretches.longest, np.float64)
    for name, part, read in stretches:
        size = part.stop - part.start
        v, added, term = centre[name][part], sums[:size], terms[:size]
        if shares is not None:
            added[:] = 0
            for k, share in enumerate(shares):
                np.subtract(read(k), v, out=term, dtype=np.float64)
                term *= share
                added += term
            added += v
            v[:] = added
        for k in range(stretches.count):
            np.subtract(read(k), v, out=term, dtype=np.float64)
            term *= term
            squares[k] += float(term.sum())
    return [math.sqrt(square) for square in squares]


def squared_norms(stretches: Stretches) -> list[float]:
    """Return the squared L2 norm of each of the K deltas over all cells."""
    squares = [0.0] * stretches.count
    for _, _, read in stretches:
        for k in range(stretches.count):
            squares[k] += _square(read(k))
    return squares


def _square(row: Floats) -> float:
    """Return the sum of squares of [n] in float64."""
    return float(np.square(row, dtype=np.float64).sum())


def combined_buffers(
    deltas: Sequence[Encoded], weights: Sequence[float], encoding: DeltaFormat, band: float
) -> Tensors:
    """Return the mean of every buffer's deltas [*shape], clipped by their own norms."""
    total = float(sum(weights))
    result: Tensors = {}
    for parts in zip(*(encoding.buffer_parts(data) for data in deltas), strict=True):
        spec = parts[0][0]
        dtype = buffer_dtype(spec)
        rows: list[NDArray[Any]] = [part.view(dtype) for _, part in parts]  # each [n]
        factors = clip_factors([tensor_norm(row) for row in rows], band)
        added = np.zeros(elements(spec), np.float64)
        for row, weight, factor in zip(rows, weights, factors, strict=True):
            added += row.astype(np.float64) * (weight * factor)
        added /= total
        if dtype.kind != "f":
            np.rint(added, out=added)
        result[spec.name] = added.astype(dtype).reshape(spec.shape)
    return result
