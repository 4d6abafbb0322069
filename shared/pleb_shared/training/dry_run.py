"""Bounds a unit's memory before it is accepted, and checks the graph's recorded shapes.

The graph runs once on FakeTensors, which have shapes but no memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Graph, Node, Value, references
from pleb_shared.protocol.project import (
    AdamW,
    DataSpec,
    InputSpec,
    ModelSpec,
    Muon,
    Optimizer,
    TensorSpec,
)
from pleb_shared.training.graph import TORCH_DTYPES, CompiledGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["activation_bytes", "check_graph", "peak_bytes"]

_COPIES_OF_THE_MODEL: Final = 5
"""Version, last difference, working copy, gradients, and one transient (delta or state)."""
_HIDDEN: Final = {
    "aten.cross_entropy_loss.default": 2,
    "aten.nll_loss_nd.default": 1,
    "aten.binary_cross_entropy_with_logits.default": 2,
    "aten.batch_norm.default": 1,
    "aten.lstm.input": 12,
    "aten.gru.input": 10,
}
"""Operators that keep more for backward than their output, in sizes of their largest tensor."""


class _NoDraws:
    """Draws nothing, but has the right shape."""

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:  # noqa: ARG002
        return torch.ones_like(like)


def peak_bytes(
    graph: Graph, model: ModelSpec, data: DataSpec, batch_examples: int, optimizer: Optimizer
) -> int:
    """Return a bound on the bytes that training with `graph` takes beyond an idle worker.

    It counts the copies of the model, the optimizer's state, and every value of the forward
    pass as if all were kept for backward. Shards come on top, at their own size.

    Raises:
        GraphError: as `check_graph` and `activation_bytes`.
    """
    check_graph(graph, model, data, batch_examples)
    weights = sum(4 * math.prod(spec.shape) for spec in model.parameters)
    state = {AdamW: 2, Muon: 3}.get(type(optimizer), 1)
    return (_COPIES_OF_THE_MODEL + state) * weights + activation_bytes(graph)


def check_graph(graph: Graph, model: ModelSpec, data: DataSpec, batch_examples: int) -> None:
    """Check that a graph is one of this model and data.

    Raises:
        GraphError: other tensors than the model's, other inputs than batches of the data.
    """
    if graph.parameters != model.parameters or graph.buffers != model.buffers:
        raise GraphError("The graph's tensors are not those of the project's model.")
    expected = [
        InputSpec(name=spec.name, dtype=spec.dtype, shape=[batch_examples, *spec.shape])
        for spec in data.inputs
    ]
    if graph.inputs != expected:
        raise GraphError(
            f"The graph's inputs are not batches of {batch_examples} examples of the project's "
            "data: export it with such a batch."
        )


def activation_bytes(graph: Graph) -> int:
    """Return the bytes of all values of one forward pass, and of the largest one twice more.

    Raises:
        GraphError: an operator refuses its arguments, a shape depends on values, or a shape or
            dtype differs from the recorded one; the sentence names the node.
    """
    compiled = CompiledGraph(graph)
    shapes = _shapes(graph)
    sizes: list[int] = []
    done = 0

    def observe(number: int, node: Node, outputs: Sequence[Any]) -> None:
        nonlocal done
        done = number + 1
        own = [
            _check_value(number, node, *pair) for pair in zip(outputs, node.outputs, strict=True)
        ]
        hidden = _HIDDEN.get(node.op, 0) * max(own + _argument_sizes(shapes, node), default=0)
        sizes.append(sum(own) + hidden + _attention_bytes(shapes, node))

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            outputs = compiled.run(
                _fakes(graph.parameters, gradient=True),
                _fakes(graph.buffers),
                _fakes(graph.inputs),
                _NoDraws(),
                observe,
            )
    except GraphError:
        raise
    except Exception as error:  # whatever torch raises on what a stranger wrote
        name = graph.nodes[min(done, len(graph.nodes) - 1)].op
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GraphError(f"Node {done} ({name}) cannot run: {reason}") from error
    found: dict[str, object] = dict(outputs)
    for name, value in found.items():
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise GraphError(f"The output {name!r} is not a single number.")
    return sum(sizes) + 2 * max(sizes, default=0)


def _fakes(
    specs: Sequence[TensorSpec | InputSpec], *, gradient: bool = False
) -> dict[str, torch.Tensor]:
    return {
        spec.name: torch.zeros(spec.shape, dtype=TORCH_DTYPES[spec.dtype], requires_grad=gradient)
        for spec in specs
    }


def _check_value(number: int, node: Node, value: Any, recorded: Value) -> int:
    """Return the bytes of a value that is as recorded."""
    if recorded.dtype == "int":
        if isinstance(value, (int, torch.SymInt)):
            return 0
    elif (
        isinstance(value, torch.Tensor)
        and list(value.shape) == recorded.shape
        and value.dtype == TORCH_DTYPES[recorded.dtype]
    ):
        return value.numel() * value.element_size()
    found = f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value)
    raise GraphError(
        f"Node {number} ({node.op}) gives {found}, but {recorded.dtype} {recorded.shape} was "
        "recorded: export the graph anew."
    )


def _shapes(graph: Graph) -> list[list[int]]:
    """Return the recorded shape of every value."""
    return [
        *(spec.shape for spec in graph.parameters),
        *(spec.shape for spec in graph.buffers),
        *(spec.shape for spec in graph.inputs),
        *(constant.shape for constant in graph.constants),
        *(value.shape for node in graph.nodes for value in node.outputs),
    ]


def _argument_sizes(shapes: list[list[int]], node: Node) -> list[int]:
    return [4 * math.prod(shapes[slot]) for slot in references(node)]


def _attention_bytes(shapes: list[list[int]], node: Node) -> int:
    """Return what unfused attention keeps: three times the weights [.., T, S] as float32."""
    if node.op != "aten.scaled_dot_product_attention.default":
        return 0
    query, key = (shapes[slot] for slot in references(node)[:2])
    return 3 * 4 * math.prod(query[:-1]) * key[-2]
