"""Rules of linear algebra and distances."""

from __future__ import annotations

from typing import Final

import torch

from pleb_shared.training.preconditions.rule import (
    Arguments,
    Rule,
    check_floats,
    names_of,
    shape_of,
)

__all__ = ["CDIST", "EINSUM", "HOUSEHOLDER", "PDIST", "PRODUCT", "SOLVE", "SQUARE"]


def _cdist(arguments: Arguments) -> str:
    """Points [.., P, M] and [.., R, M]; a distance by p >= 0."""
    one, other = arguments["x1"], arguments["x2"]
    if min(one.dim(), other.dim()) < 2 or one.shape[-1] != other.shape[-1]:
        return f"points {shape_of(one)} and {shape_of(other)} do not fit together"
    if one.shape[:-2] != other.shape[:-2]:
        return f"points {shape_of(one)} and {shape_of(other)} must have the same batch"
    if not arguments["p"] >= 0 or arguments["compute_mode"] not in {None, 0, 1, 2}:
        return f"p is {arguments['p']}, the mode {arguments['compute_mode']}"
    return ""


CDIST: Final[tuple[Rule, ...]] = (check_floats, _cdist)


def _pdist(arguments: Arguments) -> str:
    points = arguments["self"]
    if points.dim() != 2 or not points.numel() or not arguments["p"] >= 0:
        return f"points [n, width] are needed, and p >= 0, not {arguments['p']}"
    return ""


PDIST: Final[tuple[Rule, ...]] = (check_floats, _pdist)


def _square(arguments: Arguments) -> str:
    """Matrices [.., n, n]."""
    data = arguments["self"] if "self" in arguments else arguments["A"]
    if data.dim() < 2 or data.shape[-1] != data.shape[-2]:
        return f"a square matrix is needed, not {shape_of(data)}"
    return ""


SQUARE: Final[tuple[Rule, ...]] = (check_floats, _square)


def _solve(arguments: Arguments) -> str:
    """A [.., n, n] and B [.., n, k] with the same batch, or B [.., k, n] from the right."""
    matrix = arguments["A"] if "A" in arguments else arguments["self"]
    other = arguments["B"]
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        return f"a square matrix is needed, not {shape_of(matrix)}"
    left = arguments.get("left", True)
    vectors = "A" in arguments and "upper" not in arguments
    if vectors and shape_of(other) == shape_of(matrix)[:-1] and left:
        return ""
    if other.dim() != matrix.dim() or other.shape[:-2] != matrix.shape[:-2]:
        return f"{shape_of(other)} must have the same batch as {shape_of(matrix)}"
    if other.shape[-2 if left else -1] != matrix.shape[-1]:
        return f"{shape_of(other)} does not fit {shape_of(matrix)}"
    return ""


SOLVE: Final[tuple[Rule, ...]] = (check_floats, _solve)


def _householder(arguments: Arguments) -> str:
    """Reflectors [.., m, n], n <= m, and their factors tau [.., k], k <= n."""
    data, tau = arguments["input"], arguments["tau"]
    if data.dim() < 2 or tau.dim() != data.dim() - 1 or tau.shape[:-1] != data.shape[:-2]:
        return f"tau {shape_of(tau)} does not fit {shape_of(data)}"
    if data.shape[-2] < data.shape[-1] or tau.shape[-1] > data.shape[-1] or 0 in data.shape:
        return f"tau {shape_of(tau)} does not fit {shape_of(data)}"
    return ""


HOUSEHOLDER: Final[tuple[Rule, ...]] = (check_floats, _householder)


def _product(arguments: Arguments) -> str:
    """All operands of one type; the bias of `linear` is [out] for a weight [out, in]."""
    types = {value.dtype for value in arguments.values() if isinstance(value, torch.Tensor)}
    if len(types) > 1:
        return f"its tensors must be of one type, not {names_of(types)}"
    bias = arguments.get("bias")
    if bias is not None and shape_of(bias) != shape_of(arguments["weight"])[:-1]:
        return f"bias has the shape {shape_of(bias)}, not {shape_of(arguments['weight'])[:-1]}"
    return ""


PRODUCT: Final[tuple[Rule, ...]] = (_product,)


def _einsum(arguments: Arguments) -> str:
    return "its path must not be given" if arguments["path"] is not None else ""


EINSUM: Final[tuple[Rule, ...]] = (_einsum,)
