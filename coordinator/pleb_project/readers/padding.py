"""Sequences of several lengths: padded to one length, beside an input with how long each is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_system.reading.source import Rows

__all__ = ["padded"]


def padded(
    name: str,
    sequences: Sequence[NDArray[Any]],
    data: DataSection,
    counts: dict[str, int],
    place: str,
) -> Rows:
    """Return input `name` [n, max_length, ...] and `name_length` int64 [n].

    `sequences` are arrays [length, ...]. A longer one keeps its beginning, which `counts` counts.

    Raises:
        InputError: they differ in more than their lengths, or `max_length` is not given.
    """
    most = data.max_length
    if not most:
        raise InputError(
            f"{place}: {name!r} has sequences of several lengths: give the longest as "
            "max_length = ... in [data]."
        )
    forms = {sequence.shape[1:] for sequence in sequences}
    if len(forms) != 1 or any(not sequence.ndim for sequence in sequences):
        raise InputError(
            f"{place}: the sequences of {name!r} must be alike in all but their length."
        )
    # An empty one says nothing about its numbers: numpy takes it for float64.
    dtypes = {s.dtype for s in sequences if len(s)} or {np.dtype(np.int64)}
    dtype = np.result_type(*dtypes)
    array = np.full((len(sequences), most, *forms.pop()), data.pad.get(name, 0), dtype)
    lengths = np.empty(len(sequences), np.int64)
    for row, sequence in enumerate(sequences):
        lengths[row] = min(len(sequence), most)
        array[row, : lengths[row]] = sequence[:most]
    if cut := sum(len(sequence) > most for sequence in sequences):
        what = f"sequences of {name!r} cut to max_length"
        counts[what] = counts.get(what, 0) + cut
    return {name: array, f"{name}_length": lengths}


def stacked(name: str, arrays: Sequence[NDArray[Any]], place: str) -> NDArray[Any]:
    """Return arrays of one shape as one array [n, ...].

    Raises:
        InputError: their shapes differ.
    """
    if len({array.shape for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise InputError(
            f"{place}: the arrays of input {name!r} must all have the same shape, not "
            f"{list(shapes[0])} and {list(shapes[-1])}; sequences of several lengths need "
            f"max_length = ... and pad = {{ {name} = 0 }} in [data]."
        )
    return np.stack(arrays)
