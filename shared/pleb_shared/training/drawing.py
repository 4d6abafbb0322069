"""Operators whose random numbers come from the unit's draws instead of torch's generator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from pleb_shared.training.draws import Draws

__all__ = ["attention", "dropout", "feature_dropout"]


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
