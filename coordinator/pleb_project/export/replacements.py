"""What torch does by looking at values, written so that it can be traced.

Each function gives what torch's own gives. They stand in its place while a model is traced, and
while eager mode is compared with the graph; there the loss is compared with torch's own, too.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import torch
from torch.distributions import Distribution, von_mises
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules import transformer
from torch.nn.modules.batchnorm import _BatchNorm

from pleb_project.export.ctc import ctc_loss

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["redrawn", "replaced"]

_GAUSSIAN: Final = F.gaussian_nll_loss
_NORM: Final = _BatchNorm.forward
_FORMAT: Final[Any] = torch.Tensor.__format__
_ROUNDS: Final = 16
"""Of proposals for an angle, each of which is accepted with a chance of at least 0.65: one of 10^7
angles is not drawn, and lies where the density is highest."""


@contextmanager
def redrawn() -> Iterator[None]:
    """Put those in the place of torch's that draw another number of numbers."""
    with patch.object(von_mises, "_rejection_sample", _von_mises):
        yield


@contextmanager
def replaced() -> Iterator[None]:
    """Put the functions of this module in the place of torch's while the context lasts."""
    checked = Distribution._validate_args  # noqa: SLF001
    Distribution.set_default_validate_args(False)  # would branch on values
    try:
        with redrawn(), ExitStack() as stack:
            for owner, name, function in _REPLACEMENTS:
                stack.enter_context(patch.object(owner, name, function))
            yield
    finally:
        Distribution.set_default_validate_args(checked)


def _causal_if_said(_mask: object, is_causal: bool | None = None, _size: object = None) -> bool:
    """Return whether a transformer layer is told that its mask is causal; torch looks at it."""
    return is_causal is True


def _gaussian_nll_loss(*args: Any, **kwargs: Any) -> torch.Tensor:
    """Return what torch's function does, without looking whether a variance is below 0."""
    with patch.object(torch, "any", lambda _: False):
        loss: torch.Tensor = _GAUSSIAN(*args, **kwargs)
        return loss


def _cov(
    x: torch.Tensor,
    *,
    correction: int = 1,
    fweights: torch.Tensor | None = None,
    aweights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the covariances [rows, rows] of `x` [rows, observations], or of one row [].

    torch looks whether there are enough observations; with too few none of these is finite.
    """
    rows = x[None] if x.dim() < 2 else x
    count = rows.shape[1]
    weights = None if fweights is None else fweights.to(rows.dtype)
    if aweights is not None:
        weights = aweights if weights is None else weights * aweights
    if weights is None:
        centred = rows - rows.mean(1, keepdim=True)
        found = centred @ centred.T / (count - correction)
        return found if len(rows) > 1 else found.squeeze()
    total = weights.sum()
    centred = rows - (rows * weights).sum(1, keepdim=True) / total
    spread = (weights * aweights).sum() / total if aweights is not None else 1
    found = (centred * weights) @ centred.T / (total - correction * spread)
    return found if len(rows) > 1 else found.squeeze()


def _corrcoef(x: torch.Tensor) -> torch.Tensor:
    """Return the correlations [rows, rows] of `x` [rows, observations], or of one row []."""
    found = _cov(x)
    if found.dim() < 2:
        return found / found
    deviation = found.diagonal().sqrt()
    return (found / deviation[:, None] / deviation).clamp(-1, 1)


def _formatted(tensor: torch.Tensor, specification: str) -> str:
    """Return a tensor as a text, such as f"{loss:.3f}" in a log; while it is traced it has none."""
    try:
        return str(_FORMAT(tensor, specification))
    except TypeError:
        return "?"


def _von_mises(
    loc: torch.Tensor, concentration: torch.Tensor, ratio: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """Return angles of the shape of `like` around `loc` (Best and Fisher 1979), by `_ROUNDS`.

    torch proposes until all are accepted, so how many numbers it draws depends on their values.
    """
    found = torch.zeros_like(like)
    for _ in range(_ROUNDS):
        first, second, third = torch.rand((3, *like.shape), dtype=loc.dtype).unbind()
        z = torch.cos(math.pi * first)
        f = (1 + ratio * z) / (ratio + z)
        c = concentration * (ratio - f)
        accepted = (c * (2 - c) > second) | ((c / second).log() + 1 >= c)
        found = torch.where(accepted, (third - 0.5).sign() * f.acos(), found)
    return (found + math.pi + loc) % (2 * math.pi) - math.pi


def _batch_norm(layer: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    """Return what a batch norm does with `x` [batch, channels, ...].

    With `momentum=None` the running statistics are means over all batches, by a count that torch
    makes a plain number of.
    """
    counted = layer.num_batches_tracked
    if layer.momentum is not None or not layer.training or counted is None:
        return _NORM(layer, x)
    layer._check_input_dim(x)  # type: ignore[no-untyped-call]  # noqa: SLF001
    dimensions = [0, *range(2, x.dim())]
    counted.add_(1)
    with torch.no_grad():
        share = 1 / counted.to(x.dtype)
        for running, now in (
            (layer.running_mean, x.mean(dimensions)),
            (layer.running_var, x.var(dimensions)),
        ):
            if running is not None:
                running.mul_(1 - share).add_(now * share)
    return F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)


_REPLACEMENTS: Final[tuple[tuple[Any, str, Any], ...]] = (
    (F, "gaussian_nll_loss", _gaussian_nll_loss),
    (torch, "ctc_loss", ctc_loss),
    (transformer, "_detect_is_causal_mask", _causal_if_said),
    (torch, "cov", _cov),
    (torch.Tensor, "cov", _cov),
    (torch, "corrcoef", _corrcoef),
    (torch.Tensor, "corrcoef", _corrcoef),
    (_BatchNorm, "forward", _batch_norm),
    (torch.Tensor, "__format__", _formatted),
)
"""Owner, name, and what stands there."""
