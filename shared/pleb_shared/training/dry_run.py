"""Bounds a unit's memory before it is accepted, and checks the graph's recorded shapes.

The graph runs once on FakeTensors, which have shapes but no memory.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_shared.errors import GraphError, TrainingError
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
    from collections.abc import Iterator, Sequence

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
    """Returns masks of ones: only shapes matter here."""

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:  # noqa: ARG002
        """Return ones [*like.shape]."""
        return torch.ones_like(like)


def peak_bytes(
    graph: Graph, model: ModelSpec, data: DataSpec, batch_examples: int, optimizer: Optimizer
) -> int:
    """Return a bound on the bytes that training with `graph` needs beyond an idle worker.

    It counts the copies of the model, the optimizer's state, and every value of the forward
    pass as if all were kept for backward. Shards are not included; add their size.

    Raises:
        GraphError: as `check_graph` and `activation_bytes`.
    """
    check_graph(graph, model, data, batch_examples)
    weights = sum(4 * math.prod(spec.shape) for spec in model.parameters)
    state = {AdamW: 2, Muon: 3}.get(type(optimizer), 1)
    return (_COPIES_OF_THE_MODEL + state) * weights + activation_bytes(graph)


def check_graph(graph: Graph, model: ModelSpec, data: DataSpec, batch_examples: int | None) -> None:
    """Check that a graph fits the model and data; `batch_examples` None allows any batch size.

    Raises:
        GraphError: its tensors differ from the model's, or its inputs are not batches of the data.
    """
    if graph.parameters != model.parameters or graph.buffers != model.buffers:
        raise GraphError("The graph's tensors do not match the project's model.")
    found = [(spec.name, spec.dtype, spec.shape[1:]) for spec in graph.inputs]
    expected = [(spec.name, spec.dtype, spec.shape) for spec in data.inputs]
    sizes = {spec.shape[0] if spec.shape else 0 for spec in graph.inputs}
    if found != expected or (batch_examples is not None and sizes != {batch_examples}):
        raise GraphError(
            f"The graph's inputs are not batches of {batch_examples or 'some'} examples of the "
            "project's data: export the graph with such a batch."
        )


def activation_bytes(graph: Graph) -> int:
    """Return the bytes that a forward pass allocates, plus twice its largest value.

    Everything counts as if it were kept for backward; views share memory and count nothing. The
    extra two copies of the largest value are room for its gradient and a temporary.

    Raises:
        GraphError: an operator refuses its arguments, a shape depends on values, or a shape or
            dtype differs from the recorded one; the message names the node.
    """
    compiled = CompiledGraph(graph)
    meter = _Meter(_shapes(graph))
    try:
        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            outputs = compiled.run(
                _fakes(graph.parameters, gradient=True),
                _fakes(graph.buffers),
                _fakes(graph.inputs),
                _NoDraws(),
                meter.observe,
            )
    except TrainingError as error:
        raise GraphError(str(error)) from error
    found: dict[str, object] = dict(outputs)
    for name, value in found.items():
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise GraphError(f"The output {name!r} is not a single number.")
    return sum(meter.sizes) + 2 * max(meter.sizes, default=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for every graph that is refused."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Meter:
    """Watches a run on FakeTensors: checks every value and adds up new memory."""

    def __init__(self, shapes: list[list[int]]) -> None:
        self._shapes = shapes
        self._storages: dict[int, torch.UntypedStorage] = {}
        """Seen ones by address; held, so that no address is used twice."""
        self.sizes: list[int] = []
        """New bytes of each node."""

    def observe(self, number: int, node: Node, outputs: Sequence[Any]) -> None:
        """Check the outputs of a node and count the memory that they and backward take."""
        for value, recorded in zip(outputs, node.outputs, strict=True):
            _check_value(number, node, value, recorded)
        new = 0
        for value in outputs:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._storages:  # noqa: SLF001
                    self._storages[storage._cdata] = storage  # noqa: SLF001
                    new += int(storage.nbytes())
        used = [4 * math.prod(self._shapes[slot]) for slot in references(node)]
        hidden = _HIDDEN.get(node.op, 0) * max([new, *used])
        self.sizes.append(new + hidden + _attention_bytes(self._shapes, node))


def _fakes(
    specs: Sequence[TensorSpec | InputSpec], *, gradient: bool = False
) -> dict[str, torch.Tensor]:
    return {
        spec.name: torch.zeros(spec.shape, dtype=TORCH_DTYPES[spec.dtype], requires_grad=gradient)
        for spec in specs
    }


def _check_value(number: int, node: Node, value: Any, recorded: Value) -> None:
    """Refuse a value whose shape or dtype differs from the recorded one."""
    if recorded.dtype == "int":
        if isinstance(value, (int, torch.SymInt)):
            return
    elif (
        isinstance(value, torch.Tensor)
        and list(value.shape) == recorded.shape
        and value.dtype == TORCH_DTYPES[recorded.dtype]
    ):
        return
    found = f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value)
    raise GraphError(
        f"Node {number} ({node.op}) gives {found}, but {recorded.dtype} {recorded.shape} was "
        "recorded: export the graph again."
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


def _attention_bytes(shapes: list[list[int]], node: Node) -> int:
    """Return the bytes that unfused attention keeps: three times the weights [.., T, S].

    `scaled_dot_product_attention` (query, key, value, mask, dropout, causal): torch's fused
    kernel takes four dimensions, equal widths, and neither a mask nor dropout.
    """
    if node.op != "aten.scaled_dot_product_attention.default":
        return 0
    query, key, value = (shapes[slot] for slot in references(node)[:3])
    plain = (
        all(argument is None or argument == 0 for argument in node.args[3:5]) and not node.kwargs
    )
    if plain and len(query) == 4 and query[-1] == key[-1] == value[-1]:
        return 0
    return 3 * 4 * math.prod(query[:-1]) * key[-2]
