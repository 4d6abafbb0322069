"""Our own formulas of operators: where torch knows none, or one that would be slow or unsafe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FORMULAS", "PARTLY"]

_ATEN: Final = torch.ops.aten


def _empty(size: Any, **options: Any) -> torch.Tensor:
    """Return zeros: memory that is written before it is read may as well begin as zeros."""
    options.pop("memory_format", None)
    return torch.zeros(size, **options)


def _empty_like(self: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.zeros_like(self, **options)


def _new_empty(self: torch.Tensor, size: Any, **options: Any) -> torch.Tensor:
    return self.new_zeros(size, **options)


def _broadcast(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return all expanded to one shape, also those that have it, as torch's kernel does.

    Each expansion is a step of backward, so without it gradients would be added in another order.
    """
    shape = torch.broadcast_shapes(*(one.shape for one in tensors))  # type: ignore[no-untyped-call]
    return [one.expand(shape) for one in tensors]


def _bilinear(
    left: torch.Tensor, right: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return x W y [.., out] of `left` [.., I], `right` [.., J], `weight` [out, I, J]."""
    product = torch.einsum("ni,oij,nj->no", left.flatten(0, -2), weight, right.flatten(0, -2))
    if left.dim() != 2:
        product = product.reshape([*left.shape[:-1], product.shape[-1]])
    return product if bias is None else product + bias


def _embedding_bag(  # noqa: PLR0913, PLR0917 - torch's arguments
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[torch.Tensor, ...]:
    """Return the sum (mode 0), mean (1) or maximum (2) [bags, width] of rows of `weight`.

    `indices` [n] are rows; bag b begins at `offsets[b]`. torch's kernel trusts the offsets. The
    other three outcomes are torch's own notes for backward, which nothing here uses.
    """
    if scale_grad_by_freq or sparse:
        raise NotImplementedError
    if include_last_offset:
        offsets = offsets[:-1]
    places = torch.arange(indices.shape[0], device=indices.device)
    bags = torch.searchsorted(offsets.to(torch.int64), places, right=True) - 1
    rows = F.embedding(indices, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    counted = torch.ones_like(rows[:, 0])
    if padding_idx is not None and padding_idx >= 0:
        counted = (indices != padding_idx).to(rows.dtype)
        rows = rows * counted[:, None] if mode < 2 else rows
    count, width = offsets.shape[0], weight.shape[1]
    found = rows.new_zeros(count, width)
    if mode == 2:
        if padding_idx is not None and padding_idx >= 0:
            rows = rows.masked_fill(counted[:, None] == 0, -math.inf)
        index = bags[:, None].expand(-1, width)
        found = found.scatter_reduce(0, index, rows, "amax", include_self=False)
        found = torch.where(torch.isneginf(found), 0.0, found)
    else:
        found = found.index_add(0, bags, rows)
    if mode == 1:
        sizes = counted.new_zeros(count).index_add(0, bags, counted)
        found = found / sizes.clamp(min=1)[:, None]
    return found, bags, bags, bags


def _is_masked(_self: Any, indices: Any, *_rest: Any, **_options: Any) -> bool:
    """Whether an index is a mask, whose shape depends on values."""
    masks = (torch.bool, torch.uint8)
    return any(one is not None and one.meta["val"].dtype in masks for one in indices)


def _masked(
    self: torch.Tensor,
    indices: Sequence[torch.Tensor | None],
    values: torch.Tensor,
    accumulate: bool = False,
) -> torch.Tensor:
    """Return `self` with one value where a mask, the only index, is true."""
    mask = indices[0]
    if len(indices) != 1 or mask is None or mask.dtype != torch.bool or values.numel() != 1:
        raise NotImplementedError
    mask = mask.reshape([*mask.shape, *([1] * (self.dim() - mask.dim()))])
    value = values.reshape([])
    return torch.where(mask, self + value if accumulate else value, self)


def _masked_in_place(self: torch.Tensor, *args: Any) -> torch.Tensor:
    return self.copy_(_masked(self.clone(), *args))


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Return v * g / |v|, the norm over all dimensions but `dim` (Salimans and Kingma 2016)."""
    others = [i for i in range(v.dim()) if i != dim % v.dim()] if dim != -1 else []
    size: torch.Tensor = torch.linalg.vector_norm(v, dim=others or None, keepdim=True)
    return v * (g / size)


def _unsafe_chunk(self: torch.Tensor, chunks: int, dim: int = 0) -> list[torch.Tensor]:
    """Return copies of parts, which may be changed in place, as torch's cells do.

    With the copies' steps backward adds the gradients of a cell's steps in another order.
    """
    return [part.clone() for part in self.chunk(chunks, dim)]


def _unsafe_split(self: torch.Tensor, size: Any, dim: int = 0) -> list[torch.Tensor]:
    return [part.clone() for part in torch.split(self, size, dim)]


def _without_dropout(overload: Any) -> Callable[..., Any]:
    """Return what a recurrent layer `overload` is made of, step by step, if it draws nothing."""

    def formula(*args: Any) -> Any:
        dropout, train = args[5], args[6]
        if dropout and train:
            raise NotImplementedError
        return overload.decompose(*args)

    return formula


def _histc(
    self: torch.Tensor,
    bins: int = 100,
    min: float = 0,  # noqa: A002 - torch's names
    max: float = 0,  # noqa: A002
) -> torch.Tensor:
    """Return how many numbers of `self` are in each of `bins` equal parts of [min, max]."""
    x = self.detach().flatten()
    low, high = (x.new_full([], end) for end in (min, max))
    if min == max:
        low, high = x.amin(), x.amax()
        low, high = torch.where(low == high, low - 1, low), torch.where(low == high, high + 1, high)
    place = ((x - low) / (high - low) * bins).to(torch.int64).clamp(0, bins - 1)
    counted = ((x >= low) & (x <= high)).to(x.dtype)
    return torch.zeros(bins, dtype=x.dtype).index_add(0, place, counted)


def _no_check(*_args: Any, **_options: Any) -> None:
    """Check nothing: what is singular gives infinite numbers, and a unit with them is refused."""


def _is_projected(
    _input: Any, _hx: Any, params: Any, has_biases: bool, num_layers: int, *rest: Any
) -> bool:
    """Whether an LSTM projects its hidden state, which takes one more weight for each layer."""
    directions = 2 if rest[2] else 1
    return bool(len(params) != num_layers * directions * (4 if has_biases else 2))


def _shares_heads(query: Any, key: Any, value: Any, *_rest: Any, **options: Any) -> bool:
    """Whether heads or examples of keys and values are broadcast, as in multi-query attention."""
    shapes = [list(one.meta["val"].shape) for one in (query, key, value)]
    outer = -3 if options.get("enable_gqa") else -2
    return not all(shape[:outer] == shapes[0][:outer] for shape in shapes)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any
) -> torch.Tensor:
    """Return attention of `query` [.., T, E] after keys and values have been broadcast to it."""
    if options.pop("enable_gqa", False):
        raise NotImplementedError
    shape = torch.broadcast_shapes(*(one.shape[:-2] for one in (query, key, value)))  # type: ignore[no-untyped-call]
    wide: list[Any] = [one.expand(*shape, *one.shape[-2:]) for one in (query, key, value)]
    return F.scaled_dot_product_attention(*wide, *rest, **options)


FORMULAS: Final[dict[Any, tuple[Callable[..., Any], bool]]] = {
    _ATEN.empty.memory_format: (_empty, True),
    _ATEN.empty_like.default: (_empty_like, True),
    _ATEN.new_empty.default: (_new_empty, True),
    _ATEN.unsafe_chunk.default: (_unsafe_chunk, False),
    _ATEN.unsafe_split.Tensor: (_unsafe_split, False),
    _ATEN.unsafe_split_with_sizes.default: (_unsafe_split, False),
    _ATEN.rnn_tanh.input: (_without_dropout(_ATEN.rnn_tanh.input), True),
    _ATEN.rnn_relu.input: (_without_dropout(_ATEN.rnn_relu.input), True),
    _ATEN._linalg_check_errors.default: (_no_check, True),  # noqa: SLF001
    _ATEN._weight_norm.default: (_weight_norm, False),  # noqa: SLF001
    _ATEN.broadcast_tensors.default: (_broadcast, True),
    _ATEN.bilinear.default: (_bilinear, False),
    _ATEN.histc.default: (_histc, False),
    _ATEN._embedding_bag.default: (_embedding_bag, False),  # noqa: SLF001
    _ATEN._embedding_bag_forward_only.default: (_embedding_bag, False),  # noqa: SLF001
}
"""By overload: the formula, and whether its outcome, gradients too, is equal to the bit."""

PARTLY: Final[dict[Any, tuple[Callable[..., bool], Callable[..., Any], bool]]] = {
    _ATEN.index_put.default: (_is_masked, _masked, True),
    _ATEN.index_put_.default: (_is_masked, _masked_in_place, True),
    _ATEN.lstm.input: (_is_projected, _without_dropout(_ATEN.lstm.input), True),
    _ATEN.scaled_dot_product_attention.default: (_shares_heads, _attention, False),
}
"""By overload that is allowed: whether these arguments are not, the formula, and its exactness."""
