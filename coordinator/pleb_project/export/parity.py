"""Checks that graphs do exactly what their model does in eager mode."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher, no_python_dispatcher
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.autograd.function import BackwardCFunction
from typing_extensions import override

from pleb_project.export.decompose import drawn_by
from pleb_project.export.model_tensors import unchanged
from pleb_project.export.replacements import redrawn, replaced
from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.graph import Node
from pleb_shared.training.draws import Draws, NodeDraws
from pleb_shared.training.graph import TORCH_DTYPES, CompiledGraph
from pleb_shared.training.operators import DRAWING, find_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_shared.protocol.graph import Graph

__all__ = ["check_evaluation", "check_parity", "check_showcase", "drawing_nodes", "eager_draws"]

Batch = dict[str, torch.Tensor]

_CLOSE: Final = 1e-4
"""A hundred times what sums of float32 lose by their order; a wrong formula is far above it."""
_NOTHING: Final = 1e-6
"""Of the largest gradient: gradients that small, as of a bias before a norm, are rounding alone."""


def drawing_nodes(graph: Graph) -> list[int]:
    """Return the numbers of the nodes that may draw, in order."""
    return [i for i, node in enumerate(graph.nodes) if node.op in DRAWING]


@contextmanager
def eager_draws(draws: Draws, nodes: Sequence[int]) -> Iterator[None]:
    """Let an eager model draw what its graph draws, while the context lasts.

    The n-th call that may draw belongs to the n-th of `nodes`.
    """
    with enable_python_dispatcher(), _EagerDraws(draws, nodes):
        yield


class _EagerDraws(SchemaCheckMode):  # type: ignore[no-untyped-call]
    """Sees the calls that torch.export records, before autograd and composites take them apart.

    torch lets no other kind of mode see these calls than the one that this is derived from,
    whose own checks are replaced.
    """

    def __init__(self, draws: Draws, nodes: Sequence[int]) -> None:
        super().__init__()
        self._dispatch_key = torch._C.DispatchKey.PreDispatch  # noqa: SLF001
        self._draws = draws
        self._nodes = iter(nodes)

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        if name not in DRAWING:
            formula = drawn_by(func, args)
            if formula is None:
                with no_python_dispatcher():  # which takes other kernels, such as of an LSTM
                    return func(*args, **kwargs)
            with self:
                return formula(*args, **kwargs)
        number = next(self._nodes, None)
        if number is None:
            raise GraphError("The model draws more often in eager mode than its graph.")
        given = {k: v for k, v in kwargs.items() if k not in {"layout", "pin_memory", "device"}}
        call = find_operator(Node(op=name, outputs=[]), number).call
        return call(self._draws, number, *args, **given)


def check_parity(
    graph: Graph,
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    batch: Batch,
    *,
    exact: bool = True,
) -> None:
    """Check that loss, gradients and buffers of one step are equal to the bit.

    Where formulas stand in for kernels, so that it is not `exact`, or where the model computes
    gradients by its own code, they may differ by `_CLOSE` of the largest number of a tensor.

    Raises:
        GraphError: they are not; the sentence names the first difference.
    """
    draws, nodes = NodeDraws(seed=1, step=0), drawing_nodes(graph)
    try:
        with unchanged(model), torch.no_grad(), redrawn(), eager_draws(draws, nodes):
            plain = loss(model.train(), {n: tensor.clone() for n, tensor in batch.items()})
        with unchanged(model), _as_traced():
            with eager_draws(draws, nodes):
                expected = loss(model.train(), {n: tensor.clone() for n, tensor in batch.items()})
            exact = exact and not _has_own_backward(expected)
            expected.backward()  # type: ignore[no-untyped-call]
            gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            frozen = {n: p.detach().clone() for n, p in model.named_parameters() if p.grad is None}
    except RuntimeError as error:
        raise GraphError(f"loss() cannot be trained: {str(error).splitlines()[0]}") from error

    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.detach().clone() for name, tensor in own.items()}
    for spec in graph.parameters:
        tensors[spec.name] = tensors[spec.name].to(TORCH_DTYPES[spec.dtype]).requires_grad_()
    inputs = {name: tensor.clone() for name, tensor in batch.items()}
    compiled = CompiledGraph(graph).with_base(tensors)
    found = compiled.run(tensors, tensors, inputs, draws)["loss"]
    found.backward()  # type: ignore[no-untyped-call]

    most = 0.0 if exact else _CLOSE
    _compare("the loss", plain, found, _CLOSE)
    _compare("the loss", expected, found, most)
    largest = [float(g.abs().max()) for g in gradients.values() if g is not None and g.numel()]
    rounding = 0.0 if exact else _NOTHING * max(largest, default=0.0)
    for name, gradient in gradients.items():
        mine = tensors[name].grad
        wanted = gradient if gradient is None or mine is None else gradient.to(mine.dtype)
        _compare(f"the gradient of {name!r}", wanted, mine, most, rounding)
    for name, buffer in buffers.items():
        _compare(f"the buffer {name!r}", buffer, tensors[name], most)
    for name in (spec.name for spec in graph.buffers if spec.name in frozen):
        _compare(f"the parameter {name!r}", frozen[name], tensors[name], most)


def check_evaluation(
    graph: Graph,
    model: nn.Module,
    evaluate: Callable[[nn.Module, Batch], dict[str, Any]],
    batch: Batch,
) -> None:
    """Check that the loss of `evaluate` is that of its graph, for batches of several sizes.

    Those are one example, one less than the `batch` [examples, ...] has, as many, and twice as
    many. A size for which the model itself fails is passed over. Losses may differ by `_CLOSE` of
    their size: kernels are chosen by sizes.

    Raises:
        GraphError: they differ, or the graph fails; the sentence names the size.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.detach().clone() for name, tensor in own.items()}
    for spec in graph.parameters:
        tensors[spec.name] = tensors[spec.name].to(TORCH_DTYPES[spec.dtype])
    compiled = CompiledGraph(graph).with_base(tensors)
    count = len(next(iter(batch.values())))
    for size in sorted({1, max(1, count - 1), count, 2 * count}):
        part = {name: torch.cat([tensor, tensor])[:size] for name, tensor in batch.items()}
        draws = NodeDraws(seed=1, step=0)
        try:
            with unchanged(model), torch.no_grad(), _as_traced():
                with eager_draws(draws, drawing_nodes(graph)):
                    expected = evaluate(model.eval(), {n: t.clone() for n, t in part.items()})
                loss = expected["loss"].clone()
        except Exception:  # noqa: BLE001, S112 - the researcher's code may raise anything
            continue
        try:
            with torch.no_grad():
                changed = {name: tensor.clone() for name, tensor in tensors.items()}
                found = compiled.run(tensors, changed, part, draws)["loss"]
        except TrainingError as error:
            raise GraphError(f"{_OF_SIZE.format(size=size, count=count)} ({error})") from error
        if not _equal(loss, found, _CLOSE):
            raise GraphError(_OF_SIZE.format(size=size, count=count))


def check_showcase(
    graph: Graph,
    model: nn.Module,
    showcase: Callable[[nn.Module, Batch], torch.Tensor],
    batch: Batch,
) -> None:
    """Check that the outputs of `showcase` are those of its graph, for one example and for all.

    Inputs of `batch` are [batch, ...]. Outputs may differ by `_CLOSE` of their size.

    Raises:
        GraphError: they differ; or the graph changes a buffer.
    """
    if graph.mutated:
        raise GraphError(f"showcase() changes the buffer {graph.mutated[0]!r}: leave that out.")
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.detach().clone() for name, tensor in own.items()}
    for spec in graph.parameters:
        tensors[spec.name] = tensors[spec.name].to(TORCH_DTYPES[spec.dtype])
    compiled = CompiledGraph(graph).with_base(tensors)
    for size in {1, len(next(iter(batch.values())))}:
        part = {name: tensor[:size] for name, tensor in batch.items()}
        draws = NodeDraws(seed=1, step=0)
        eager = eager_draws(draws, drawing_nodes(graph))
        with unchanged(model), torch.no_grad(), _as_traced(), eager:
            expected = showcase(model.eval(), {n: t.clone() for n, t in part.items()})
        with torch.no_grad():
            found = next(iter(compiled.run(tensors, tensors, part, draws).values()))
        if len(found) != size or not _equal(expected, found, _CLOSE):
            raise GraphError(
                f"showcase() gives something else in its graph, with {size} examples: take sizes "
                "from x.shape[0], and let nothing depend on values or on the number of examples."
            )


_OF_SIZE: Final = (
    "evaluate() was exported with {count} examples, and its graph is not right for {size}: an "
    "`if`, a range() or a number that is made of the batch size keeps what it was for {count}. "
    "Take sizes from x.shape[0] in the operations themselves, and return a mean over the batch."
)


@contextmanager
def _as_traced() -> Iterator[None]:
    """Let an eager model do what `trace` has it do.

    Libraries may take a way of the same outcome, but other rounding, when they are traced.
    """
    with patch.object(torch.compiler, "is_exporting", lambda: True), replaced():
        yield


def _has_own_backward(value: torch.Tensor) -> bool:
    """Whether a `torch.autograd.Function` of the model is part of how `value` [] came about."""
    seen, queue = set(), [value.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [before for before, _ in node.next_functions]
    return any(isinstance(node, BackwardCFunction) for node in seen)


def _compare(
    what: str,
    eager: torch.Tensor | None,
    graph: torch.Tensor | None,
    most: float,
    rounding: float = 0.0,
) -> None:
    """Raise unless both are equal, or both are missing.

    They may differ by `most` of the largest number, or by `rounding`.
    """
    if eager is None and graph is None:
        return
    if eager is None or graph is None or not _equal(eager, graph, most, rounding):
        raise GraphError(
            f"The exported graph differs from the model: {what} is not the same. forward() must "
            "not depend on anything but its inputs, parameters and buffers (so on no clock, and on "
            "no number or list that changes from call to call), and a backward() of its own must "
            "be what torch would compute: write a straight-through step as x + (q - x).detach()."
        )


def _equal(eager: torch.Tensor, graph: torch.Tensor, most: float, rounding: float = 0.0) -> bool:
    eager, graph = eager.detach().nan_to_num(), graph.detach().nan_to_num()  # [any shape]
    if most == 0 or not eager.is_floating_point() or eager.shape != graph.shape:
        return torch.equal(eager, graph)
    largest = float(eager.abs().max()) if eager.numel() else 0.0
    return torch.allclose(eager, graph, rtol=0.0, atol=max(most * largest, rounding))
