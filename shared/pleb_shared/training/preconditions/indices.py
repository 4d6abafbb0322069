"""Rules of what reads and writes by index."""

from __future__ import annotations

from typing import Final

import torch

from pleb_shared.training.preconditions.rule import (
    Arguments,
    Rule,
    shape_of,
    whole_numbers,
    wrong_shape,
)

__all__ = [
    "GATHER",
    "INDEX",
    "INDEX_ADD",
    "INDEX_PUT",
    "INDEX_SELECT",
    "ONE_HOT",
    "SCATTER",
    "SORTED",
    "TAKE",
]


def _dimension(arguments: Arguments, data: torch.Tensor) -> tuple[int, str]:
    """Return `dim` counted from the front of `data`, of any shape, and what is wrong with it."""
    dim = arguments["dim"]
    if type(dim) is not int or not -data.dim() <= dim < data.dim():
        return 0, f"dim {dim} is none of {shape_of(data)}"
    return dim % data.dim(), ""


def _within(inner: torch.Tensor, outer: torch.Tensor, skipped: int | None) -> bool:
    """Whether `inner` has as many dimensions as `outer`, each no larger, but for one."""
    return inner.dim() == outer.dim() and all(
        i == skipped or inner.shape[i] <= outer.shape[i] for i in range(outer.dim())
    )


def _gather(arguments: Arguments) -> str:
    data, index = arguments["self"], arguments["index"]
    dim, wrong = _dimension(arguments, data)
    if wrong or arguments["sparse_grad"] or index.dtype != torch.int64:
        return wrong or "index must be int64, with dense gradients"
    if not _within(index, data, dim):
        return f"index {shape_of(index)} is larger than {shape_of(data)}"
    return ""


GATHER: Final[tuple[Rule, ...]] = (_gather,)


def _scatter(arguments: Arguments) -> str:
    data, index, source = arguments["self"], arguments["index"], arguments.get("src")
    dim, wrong = _dimension(arguments, data)
    if wrong or index.dtype != torch.int64 or not _within(index, data, dim):
        return (
            wrong or f"index must be int64, and {shape_of(index)} no larger than {shape_of(data)}"
        )
    if source is not None and (source.dtype != data.dtype or not _within(index, source, None)):
        return f"src {shape_of(source)} ({source.dtype}) does not fit"
    return ""


SCATTER: Final[tuple[Rule, ...]] = (_scatter,)


def _index_select(arguments: Arguments) -> str:
    wrong = _dimension(arguments, arguments["self"])[1]
    if arguments["index"].dim() != 1:
        return wrong or "index must be a list"
    return wrong or whole_numbers(arguments, "index")


INDEX_SELECT: Final[tuple[Rule, ...]] = (_index_select,)


def _index_add(arguments: Arguments) -> str:
    """The source has the shape of self, but for dim: as many as index [n]."""
    data, index, source = (arguments[name] for name in ("self", "index", "source"))
    wrong = _index_select(arguments)
    if wrong or source.dtype != data.dtype:
        return wrong or f"source is {source.dtype}, not {data.dtype}"
    wanted = shape_of(data)
    wanted[arguments["dim"] % data.dim()] = int(index.shape[0])
    return wrong_shape(arguments, "source", wanted)


INDEX_ADD: Final[tuple[Rule, ...]] = (_index_add,)


def _index(arguments: Arguments) -> str:
    """Whole numbers, for one dimension each; masks would make shapes depend on values."""
    data, indices = arguments["self"], arguments["indices"]
    given = [index for index in indices if index is not None]
    if not given or len(indices) > data.dim():
        return f"{len(indices)} indices do not fit {shape_of(data)}"
    if any(index.dtype not in {torch.int64, torch.int32} for index in given):
        return "indices must be int64: masks make shapes depend on values"
    return ""


INDEX: Final[tuple[Rule, ...]] = (_index,)


def _index_put(arguments: Arguments) -> str:
    """As `_index`, and values of the type of self that can be broadcast to what is indexed."""
    data, values = arguments["self"], arguments["values"]
    wrong = _index(arguments)
    if wrong or values.dtype != data.dtype:
        return wrong or f"values are {values.dtype}, not {data.dtype}"
    return ""


INDEX_PUT: Final[tuple[Rule, ...]] = (_index_put,)


def _take(arguments: Arguments) -> str:
    return "" if arguments["index"].dtype == torch.int64 else "index must be int64"


TAKE: Final[tuple[Rule, ...]] = (_take,)


def _sorted(arguments: Arguments) -> str:
    """Boundaries [n] or [.., n] like self, in one type with it; no other order is given."""
    name = "sorted_sequence" if "sorted_sequence" in arguments else "boundaries"
    edges, data = arguments[name], arguments["self"]
    if arguments.get("sorter") is not None or arguments.get("side") not in {None, "left", "right"}:
        return "sorter must not be given, and side must be left or right"
    if edges.dtype != data.dtype or edges.dtype is torch.bool or edges.dim() < 1:
        return f"{name} are {edges.dtype} {shape_of(edges)}, values {data.dtype}"
    if edges.dim() > 1 and (name == "boundaries" or edges.shape[:-1] != data.shape[:-1]):
        return f"{name} {shape_of(edges)} do not fit {shape_of(data)}"
    return ""


SORTED: Final[tuple[Rule, ...]] = (_sorted,)


def _one_hot(arguments: Arguments) -> str:
    if arguments["num_classes"] < 1 or arguments["self"].dtype != torch.int64:
        return "num_classes must be given, and classes must be int64"
    return ""


ONE_HOT: Final[tuple[Rule, ...]] = (_one_hot,)
