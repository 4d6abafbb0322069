"""Runs a graph: a flat list of values, one allow-listed call after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.graph import (
    Argument,
    Constant,
    Dtype,
    Float,
    Graph,
    MemoryFormat,
    Node,
    Ref,
    references,
    value_count,
)
from pleb_shared.tensors.layout import BFLOAT16_BITS, NUMPY_DTYPES
from pleb_shared.training.operators import Operator, find_operator, written_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pleb_shared.training.draws import Draws

__all__ = ["TORCH_DTYPES", "TORCH_ERRORS", "CompiledGraph", "Observer", "base_tensors", "refusal"]

TORCH_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_MEMORY_FORMATS: Final = {
    "contiguous": torch.contiguous_format,
    "preserve": torch.preserve_format,
    "channels_last": torch.channels_last,
}

TORCH_ERRORS: Final = (
    RuntimeError,
    IndexError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)
"""What torch raises when it refuses arguments, their number included."""


class Observer(Protocol):
    """Watches a run, which makes it slower."""

    def before(
        self, number: int, node: Node, called: Operator, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        """See the arguments of the node `number`; an exception keeps it from running."""

    def after(self, number: int, node: Node, outputs: Sequence[Any]) -> None:
        """See the node's outputs right after it ran."""


def refusal(what: str, error: Exception) -> Exception:
    """Return our form of one of `TORCH_ERRORS`; `what` begins its sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = f"{what} cannot run: {lines[0]}"
    return MemoryError(message) if "allocate" in lines[0] else TrainingError(message)


@dataclass(frozen=True)
class _Step:
    """A node, ready to be called."""

    number: int
    node: Node
    operator: Operator
    args: list[Any]
    kwargs: dict[str, Any]
    places: tuple[tuple[int, int], ...]
    """(position in args, value's number) of arguments that are values."""
    lists: tuple[tuple[int, list[Any]], ...]
    """(position in args, items) of arguments that are lists with values in them."""
    named: tuple[tuple[str, Any], ...]
    """(name, item or items) of keyword arguments that hold values."""
    first: int
    last: int
    single: bool
    dead: tuple[int, ...]
    """Values that no later node uses."""


class CompiledGraph:
    """A checked graph that can be run many times; `with_base` first, if its model has a base.

    Its tensors are on `device`. `part_done` is called after each node and, in the backward pass,
    after each gradient of a value, from any thread: so that a device never has much in its queue.

    Raises:
        GraphError: an operator or its arguments are not allowed, a node would change a
            parameter, the base, an input or a constant in place, or `mutated` does not list
            exactly the buffers that the graph changes.
    """

    def __init__(
        self,
        graph: Graph,
        device: torch.device | str = "cpu",
        part_done: Callable[[], None] | None = None,
    ) -> None:
        self.graph = graph
        self.device = torch.device(device)
        self.part_done = part_done
        operators = [find_operator(node, i) for i, node in enumerate(graph.nodes)]
        written = written_buffers(graph, operators)
        if written != set(graph.mutated):
            raise GraphError(
                f"The graph changes the buffers {sorted(written)} but declares {graph.mutated}."
            )
        self._constants = [_constant(constant, self.device) for constant in graph.constants]
        self._given: dict[str, torch.Tensor] = {}
        self._base: list[torch.Tensor] = []
        self._steps = _compile(graph, operators, self.device)
        self._size = value_count(graph) + sum(len(node.outputs) for node in graph.nodes)

    def with_base(
        self, tensors: Mapping[str, torch.Tensor], *, partly: bool = False
    ) -> CompiledGraph:
        """Return this graph on `tensors`, by name, in the dtypes and shapes of the graph's base.

        `base_tensors` makes them of arrays; more of them than the base has are no fault.
        With `partly` some may be missing: a later call gives them.

        They are neither copied nor changed, so runs and threads may share them.

        Raises:
            GraphError: one is missing, or of another dtype or shape.
        """
        given = {**self._given, **tensors}
        for spec in self.graph.base:
            found = given.get(spec.name)
            if found is None and partly:
                continue
            if (
                found is None
                or list(found.shape) != spec.shape
                or found.dtype != TORCH_DTYPES[spec.dtype]
            ):
                message = f"The base has no {spec.dtype} {spec.shape} with the name {spec.name!r}."
                raise GraphError(message)
        bound = copy.copy(self)
        own = {
            spec.name: given[spec.name].to(self.device)
            for spec in self.graph.base
            if spec.name in given
        }
        bound._given = own  # noqa: SLF001 - it is our own copy
        bound._base = list(own.values())  # noqa: SLF001 - in the order of the graph's base
        return bound

    def run(
        self,
        parameters: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        inputs: Mapping[str, torch.Tensor],
        draws: Draws,
        observer: Observer | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the outputs by key; `buffers` are changed in place as the model changes them.

        Tensors have the shapes that the graph's specifications record; inputs are
        [batch, *shape], metrics and the loss are scalars but for predictions and targets [batch,
        ...]. Autograd records the same calls as in
        eager mode.

        Raises:
            TrainingError: an operator refuses its arguments, such as a label out of range.
            MemoryError: there is not enough memory.
            GraphError: the model's base is missing.
        """
        graph = self.graph
        if len(self._base) != len(graph.base):
            raise GraphError("The graph runs on a base, which was not given.")
        values: list[Any] = [
            *(parameters[spec.name] for spec in graph.parameters),
            *(buffers[spec.name] for spec in graph.buffers),
            *self._base,
            *(inputs[spec.name] for spec in graph.inputs),
            *self._constants,
        ]
        values.extend([None] * (self._size - len(values)))
        for step in self._steps:
            try:
                _execute(step, values, draws, observer)
            except TORCH_ERRORS as error:
                raise refusal(f"Node {step.number} ({step.operator.name})", error) from error
            if observer is not None:
                observer.after(step.number, step.node, values[step.first : step.last])
            if self.part_done is not None:
                _part_done(values[step.first : step.last], self.part_done)
            for slot in step.dead:
                values[slot] = None
        return {output.key: values[output.slot] for output in graph.outputs}


def _part_done(outputs: Sequence[Any], part_done: Callable[[], None]) -> None:
    """Call `part_done` now, and when the backward pass comes to one of these outputs."""
    for value in outputs:
        if isinstance(value, torch.Tensor) and value.grad_fn is not None:
            value.register_hook(lambda _: part_done())  # type: ignore[no-untyped-call]
    part_done()


def _execute(step: _Step, values: list[Any], draws: Draws, observer: Observer | None) -> None:
    """Call one step on `values` and store its outputs there."""
    args, kwargs = step.args, step.kwargs
    if step.places or step.lists:
        args = args.copy()
        for position, slot in step.places:
            args[position] = values[slot]
        for position, items in step.lists:
            args[position] = _fill(items, values)
    if step.named:
        kwargs = kwargs | {name: _fill(item, values) for name, item in step.named}
    if observer is not None:
        observer.before(step.number, step.node, step.operator, args, kwargs)
    if step.operator.draws:
        args = [draws, step.number, *args]
    if step.node.no_grad:
        with torch.no_grad():
            result = step.operator.call(*args, **kwargs)
    else:
        result = step.operator.call(*args, **kwargs)
    if step.single:
        values[step.first] = result
    else:
        _store(step, values, result)


def _store(step: _Step, values: list[Any], results: Any) -> None:
    """Store the outputs of a step that gives several."""
    if len(results) != step.last - step.first:
        raise GraphError(
            f"Node {step.number} ({step.operator.name}) gives {len(results)} values, "
            f"not {step.last - step.first}."
        )
    values[step.first : step.last] = results


def _fill(item: Any, values: list[Any]) -> Any:
    """Return an argument with the values that it refers to."""
    if isinstance(item, list):
        return [_fill(one, values) for one in item]
    return values[item.slot] if isinstance(item, Ref) else item


def _compile(graph: Graph, operators: list[Operator], device: torch.device) -> list[_Step]:
    """Return the nodes' steps, each with the values that no later step uses."""
    last_use: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        last_use.update(dict.fromkeys(references(node), number))
    last_use.update({output.slot: len(graph.nodes) for output in graph.outputs})
    steps = []
    slot = value_count(graph)
    for number, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        first, slot = slot, slot + len(node.outputs)
        used = {*references(node), *range(first, slot)}
        args = [_prepare(argument) for argument in node.args]
        kwargs = {name: _prepare(argument) for name, argument in node.kwargs.items()}
        if operator.factory:
            kwargs["device"] = device
        step = _Step(
            number=number,
            node=node,
            operator=operator,
            args=args,
            kwargs=kwargs,
            places=tuple((i, a.slot) for i, a in enumerate(args) if isinstance(a, Ref)),
            lists=tuple((i, a) for i, a in enumerate(args) if isinstance(a, list) and _has_ref(a)),
            named=tuple((n, a) for n, a in kwargs.items() if isinstance(a, Ref) or _has_ref(a)),
            first=first,
            last=slot,
            single=_gives_one(node, operator),
            dead=tuple(sorted(s for s in used if last_use.get(s, number) == number)),
        )
        steps.append(step)
    return steps


def _gives_one(node: Node, operator: Operator) -> bool:
    """Whether the call returns a value and not a tuple or list of values."""
    returns = getattr(getattr(operator.call, "_schema", None), "returns", None)
    if returns is None:
        return True
    one = len(returns) == 1 and str(returns[0].type) != "List[Tensor]"
    if one and len(node.outputs) != 1:
        raise GraphError(f"{node.op} gives one value, not {len(node.outputs)}.")
    return one


def _has_ref(item: Any) -> bool:
    return isinstance(item, list) and any(isinstance(one, Ref) for one in item)


def _prepare(argument: Argument) -> Any:
    """Return an argument in torch's form; references to values stay references."""
    match argument:
        case list():
            return [_prepare(item) for item in argument]
        case Dtype():
            return TORCH_DTYPES[argument.name]
        case Float():
            return float(argument.value)
        case MemoryFormat():
            return _MEMORY_FORMATS[argument.name]
        case _:
            return argument


def base_tensors(arrays: Iterable[tuple[str, NDArray[Any]]]) -> dict[str, torch.Tensor]:
    """Return what `CompiledGraph.with_base` takes: copies of named arrays, made one by one."""
    return {name: _to_torch(array) for name, array in arrays}


def _to_torch(array: NDArray[Any]) -> torch.Tensor:
    """Return a copy of `array`, of any dtype that a `TensorSpec` may name, in the same shape."""
    if array.dtype == BFLOAT16_BITS:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def _constant(constant: Constant, device: torch.device) -> torch.Tensor:
    array = np.frombuffer(constant.data, NUMPY_DTYPES[constant.dtype]).reshape(constant.shape)
    return _to_torch(array).to(device)
