"""Divisions of whole numbers that cannot trap.

The least whole number divided by -1 is one too large for its type. A processor traps on that
(SIGFPE on x86), in the quotient and in the remainder, and torch's kernels do not prevent it.
Dividing by -1 is negating, which wraps around, and leaves no remainder; everything else goes to
torch's own kernel, so no other result changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DIVISIONS"]


def _safe(call: Callable[..., torch.Tensor], *, quotient: bool) -> Callable[..., torch.Tensor]:
    """Return `call`, a quotient or a remainder of (self, other, ..), that cannot trap."""

    def divided(self: torch.Tensor, other: Any, **options: Any) -> torch.Tensor:
        """Return what `call` does; `self` and `other`, if it is a tensor, broadcast."""
        whole = not torch.result_type(self, other).is_floating_point
        if not whole or (quotient and options.get("rounding_mode", "floor") is None):
            return call(self, other, **options)
        if not isinstance(other, torch.Tensor):
            if other != -1:
                return call(self, other, **options)
            least = call(self, 1, **options)
            return -least if quotient else least
        inverse = other == -1
        result = call(self, torch.where(inverse, torch.ones_like(other), other), **options)
        return torch.where(inverse, -result, result) if quotient else result

    divided._schema = call._schema  # type: ignore[attr-defined]  # noqa: SLF001
    return divided


_ATEN: Final = torch.ops.aten

DIVISIONS: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "aten.div.Tensor_mode": _safe(_ATEN.div.Tensor_mode, quotient=True),
    "aten.div.Scalar_mode": _safe(_ATEN.div.Scalar_mode, quotient=True),
    "aten.floor_divide.default": _safe(_ATEN.floor_divide.default, quotient=True),
    "aten.fmod.Tensor": _safe(_ATEN.fmod.Tensor, quotient=False),
    "aten.fmod.Scalar": _safe(_ATEN.fmod.Scalar, quotient=False),
    "aten.remainder.Tensor": _safe(_ATEN.remainder.Tensor, quotient=False),
    "aten.remainder.Scalar": _safe(_ATEN.remainder.Scalar, quotient=False),
}
"""By the name that a graph uses; the overloads have these arguments, with keywords after two."""
