"""Elementary functions of arrays that are equal to the bit on every machine.

They only add, subtract, multiply, divide and take square roots of floats, which IEEE 754 rounds in
one way everywhere. A library's logarithm or cosine is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["logarithm", "polynomial"]

_Number = TypeVar("_Number", np.float32, np.float64)
_LN_2: Final = 0.6931471805599453
_ROOT_HALF: Final = 0.7071067811865476
_LOGARITHM: Final = tuple(1 / (2 * k + 1) for k in range(10, -1, -1))
"""Of artanh(s) / s in powers of s^2, highest first."""


def polynomial(coefficients: tuple[float, ...], x: NDArray[_Number]) -> NDArray[_Number]:
    """Return the polynomial at `x` [n], in its type, by Horner's rule; highest power first."""
    first, *between, last = (x.dtype.type(c) for c in coefficients)
    value = x * first
    for coefficient in between:
        value += coefficient
        value *= x
    value += last
    return value


def logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln of positive numbers [n]: x = m * 2^e, s = (m - 1) / (m + 1), e ln 2 + 2 artanh(s).

    m lies in [sqrt(1/2), sqrt(2)), so that the series has an error below 1e-16.
    """
    m, e = np.frexp(x)
    small = m < _ROOT_HALF
    m *= small + 1.0
    s = (m - 1) / (m + 1)
    logarithm = polynomial(_LOGARITHM, s * s)
    logarithm *= 2 * s
    logarithm += (e - small) * _LN_2
    return logarithm
