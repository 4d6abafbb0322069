"""Strict numerics inside a process: torch computes the same bits on every x86-64 PC with AVX2.

`protocol.numerics` has the variables that take most choices away. What they leave:

- MKL's gemm, which is three times slower in the one mode that is alike on Intel and AMD, goes to
  oneDNN's generated code;
- MKL's square root and arc tangent, which that mode does not cover, go to the processor's own
  (rounded correctly by IEEE 754) and to SLEEF;
- oneDNN's LSTM, whose blocks depend on the size of the caches, goes to torch's own.

torch's dispatcher takes the replacements, so they serve every caller: a graph's operators, their
gradients and the optimizers. They hold for the rest of the process, so a process computes in one
way only.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import _C

from pleb_shared.errors import TrainingError
from pleb_shared.protocol.numerics import STRICT_THREADS, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compute_strictly"]

_LIBRARY: Final = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
"""Keeps the replacements alive; empty until `compute_strictly`."""
_LEAST_PRODUCTS: Final = 2**19
"""oneDNN takes 25 to 30 us to begin: smaller products of matrices are faster in MKL's slow mode."""


def compute_strictly(environment: Mapping[str, str]) -> None:
    """Make this process compute in strict numerics from here on; again does nothing.

    Args:
        environment: the process's, as it was when torch was loaded.

    Raises:
        TrainingError: torch was loaded without the variables, or this build of it has no oneDNN,
            MKL or AVX2.
    """
    wrong = sorted(n for n, value in variables("strict").items() if environment.get(n) != value)
    if wrong:
        raise TrainingError(
            f"Strict numerics need {', '.join(wrong)} set before torch is loaded: start the "
            "process again."
        )
    built = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not built or torch.backends.cpu.get_cpu_capability() != "AVX2":
        raise TrainingError(
            "Strict numerics need a torch with MKL, oneDNN and AVX2: install the usual build."
        )
    torch.set_num_threads(STRICT_THREADS)
    torch.use_deterministic_algorithms(mode=True)
    if torch.library._impls.isdisjoint(_names()):  # noqa: SLF001 - torch asks nobody else
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced, which is the aim
            _replace()


def _names() -> set[str]:
    return {f"aten/{name}/{key}" for name, key, _ in _REPLACEMENTS}


def _replace() -> None:
    for name, key, call in _REPLACEMENTS:
        _LIBRARY.impl(name, call, key)  # type: ignore[no-untyped-call]


def _is_for_onednn(*tensors: torch.Tensor) -> bool:
    """Whether the product of two tensors [..., m, k] and [..., k, n] is one that oneDNN takes.

    The checks are those that torch's own kernels make: they refuse what this leaves to them.
    """
    a, b = tensors[-2:]
    return (
        all(t.dtype is torch.float32 and t.layout is torch.strided for t in tensors)
        and a.dim() == b.dim() > 1
        and a.shape[:-2] == b.shape[:-2]
        and a.shape[-1] == b.shape[-2]
        and a.shape[-2] * a.shape[-1] * b.shape[-1] >= _LEAST_PRODUCTS
    )


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return a [m, k] times b [k, n] plus bias [n], all float32, by oneDNN's inner product."""
    inner_product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - its only name
    product: torch.Tensor = inner_product(a, b.t(), bias, "none", [], "")
    return product


def _mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.dim() == 2 and _is_for_onednn(a, b):
        return _product(a, b)
    return torch.mm(a, b, out=a.new_empty(0))


def _addmm(
    bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: Any = 1, alpha: Any = 1
) -> torch.Tensor:
    is_plain_sum = beta == alpha == 1 and bias.shape == b.shape[1:] and a.dim() == 2
    if is_plain_sum and _is_for_onednn(bias, a, b):
        return _product(a, b, bias)
    return torch.addmm(bias, a, b, beta=beta, alpha=alpha, out=a.new_empty(0))


def _bmm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.dim() == 3 and _is_for_onednn(a, b):
        return torch.stack([_product(x, y) for x, y in zip(a, b, strict=True)])
    return torch.bmm(a, b, out=a.new_empty(0))


def _sqrt(x: torch.Tensor) -> torch.Tensor:
    """Return the square root of x [...] as IEEE 754 rounds it; that of a negative number is NaN."""
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    with np.errstate(invalid="ignore"):
        root = torch.from_numpy(np.asarray(np.sqrt(x.detach().to(wide).numpy())))
    return root.to(_float_of(x))


def _sqrt_(x: torch.Tensor) -> torch.Tensor:
    return x.copy_(_sqrt(x))


def _atan(x: torch.Tensor) -> torch.Tensor:
    x = x.to(_float_of(x))
    return torch.atan2(x, torch.ones_like(x))


def _float_of(x: torch.Tensor) -> torch.dtype:
    return x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()


def _lstm(*arguments: Any) -> Any:
    own = _C.DispatchKeySet(_C.DispatchKey.CPU)
    before = _C._get_mkldnn_enabled()  # noqa: SLF001 - the public flags warn of other devices
    _C._set_mkldnn_enabled(False)  # noqa: SLF001
    try:
        return torch.ops.aten.lstm.input.redispatch(own, *arguments)
    finally:
        _C._set_mkldnn_enabled(before)  # noqa: SLF001


_REPLACEMENTS: Final = (
    ("mm", "CPU", _mm),
    ("addmm", "CPU", _addmm),
    ("bmm", "CPU", _bmm),
    ("sqrt", "CPU", _sqrt),
    ("sqrt_", "CPU", _sqrt_),
    ("atan", "CPU", _atan),
    ("lstm.input", "AutogradCPU", _lstm),
)
"""Operator, dispatch key, and what computes it."""
