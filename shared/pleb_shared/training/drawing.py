"""Operators whose random numbers come from the unit's draws instead of torch's generator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

from pleb_shared.training.draws import Form

if TYPE_CHECKING:
    from pleb_shared.training.draws import Draws

__all__ = [
    "attention",
    "bernoulli",
    "dropout",
    "exponential",
    "feature_dropout",
    "multinomial",
    "rand",
    "rand_like",
    "randint",
    "randint_below",
    "randn",
    "randn_like",
    "randperm",
]


def rand(
    draws: Draws,
    node: int,
    size: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return uniform numbers in [0, 1) of the shape `size`."""
    return draws.uniform(_form(size, dtype, device), node)


def rand_like(
    draws: Draws,
    node: int,
    x: torch.Tensor,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Return uniform numbers in [0, 1) in the form of `x`."""
    del memory_format  # values do not depend on it
    return draws.uniform(_form(x.shape, dtype or x.dtype, x.device), node)


def randn(
    draws: Draws,
    node: int,
    size: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return standard normal numbers of the shape `size`."""
    return draws.normal(_form(size, dtype, device), node)


def randn_like(
    draws: Draws,
    node: int,
    x: torch.Tensor,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Return standard normal numbers in the form of `x`."""
    del memory_format
    return draws.normal(_form(x.shape, dtype or x.dtype, x.device), node)


def randint(
    draws: Draws,
    node: int,
    low: int,
    high: int,
    size: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return whole numbers in [low, high) of the shape `size`."""
    return draws.integers(_form(size, dtype or torch.int64, device), low, high, node)


def randint_below(
    draws: Draws,
    node: int,
    high: int,
    size: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return whole numbers in [0, high) of the shape `size`."""
    return draws.integers(_form(size, dtype or torch.int64, device), 0, high, node)


def randperm(
    draws: Draws,
    node: int,
    n: int,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return the numbers 0 .. n - 1 in a random order: [n]."""
    return draws.permutation(_form([n], dtype or torch.int64, device), node)


def bernoulli(draws: Draws, node: int, x: torch.Tensor) -> torch.Tensor:
    """Return 1 with the probability `x`, of any shape, else 0, in the form of `x`.

    Raises:
        ValueError: a probability is not in [0, 1].
    """
    x = x.detach()
    draws.require((x >= 0) & (x <= 1), "a probability of bernoulli is not from 0 to 1")
    return (draws.uniform(_form(x.shape, x.dtype, x.device), node) < x).to(x.dtype)


def exponential(draws: Draws, node: int, x: torch.Tensor, lambd: float = 1.0) -> torch.Tensor:
    """Return exponential numbers of the rate `lambd` > 0 in the form of `x`."""
    form = _form(x.shape, torch.float64, x.device)
    return (draws.exponential(form, node) / lambd).to(x.dtype)


def multinomial(
    draws: Draws, node: int, x: torch.Tensor, num_samples: int, replacement: bool = False
) -> torch.Tensor:
    """Return int64 [.., num_samples] categories, drawn in proportion to the weights `x` [.., C].

    With replacement, the first category whose cumulative weight exceeds a uniform part of the
    sum; without, those that come first in a race of exponential times of the rates `x` (Efraimidis
    and Spirakis 2006).

    Raises:
        ValueError: a weight is negative or no number, or too few of a row are above zero.
    """
    weights = x.detach().to(torch.float64)
    draws.require((weights >= 0) & weights.isfinite(), "a weight of multinomial is not 0 or more")
    least = 1 if replacement else num_samples
    enough = (weights > 0).sum(-1) >= least
    draws.require(enough, f"multinomial needs {least} weights above 0 in each row")
    if not replacement:
        times = draws.exponential(_form(x.shape, torch.float64, x.device), node)
        return (weights / times).topk(num_samples, -1).indices
    sums = weights.cumsum(-1)
    form = _form((*x.shape[:-1], num_samples), torch.float64, x.device)
    found = torch.searchsorted(sums, draws.uniform(form, node) * sums[..., -1:], right=True)
    return found.clamp(max=x.shape[-1] - 1)


def _form(
    shape: list[int] | tuple[int, ...], dtype: torch.dtype | None, device: torch.device | None
) -> Form:
    return Form(tuple(shape), dtype or torch.float32, device or torch.device("cpu"))


def dropout(draws: Draws, node: int, x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Return `x`, of any shape, times a dropout mask; `x` itself outside training or for p = 0.

    Srivastava et al. 2014, inverted: kept values are divided by 1 - p.
    """
    if not train or p == 0:
        return x
    return x * draws.dropout(x, p, node)


def feature_dropout(
    draws: Draws, node: int, x: torch.Tensor, p: float, train: bool
) -> torch.Tensor:
    """Return `x` [B, C, ...] with whole channels dropped, as nn.Dropout1d, 2d and 3d do."""
    if not train or p == 0:
        return x
    channels = x.detach()[(slice(None), slice(None), *([slice(0, 1)] * (x.dim() - 2)))]
    return x * draws.dropout(channels, p, node)


def attention(  # noqa: PLR0913
    draws: Draws,
    node: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return softmax(scale * Q K^T + mask) V [.., T, V] (Vaswani et al. 2017, equation 1).

    `query` is [.., T, E], `key` [.., S, E], `value` [.., S, V]; grouped queries share keys.
    `attn_mask` broadcasts to [.., T, S]; a boolean one is true where attention is allowed.
    Dropout acts on the weights [.., T, S]. Without dropout torch picks its fused kernel; with
    dropout the unfused formula runs, so that the mask comes from the unit's draws.
    """
    if dropout_p == 0:
        return scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    if enable_gqa and query.shape[-3] != value.shape[-3]:
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = scores.softmax(-1)
    return (weights * draws.dropout(weights, dropout_p, node)) @ value
