"""Medians along a dimension, of memory that is laid out plainly.

torch's kernels (2.13) read past the end of a tensor whose strides are 0, as an expanded one's are.
Of a contiguous copy they give what they should.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MEDIANS"]


def _of_copy(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call`, a median of (self, dim, keepdim), that reads a contiguous `self`."""

    def median(self: torch.Tensor, *args: Any, **options: Any) -> Any:
        """Return values and indices, both of self's shape without the dimension."""
        return call(self.contiguous(), *args, **options)

    median._schema = call._schema  # type: ignore[attr-defined]  # noqa: SLF001
    return median


MEDIANS: Final[dict[str, Callable[..., Any]]] = {
    "aten.median.dim": _of_copy(torch.ops.aten.median.dim),
    "aten.nanmedian.dim": _of_copy(torch.ops.aten.nanmedian.dim),
}
"""By the name that a graph uses."""
