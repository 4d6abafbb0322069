"""Checks that a graph does exactly what its model does in eager mode."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import torch
from torch import nn

from pleb_project.export.model_tensors import copy_of
from pleb_shared.errors import GraphError
from pleb_shared.training import drawing
from pleb_shared.training.draws import Draws, NodeDraws
from pleb_shared.training.graph import TORCH_DTYPES, CompiledGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_shared.protocol.graph import Graph

__all__ = ["check_parity", "drawing_nodes", "eager_draws"]

Batch = dict[str, torch.Tensor]

_DRAWING_OPERATORS: Final = (
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.scaled_dot_product_attention.default",
)

_CLOSE: Final = 1e-4
"""A hundred times what sums of float32 lose by their order; a wrong formula is far above it."""


def drawing_nodes(graph: Graph) -> list[int]:
    """Return the numbers of the nodes that may draw, in order."""
    return [i for i, node in enumerate(graph.nodes) if node.op in _DRAWING_OPERATORS]


@contextmanager
def eager_draws(draws: Draws, nodes: Sequence[int]) -> Iterator[None]:
    """Let an eager model draw what its graph draws, while the context lasts.

    The n-th call that may draw belongs to the n-th of `nodes`. torch's own functions are
    replaced for that time, so nothing else may run in the process.
    """
    numbers = iter(nodes)

    def dropout(
        x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        del inplace  # x: any shape, as the outcome
        return drawing.dropout(draws, _next(numbers), x, p, training)

    def feature_dropout(
        x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        del inplace  # x: [batch, channels, ...], as the outcome
        return drawing.feature_dropout(draws, _next(numbers), x, p, training)

    def attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        return drawing.attention(draws, _next(numbers), *args, **kwargs)

    ours: dict[str, Any] = {
        "dropout": dropout,
        "dropout1d": feature_dropout,
        "dropout2d": feature_dropout,
        "dropout3d": feature_dropout,
        "scaled_dot_product_attention": attention,
    }
    with (
        patch.multiple(torch.nn.functional, **ours),
        patch.multiple(torch, dropout=dropout, feature_dropout=feature_dropout),
    ):
        yield


def _next(numbers: Iterator[int]) -> int:
    number = next(numbers, None)
    if number is None:
        raise GraphError(
            "The model draws more often in eager mode than its graph: call dropout as "
            "nn.Dropout or torch.nn.functional.dropout."
        )
    return number


def check_parity(
    graph: Graph,
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    batch: Batch,
    *,
    exact: bool = True,
) -> None:
    """Check that loss, gradients and buffers of one step are equal to the bit.

    Where formulas stand in for kernels, so that it is not `exact`, they may differ by `_CLOSE` of
    the largest number of a tensor.

    Raises:
        GraphError: they are not; the sentence names the first difference.
    """
    eager = copy_of(model).train()
    draws = NodeDraws(seed=1, step=0)
    try:
        with torch.no_grad(), eager_draws(draws, drawing_nodes(graph)):
            plain = loss(copy_of(model).train(), {n: tensor.clone() for n, tensor in batch.items()})
        # Libraries may take a way of the same outcome, but other rounding, when they are traced.
        exporting = patch.object(torch.compiler, "is_exporting", lambda: True)
        with exporting, eager_draws(draws, drawing_nodes(graph)):
            expected = loss(eager, {name: tensor.clone() for name, tensor in batch.items()})
        expected.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise GraphError(f"loss() cannot be trained: {str(error).splitlines()[0]}") from error

    mine = copy_of(model)
    own = {**dict(mine.named_parameters()), **dict(mine.named_buffers())}
    tensors = {name: tensor.detach() for name, tensor in own.items()}
    for spec in graph.parameters:
        tensors[spec.name] = tensors[spec.name].to(TORCH_DTYPES[spec.dtype]).requires_grad_()
    inputs = {name: tensor.clone() for name, tensor in batch.items()}
    compiled = CompiledGraph(graph).with_base(tensors)
    found = compiled.run(tensors, tensors, inputs, draws)["loss"]
    found.backward()  # type: ignore[no-untyped-call]

    most = 0.0 if exact else _CLOSE
    _compare("the loss", plain, found, _CLOSE)
    _compare("the loss", expected, found, most)
    for name, parameter in eager.named_parameters():
        gradient = parameter.grad
        if gradient is not None and tensors[name].grad is not None:
            gradient = gradient.to(tensors[name].dtype)
        _compare(f"the gradient of {name!r}", gradient, tensors[name].grad, most)
    for name, buffer in eager.named_buffers():
        _compare(f"the buffer {name!r}", buffer, tensors[name], most)


def _compare(
    what: str, eager: torch.Tensor | None, graph: torch.Tensor | None, most: float
) -> None:
    """Raise unless both are equal, but for `most` of the largest number, or both are missing."""
    if eager is None and graph is None:
        return
    if eager is None or graph is None or not _equal(eager, graph, most):
        raise GraphError(
            f"The exported graph differs from the model: {what} is not the same. forward() must "
            "not depend on anything but its inputs, parameters and buffers, and a backward() of "
            "its own must be what torch would compute."
        )


def _equal(eager: torch.Tensor, graph: torch.Tensor, most: float) -> bool:
    eager, graph = eager.detach().nan_to_num(), graph.detach().nan_to_num()  # [any shape]
    if most == 0 or not eager.is_floating_point() or eager.shape != graph.shape:
        return torch.equal(eager, graph)
    largest = float(eager.abs().max()) if eager.numel() else 0.0
    return torch.allclose(eager, graph, rtol=0.0, atol=most * largest)
