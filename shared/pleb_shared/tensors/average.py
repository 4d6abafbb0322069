"""A moving average of versions: often better than the last one, and steadier.

It is computed when it is asked for, from versions that are kept anyway: it costs training nothing,
and its decay can be chosen afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pleb_shared.tensors.layout import Tensors

__all__ = ["first_averaged", "moving_average"]

_NEGLIGIBLE: Final = 1e-3
"""What all versions before the first one may weigh together."""


def first_averaged(newest: int, decay: float) -> int:
    """Return the first version that counts in the average which ends with `newest`."""
    if decay <= 0:
        return newest
    return max(0, newest - math.ceil(math.log(_NEGLIGIBLE) / math.log(decay)))


def moving_average(versions: Iterable[Tensors], decay: float) -> Tensors:
    """Return e of the last version: e = decay * e + (1 - decay) * version, e_0 = version_0.

    Args:
        versions: at least one, oldest first, all with the same tensors in the same shapes.
        decay: in [0, 1).

    Returns:
        Floats in their own dtype, computed in float64; whole numbers and booleans of the last one.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    last: Tensors = {}
    for last in versions:
        for name, array in last.items():
            if array.dtype.kind == "f":
                found = array.astype(np.float64)
                before = sums.get(name, found)
                sums[name] = before + (1 - decay) * (found - before)
    return {n: sums[n].astype(a.dtype) if n in sums else a for n, a in last.items()}
