"""Operators whose random numbers come from the unit's draws instead of torch's generator."""

from __future__ import annotations

import torch

from pleb_shared.training.draws import Draws

__all__ = ["attention", "dropout", "feature_dropout"]


def dropout(draws: Draws, node: int, x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Return `x` times a dropout mask; `x` itself outside training or for p = 0.

    Srivastava et al. 2014, inverted: what is kept is divided by 1 - p.
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


def attention(
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
    """Return scaled dot-product attention [.., T, V]; dropout acts on the weights [.., T, S].

    Without dropout torch picks its fused kernel; with it, torch's own unfused form runs on a
    mask of ours.
    """
    if dropout_p == 0:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    weights = query.detach()[..., :1].expand(*query.shape[:-1], key.shape[-2])
    keep = draws.dropout(weights, dropout_p, node) > 0
    result: torch.Tensor = torch.ops.aten._scaled_dot_product_attention_math.default(  # noqa: SLF001
        query, key, value, attn_mask, dropout_p, is_causal, keep, scale=scale, enable_gqa=enable_gqa
    )[0]
    return result
