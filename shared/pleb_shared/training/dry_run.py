"""Bounds what a graph takes before it runs: memory, operations, and what each operator is given.

The graph runs once on FakeTensors, which have shapes but no memory: forward, and for training
backward too, whose gradients can be larger than every value of the forward pass.
"""

from __future__ import annotations

import logging
import math
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.flops import flops_per_evaluation, flops_per_step
from pleb_shared.protocol.project import (
    AdamW,
    DataSpec,
    InputSpec,
    ModelSpec,
    Muon,
    Optimizer,
    TensorSpec,
    tensor_bytes,
)
from pleb_shared.tensors.chunk_view import held_numbers
from pleb_shared.training.graph import TORCH_DTYPES, TORCH_ERRORS, CompiledGraph, refusal
from pleb_shared.training.preconditions.call import check_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pleb_shared.protocol.graph import Graph, Node, Value
    from pleb_shared.tensors.chunk_view import ChunkView
    from pleb_shared.training.draws import Form
    from pleb_shared.training.operators import Operator

__all__ = ["Cost", "NoDraws", "check_graph", "dry_run", "trained_parameters", "training_cost"]

_COPIES_OF_THE_MODEL: Final = 2
"""Version and last difference."""
_COPIES_OF_WHAT_IS_TRAINED: Final = 2
"""Working copy, and one transient (delta or state)."""
_ELEMENT: Final = 16
"""Operations that one element counts for which is read or written outside of products: it takes
about as long as 16 multiply-adds of a product do."""
_UNCOUNTED: Final = 2**33
"""Operations of one run beside what its FLOPs explain: half a thousand million elements, such as
100 per example and feature for 65,536 examples of 80 features."""
_PER_FLOP: Final = 8
"""Operations for each FLOP that is paid for: a small convolution is mostly reading."""
_PER_WEIGHT: Final = 16 * _ELEMENT
"""Operations for each number of the model: an embedding's gradient is as large as its table."""
_OPTIMIZER_PASSES: Final = 16
"""How often an optimizer reads or writes each weight and its state."""
_SORTING: Final = 32
"""Passes over the elements that sorting takes, at most."""
_SORTS: Final = {
    "sort",
    "topk",
    "argsort",
    "median",
    "nanmedian",
    "kthvalue",
    "mode",
    "searchsorted",
}
_FACTORING: Final = 4
"""Passes for each row or column that factors, inverses and exponentials of matrices take: 64
operations for each element and row, where a product of matrices takes two."""
_DISTANCES: Final = {
    torch.ops.aten._cdist_forward,  # noqa: SLF001
    torch.ops.aten._cdist_backward,  # noqa: SLF001
    torch.ops.aten._pdist_forward,  # noqa: SLF001
    torch.ops.aten._pdist_backward,  # noqa: SLF001
}
"""They compare all points with all others."""
_TAPS: Final = {
    "upsample_bicubic2d": 16,
    "_upsample_bicubic2d_aa": 16,
    "_upsample_bilinear2d_aa": 16,
    "grid_sampler_2d": 16,
    "grid_sampler_3d": 8,
}
"""How many elements of the input one of the output takes, or one of the input gives to."""
_ATTENTION: Final = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
_ATTENTION_BACKWARD: Final = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
_PER_SECOND: Final = 2e9
"""Operations of the slowest thread that is of use."""
_HALF: Final = 32
"""How much slower products of 16-bit numbers are without instructions for them (1 GFLOP/s)."""
_HIDDEN_BYTES: Final = {
    torch.ops.aten.mkldnn_rnn_layer: 12,
    torch.ops.aten.mkldnn_rnn_layer_backward: 12,
}
"""Kernels that allocate more than they return, in sizes of their largest tensor. The forward one
keeps it for backward, in a workspace that is empty when fake."""


@dataclass(frozen=True)
class Cost:
    """What a run of a graph takes, at most."""

    memory_bytes: int
    """Beyond an idle worker, without the shards."""
    operations: int
    """FLOPs of products, and 16 for each element that other operators read or write."""
    seconds: float
    """On one thread of the slowest PC that is of use; ordinary ones take a tenth."""


class NoDraws:
    """Returns ones or zeros: only shapes matter here, and the memory that drawing takes."""

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:  # noqa: ARG002
        """Return ones [*like.shape]; the words that a mask is drawn from take as much again."""
        torch.zeros(like.numel(), dtype=torch.int64)
        return torch.ones_like(like)

    def uniform(self, form: Form, node: int) -> torch.Tensor:  # noqa: ARG002
        """Return zeros; words, numbers and numbers of the right type are held at once."""
        count = math.prod(form.shape)
        held = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
        found = torch.zeros(form.shape, dtype=form.dtype)
        del held
        return found

    normal = exponential = permutation = uniform

    def integers(self, form: Form, low: int, high: int, node: int) -> torch.Tensor:  # noqa: ARG002
        """Return zeros [*form.shape]."""
        return self.uniform(form, node)

    def require(self, condition: torch.Tensor, sentence: str) -> None:
        """Accept anything: values are not known."""


def training_cost(
    graph: Graph, view: ChunkView, data: DataSpec, batch_examples: int, optimizer: Optimizer
) -> Cost:
    """Return what one local step with `graph` costs; the memory is that of a whole unit.

    It has the copies of the model and of what the chunk trains of it, the optimizer's state, and
    the most that is held at once during a step.

    Raises:
        GraphError: as `check_graph` and `dry_run`.
    """
    check_graph(graph, view, data, batch_examples)
    whole = sum(math.prod(spec.shape) for spec in view.whole.parameters)
    trained = held_numbers(view)
    copies = _COPIES_OF_WHAT_IS_TRAINED + {AdamW: 2, Muon: 3}.get(type(optimizer), 1)
    if view.chunk is not None and view.chunk.windows:
        copies += 1  # what is cut out of the version
    step = dry_run(graph, trains=True)
    optimizing = _optimizer_operations(view.model, optimizer)
    return Cost(
        memory_bytes=4 * (_COPIES_OF_THE_MODEL * whole + copies * trained) + step.memory_bytes,
        operations=step.operations + optimizing,
        seconds=step.seconds + optimizing / _PER_SECOND,
    )


def _optimizer_operations(model: ModelSpec, optimizer: Optimizer) -> int:
    """Return the operations of one step of the optimizer.

    Muon's Newton-Schulz iteration multiplies X [r, c], r <= c, with X^T, A [r, r] with itself,
    and the sum of both with X.
    """
    total = 0
    matrices = set(optimizer.matrices) if isinstance(optimizer, Muon) else set()
    for spec in model.parameters:
        total += _OPTIMIZER_PASSES * _ELEMENT * math.prod(spec.shape)
        if isinstance(optimizer, Muon) and spec.name in matrices and spec.shape:
            sides = spec.shape[0], math.prod(spec.shape[1:])
            short, long = min(sides), max(sides)
            once = 4 * short**2 * long + 2 * short**3
            total += optimizer.newton_schulz_steps * once
    return total


def check_graph(graph: Graph, view: ChunkView, data: DataSpec, batch_examples: int | None) -> None:
    """Check that a graph fits the chunk and data; `batch_examples` None allows any batch size.

    Raises:
        GraphError: its tensors differ from the chunk's, or its inputs are not batches of the data.
    """
    tensors = (graph.parameters, graph.buffers, graph.base)
    if tensors != (view.model.parameters, view.buffers, view.base_tensors):
        raise GraphError("The graph's tensors do not match the project's model.")
    found = [(spec.name, spec.dtype, spec.shape[1:]) for spec in graph.inputs]
    expected = [(spec.name, spec.dtype, spec.shape) for spec in data.inputs]
    sizes = {spec.shape[0] if spec.shape else 0 for spec in graph.inputs}
    if found != expected or (batch_examples is not None and sizes != {batch_examples}):
        raise GraphError(
            f"The graph's inputs are not batches of {batch_examples or 'some'} examples of the "
            "project's data: export the graph with such a batch."
        )


def dry_run(graph: Graph, *, trains: bool, batch_examples: int | None = None) -> Cost:
    """Return what a run of `graph` costs: forward, and backward if it `trains`.

    The memory is the most that values, gradients and what is kept for backward hold at once, and
    twice the largest of them, as room for a kernel's temporaries, and the base. Views share memory.
    With
    `batch_examples` the inputs have that many examples, not as many as recorded; shapes may then
    differ from the recorded ones, too.

    Raises:
        GraphError: an operator refuses its arguments, a shape depends on values, a shape or dtype
            differs from the recorded one, the loss is no single number or depends on nothing
            that is trained, or it takes far more operations than its FLOPs explain. The message
            names the node.
    """
    compiled = CompiledGraph(graph)
    recorded = {spec.shape[0] for spec in graph.inputs if spec.shape}
    meter = _Meter(check_values=batch_examples is None or recorded == {batch_examples})
    try:
        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            parameters, base = _fakes(graph.parameters), _fakes(graph.base)
            for parameter in parameters.values():
                parameter.requires_grad_(trains)
            buffers, inputs = _fakes(graph.buffers), _fakes(graph.inputs, batch_examples)
            meter.given(*parameters.values(), *buffers.values(), *base.values(), *inputs.values())
            compiled = compiled.with_base(base)
            with meter, torch.set_grad_enabled(trains):
                outputs = compiled.run(parameters, buffers, inputs, NoDraws(), meter)
                found = dict(outputs)
                del outputs
                _check_outputs(graph, found, trains=trains)
                if trains:
                    _backward(found.pop("loss"))
    except TrainingError as error:
        raise GraphError(str(error)) from error
    paid = flops_per_step(graph) if trains else flops_per_evaluation(graph)
    weights = sum(math.prod(spec.shape) for spec in [*graph.parameters, *graph.base])
    if meter.operations > _UNCOUNTED + _PER_FLOP * paid + _PER_WEIGHT * weights:
        raise GraphError(
            f"A run of the graph takes {meter.operations:.1e} operations, far more than its "
            f"{paid:.1e} FLOPs explain (mostly {meter.costliest}): make the batch smaller."
        )
    return Cost(
        memory_bytes=tensor_bytes(graph.base) + meter.peak_bytes + 2 * meter.largest_bytes,
        operations=meter.operations,
        seconds=meter.seconds,
    )


def trained_parameters(graph: Graph) -> set[str]:
    """Return the names of the parameters that get a gradient from the loss.

    The others never change, as with torch's own optimizers: weight decay passes them over, too.

    Raises:
        GraphError: as `dry_run`, for which the loss must depend on one of them.
    """
    compiled = CompiledGraph(graph)
    try:
        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            parameters, base = _fakes(graph.parameters), _fakes(graph.base)
            for parameter in parameters.values():
                parameter.requires_grad_()
            outputs = compiled.with_base(base).run(
                parameters, _fakes(graph.buffers), _fakes(graph.inputs), NoDraws()
            )
            _check_outputs(graph, outputs, trains=True)
            _backward(outputs["loss"])
    except TrainingError as error:
        raise GraphError(str(error)) from error
    return {name for name, parameter in parameters.items() if parameter.grad is not None}


def _check_outputs(graph: Graph, outputs: Mapping[str, object], *, trains: bool) -> None:
    for output in graph.outputs:
        value = outputs[output.key]
        if trains and output.kind != "mean":
            raise GraphError(f"A training graph gives no {output.kind}.")
        if not isinstance(value, torch.Tensor):
            raise GraphError(f"The output {output.key!r} is not a tensor.")
        if output.kind in {"predictions", "targets"}:
            if not value.ndim or value.is_complex():
                raise GraphError(f"The output {output.key!r} is not [batch, ...] of real numbers.")
            continue
        if value.numel() != 1:
            raise GraphError(f"The output {output.key!r} is not a single number.")
        if output.kind == "mean" and not value.is_floating_point():
            raise GraphError(f"The output {output.key!r} is {value.dtype}, not a real number.")
    loss = outputs.get("loss")
    if trains and not (isinstance(loss, torch.Tensor) and loss.requires_grad):
        raise GraphError("The graph has no loss that depends on a trained parameter.")


def _backward(loss: object) -> None:
    """Run backward from the fake `loss`, a tensor of one element.

    Raises:
        TrainingError: a kernel refuses.
    """
    if isinstance(loss, torch.Tensor):
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except TORCH_ERRORS as error:
            raise refusal("The backward pass", error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for every graph that is refused."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches a run on FakeTensors: checks calls and values, follows memory, counts operations.

    It sees every call below autograd, so what composite operators and backward call, too.
    """

    def __init__(self, *, check_values: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._check_values = check_values
        self._live: dict[int, object] = {}
        """Storages that exist, or weak references to them, by address."""
        self._live_bytes = 0
        self.peak_bytes = 0
        self.largest_bytes = 0
        self.operations = 0
        self.seconds = 0.0
        self.costliest = "nothing"
        self._costliest_operations = 0

    def given(self, *tensors: torch.Tensor) -> None:
        """Leave the memory of `tensors`, of any shape, out: it is counted elsewhere."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._live[storage._cdata] = storage  # noqa: SLF001

    def before(
        self, number: int, node: Node, called: Operator, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        """Refuse a call whose arguments its kernel would trust."""
        wrong = (
            check_call(called.parameters, called.rules, args, kwargs) if called.parameters else ""
        )
        if wrong:
            raise GraphError(f"Node {number} ({node.op}) cannot run: {wrong}.")

    def after(self, number: int, node: Node, outputs: Sequence[Any]) -> None:
        """Refuse values whose shape or dtype differs from the recorded one."""
        if self._check_values:
            for value, recorded in zip(outputs, node.outputs, strict=True):
                _check_value(number, node, value, recorded)

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        returned = _tensors([result])
        hidden = 0
        if func.overloadpacket in _HIDDEN_BYTES:
            sizes = (t.numel() * t.element_size() for t in (*_tensors(args), *returned))
            hidden = _HIDDEN_BYTES[func.overloadpacket] * max(sizes)
            if func.overloadpacket is torch.ops.aten.mkldnn_rnn_layer:
                self._keep(result[-1], hidden)
        new = sum(self._keep(tensor) for tensor in returned)
        largest = max((tensor.untyped_storage().nbytes() for tensor in returned), default=0)
        self.largest_bytes = max(self.largest_bytes, int(largest))
        self.peak_bytes = max(self.peak_bytes, self._live_bytes + hidden)
        operations = 1
        if new or func._schema.is_mutable:  # noqa: SLF001
            operations = _operations(func, args, kwargs, result)
        self.operations += operations
        half = any(t.dtype in {torch.float16, torch.bfloat16} for t in returned)
        self.seconds += operations * (_HALF if half else 1) / _PER_SECOND
        if operations > self._costliest_operations:
            self.costliest, self._costliest_operations = str(func), operations
        return result

    def _keep(self, tensor: torch.Tensor, more_bytes: int = 0) -> int:
        """Count the storage of `tensor`, of any shape, until it is gone; return its new bytes."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, int(storage.nbytes()) + more_bytes  # noqa: SLF001
        if key in self._live:
            return 0

        def gone(_: object) -> None:
            del self._live[key]
            self._live_bytes -= size

        self._live[key] = weakref.ref(storage, gone)
        self._live_bytes += size
        return size


def _tensors(items: Any) -> list[torch.Tensor]:
    """Return the tensors among `items` and in lists among them."""
    found: list[torch.Tensor] = []
    for item in items:
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, (list, tuple)):
            found += _tensors(item)
    return found


def _operations(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Return the operations of one call, which got `args` and `kwargs` and returned `result`."""
    packet = func.overloadpacket
    given = [*_tensors(args), *_tensors(kwargs.values())]
    reading = _ELEMENT * sum(tensor.numel() for tensor in (*given, *_tensors([result])))
    if packet in flop_registry:
        return reading + int(flop_registry[packet](*args, **kwargs, out_val=result))
    if packet in {_ATTENTION, _ATTENTION_BACKWARD}:  # [B, H, T, E], [B, H, S, E], [B, H, S, V]
        backward = packet is _ATTENTION_BACKWARD
        query, key, value = args[1:4] if backward else args[:3]
        pairs: int = math.prod(query.shape[:-1]) * key.shape[-2]
        return reading + (6 if backward else 2) * pairs * int(query.shape[-1] + value.shape[-1])
    if packet in _HIDDEN_BYTES:  # every weight matrix meets every position of the input
        weights: int = sum(tensor.numel() for tensor in given if tensor.dim() == 2)
        return reading + 6 * math.prod(given[0].shape[:-1]) * weights
    if packet in _DISTANCES:  # from [.., P, M] to [.., R, M], or all of [P, M]
        points = max(int(t.shape[-2]) for t in given if t.dim() > 1)
        return reading * max(1, points)
    name = packet.__name__
    if name.removeprefix("_").startswith(("linalg_", "lu_")) and "norm" not in name:
        sides: int = max((max(t.shape[-2:]) for t in given if t.dim() > 1), default=1)
        return reading * _FACTORING * sides
    return reading * _passes(func, args)


def _passes(func: Any, args: Any) -> int:
    """Return how often a kernel meets each of its elements."""
    for argument, value in zip(func._schema.arguments, args, strict=False):  # noqa: SLF001
        if argument.name == "kernel_size":
            return max(1, int(math.prod(value)))
    name = func.overloadpacket.__name__.removesuffix("_backward")
    if name in _TAPS:
        return _TAPS[name]
    return _SORTING if func.overloadpacket.__name__ in _SORTS else 1


def _fakes(
    specs: Sequence[TensorSpec | InputSpec], batch_examples: int | None = None
) -> dict[str, torch.Tensor]:
    """Return zeros of the shapes that `specs` give; `batch_examples` replaces the first size."""
    sizes = [] if batch_examples is None else [batch_examples]
    return {
        spec.name: torch.zeros([*sizes, *spec.shape[len(sizes) :]], dtype=TORCH_DTYPES[spec.dtype])
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
