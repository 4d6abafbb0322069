"""Rewrites torch.export's training IR to a graph of the protocol."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import torch
from torch import Tag, fx, nn
from torch._ops import OpOverload
from torch.export.graph_signature import InputKind

from pleb_project.export.decompose import Expansion, expand, is_expanded
from pleb_project.export.model_tensors import DTYPE_NAMES, canonical_names
from pleb_project.export.source import RefusedNodeError, source_line
from pleb_shared.errors import GraphError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import (
    GRAPH_FORMAT,
    Argument,
    Constant,
    Dtype,
    Float,
    Graph,
    MemoryFormat,
    Node,
    Output,
    Ref,
    Scalar,
    Value,
    value_count,
)
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.project import InputSpec
from pleb_shared.tensors.layout import little_endian
from pleb_shared.training.graph import TORCH_DTYPES
from pleb_shared.training.operators import (
    find_operator,
    is_allowed,
    why_not,
    written_buffers,
    written_values,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.export import ExportedProgram

    from pleb_project.export.model_tensors import TensorSpecs
    from pleb_project.export.trace import Named

__all__ = ["rewrite"]

_VALUE_DTYPES: Final = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_FORMATS: Final = {
    torch.contiguous_format: "contiguous",
    torch.preserve_format: "preserve",
    torch.channels_last: "channels_last",
}
_CHECKS: Final = (
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
)
"""Nodes that only check what was known at export; the dry run checks shapes again."""
_WHERE: Final = frozenset({"device", "layout", "pin_memory"})
_WHOLE_NUMBERS: Final = {
    operator.add: "int.add",
    operator.sub: "int.sub",
    operator.mul: "int.mul",
    operator.floordiv: "int.floordiv",
    operator.mod: "int.mod",
}
_DECIMALS: Final = {
    operator.truediv: "aten.div.Tensor",
    operator.mul: "aten.mul.Tensor",
    operator.add: "aten.add.Tensor",
    operator.sub: "aten.sub.Tensor",
}
"""Arithmetic on sizes that gives decimals."""
_LARGEST_POWER: Final = 4
"""Of a size; no more are written out."""


def rewrite(
    program: ExportedProgram,
    specs: TensorSpecs,
    model: nn.Module,
    batch: dict[str, torch.Tensor],
    outputs: list[Named],
) -> tuple[Graph, bool]:
    """Return `program` as a graph with the names and kinds `outputs`, and its exactness.

    It is exact if it calls the same kernels as eager mode, so that results are equal to the bit.

    `specs` are the model's tensors; `batch` has inputs [batch, ...] by name. Parameters that are
    float32 there, and of half precision in the model, are cast first: training changes the former.

    Raises:
        RefusedNodeError: an operator is not allowed or an argument cannot be written down.
        GraphError: a constant is not a tensor of a known dtype.
    """
    graph, exact = _rewritten(program, specs, model, batch, outputs, frozenset())
    operators = [find_operator(node, number) for number, node in enumerate(graph.nodes)]
    first = value_count(graph) - len(graph.inputs) - len(graph.constants)
    changed = {slot - first for _, slot in written_values(graph, operators)}
    copied = frozenset(place for place in changed if 0 <= place < len(graph.inputs))
    if copied:
        graph, exact = _rewritten(program, specs, model, batch, outputs, copied)
        operators = [find_operator(node, number) for number, node in enumerate(graph.nodes)]
    written = written_buffers(graph, operators)
    mutated = [spec.name for spec in specs.buffers if spec.name in written]
    return msgspec.structs.replace(graph, mutated=mutated), exact


def _rewritten(
    program: ExportedProgram,
    specs: TensorSpecs,
    model: nn.Module,
    batch: dict[str, torch.Tensor],
    outputs: list[Named],
    copied: frozenset[int],
) -> tuple[Graph, bool]:
    """Return what `rewrite` does, without the names of the buffers that are changed.

    Copies of the inputs with the numbers `copied` are changed in place, not the batch itself.
    """
    rewriter = _Rewriter(program, specs, model, copied)
    results = rewriter.add_nodes(program.graph_module, no_grad=False)
    inputs = [
        InputSpec(name=name, dtype=cast("Any", _dtype_name(name, tensor)), shape=shape)
        for (name, tensor), shape in zip(batch.items(), rewriter.input_shapes, strict=True)
    ]
    graph = Graph(
        format=GRAPH_FORMAT,
        parameters=specs.parameters,
        buffers=specs.buffers,
        base=specs.base,
        inputs=inputs,
        constants=rewriter.constants,
        nodes=rewriter.nodes,
        outputs=[
            Output(name=name, slot=slot, kind=kind)
            for (name, kind), slot in zip(outputs, results, strict=True)
        ],
    )
    return graph, rewriter.exact


class _Rewriter:
    """Numbers values and collects nodes; submodules of wrappers are written in place."""

    def __init__(
        self,
        program: ExportedProgram,
        specs: TensorSpecs,
        model: nn.Module,
        copied: frozenset[int],
    ) -> None:
        self._program = program
        self._names = canonical_names(model)
        self._parameters = specs.parameters
        tensors = [*specs.parameters, *specs.buffers, *specs.base]
        self._slots = {spec.name: i for i, spec in enumerate(tensors)}
        self._slot_of: dict[fx.Node, int | list[int]] = {}
        self.constants: list[Constant] = []
        self.nodes: list[Node] = []
        self.input_shapes: list[list[int]] = []
        self.exact = True
        self._next, inputs = self._number_placeholders()
        self._cast_masters()
        for place in sorted(copied):
            copy = self._add(
                "aten.clone.default",
                [Ref(slot=self._slot(inputs[place]))],
                _value(inputs[place], inputs[place].meta["val"]),
            )
            self._slot_of[inputs[place]] = copy.slot

    def add_nodes(self, module: fx.GraphModule, *, no_grad: bool) -> Any:
        """Write the nodes of `module`; return its outputs with numbers in place of values."""
        for node in module.graph.nodes:
            name = str(node.target)
            if node.op == "output":
                return fx.node.map_arg(node.args[0], self._slot_of.__getitem__)
            if node.op != "call_function" or name in _CHECKS:
                continue
            if node.target is operator.getitem:
                slots = self._slot_of[cast("fx.Node", node.args[0])]
                self._slot_of[node] = cast("list[int]", slots)[cast("int", node.args[1])]
            elif name == "wrap_with_set_grad_enabled":
                self._inline(module, node, skip=2, no_grad=not node.args[0])
            elif name == "wrap_with_autocast":
                self._inline(module, node, skip=5, no_grad=no_grad)
            elif node.target is torch._C._set_grad_enabled:  # noqa: SLF001
                no_grad = not node.args[0]
            else:
                self._write(node, no_grad=no_grad)
        raise GraphError("The exported graph has no output.")

    def _number_placeholders(self) -> tuple[int, list[fx.Node]]:
        """Give numbers to parameters, buffers, inputs and constants.

        Returns:
            The next number, and the placeholders of the inputs.
        """
        nodes = [node for node in self._program.graph.nodes if node.op == "placeholder"]
        specs = self._program.graph_signature.input_specs
        inputs, constants = [], []
        for node, spec in zip(nodes, specs, strict=True):
            target = (spec.target or "").removeprefix("model.")
            name = self._names.get(target, target)
            if spec.kind is InputKind.USER_INPUT:
                inputs.append(node)
            elif name in self._slots:
                self._slot_of[node] = self._slots[name]
            else:
                constants.append((node, spec.target or ""))
        number = len(self._slots)
        for node in inputs:
            self._slot_of[node] = number
            self.input_shapes.append(_shape(node.meta["val"]))
            number += 1
        known: dict[str, int] = {}  # such as the mask that every layer makes for itself
        for node, target in constants:
            tensor = self._program.constants[target]
            if not isinstance(tensor, torch.Tensor):
                raise GraphError(
                    f"The model uses {target!r}, which is not a tensor: draw without a generator, "
                    "and keep what forward() reads in tensors."
                )
            constant = Constant(
                dtype=cast("Any", _dtype_name(target, tensor)),
                shape=list(tensor.shape),
                data=little_endian(tensor.detach().cpu().numpy()).tobytes(),
            )
            key = digest_of(strict_json.encode(constant))
            if key not in known:
                self.constants.append(constant)
                known[key], number = number, number + 1
            self._slot_of[node] = known[key]
        return number, inputs

    def _cast_masters(self) -> None:
        """Cast the float32 parameters whose uses expect half precision, each once."""
        cast_slots: dict[int, int] = {}
        for place, slot in list(self._slot_of.items()):
            if not isinstance(slot, int) or slot >= len(self._parameters):
                continue
            dtype = place.meta["val"].dtype
            if _VALUE_DTYPES[dtype] == self._parameters[slot].dtype:
                continue
            if slot not in cast_slots:
                name = cast("Any", _VALUE_DTYPES[dtype])
                self.nodes.append(
                    Node(
                        op="aten.to.dtype",
                        args=[Ref(slot=slot), Dtype(name=name)],
                        outputs=[Value(dtype=name, shape=self._parameters[slot].shape)],
                    )
                )
                cast_slots[slot], self._next = self._next, self._next + 1
            self._slot_of[place] = cast_slots[slot]

    def _inline(self, module: fx.GraphModule, node: fx.Node, *, skip: int, no_grad: bool) -> None:
        """Write the body of a wrapper: its submodule is the last of `skip` arguments."""
        if skip == 5 and node.args[2]:
            raise _refusal(node, "torch.autocast", "Mixed precision is not reproducible: drop it.")
        body = cast(
            "fx.GraphModule", getattr(module, str(cast("fx.Node", node.args[skip - 1]).target))
        )
        inner = [one for one in body.graph.nodes if one.op == "placeholder"]
        for place, argument in zip(inner, node.args[skip:], strict=True):
            self._slot_of[place] = self._slot_of[cast("fx.Node", argument)]
        self._slot_of[node] = list(self.add_nodes(body, no_grad=no_grad))

    def _inline_expansion(self, node: fx.Node, expansion: Expansion, *, no_grad: bool) -> None:
        """Write what `node` is made of; its parts come from the same line of code."""
        places = [one for one in expansion.body.graph.nodes if one.op == "placeholder"]
        for place, given in zip(places, expansion.inputs, strict=True):
            self._slot_of[place] = self._slot_of[given]
        for part in expansion.body.graph.nodes:
            part.meta["stack_trace"] = node.meta.get("stack_trace")
            name = _operation(part)[0] if isinstance(part.target, OpOverload) else ""
            view = isinstance(part.target, OpOverload) and Tag.inplace_view in part.target.tags
            if name and not (view or is_allowed(name) or name in _CHECKS):
                raise _refusal(node, f"{node.target} (by way of {name})", why_not(name))
        outputs = self.add_nodes(expansion.body, no_grad=no_grad)
        self._slot_of[node] = list(outputs) if isinstance(outputs, (list, tuple)) else outputs
        self.exact &= expansion.exact

    def _write(self, node: fx.Node, *, no_grad: bool) -> None:
        """Write one call of an operator and number its outputs."""
        of_sizes = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat))
        if of_sizes and self._write_of_sizes(node):
            return
        name, args, kwargs = _operation(node)
        if not is_allowed(name) or is_expanded(node):
            expansion = expand(node)
            if expansion is None:
                raise _refusal(node, name, why_not(name))
            self._inline_expansion(node, expansion, no_grad=no_grad)
            return
        value = node.meta["val"]
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        self.nodes.append(
            Node(
                op=name,
                args=[self._argument(node, argument) for argument in args],
                kwargs={key: self._argument(node, a) for key, a in kwargs.items()},
                outputs=[_value(node, one) for one in values],
                no_grad=no_grad,
            )
        )
        slots = list(range(self._next, self._next + len(values)))
        self._slot_of[node] = slots if isinstance(value, (list, tuple)) else slots[0]
        self._next += len(values)

    def _write_of_sizes(self, node: fx.Node) -> bool:
        """Write a power of a size, or decimals that are computed from sizes; False: it is neither.

        Powers become products. Decimals become tensors [] of float32, of which a graph has no
        others outside of tensors.
        """
        if isinstance(node.meta["val"], torch.SymInt):
            exponent = node.args[1] if node.target is operator.pow else 0
            if type(exponent) is not int or not 1 < exponent <= _LARGEST_POWER:
                return False
            size = Ref(slot=self._slot(cast("fx.Node", node.args[0])))
            power = size
            for _ in range(exponent - 1):
                power = self._add("int.mul", [power, size], Value(dtype="int"))
            self._slot_of[node] = power.slot
            return True
        name = _DECIMALS.get(cast("Any", node.target))
        if name is None:
            return False
        number, float32 = Value(dtype="float32", shape=[]), Dtype(name="float32")
        terms: list[Argument] = []
        for term in node.args:
            argument = self._scalar(node, term)
            if isinstance(term, fx.Node) and isinstance(term.meta["val"], (int, torch.SymInt)):
                argument = self._add("aten.scalar_tensor.default", [argument], number, float32)
            terms.append(argument)
        self._slot_of[node] = self._add(name, terms, number).slot
        return True

    def _add(self, op: str, args: list[Argument], output: Value, dtype: Argument = None) -> Ref:
        """Write a node of one output, with `dtype` if there is one, and return its place."""
        kwargs: dict[str, Argument] = {} if dtype is None else {"dtype": dtype}
        self.nodes.append(Node(op=op, args=args, kwargs=kwargs, outputs=[output]))
        self._next += 1
        return Ref(slot=self._next - 1)

    def _argument(self, node: fx.Node, argument: Any) -> Argument:
        if isinstance(argument, (list, tuple)):
            return [self._scalar(node, item) for item in argument]
        return self._scalar(node, argument)

    def _scalar(self, node: fx.Node, argument: Any) -> Scalar:
        match argument:
            case fx.Node():
                return Ref(slot=self._slot(argument))
            case float() if not math.isfinite(argument):
                return Float(
                    value="nan" if math.isnan(argument) else "inf" if argument > 0 else "-inf"
                )
            case None | bool() | int() | float() | str():
                return argument
            case torch.dtype() if argument in _VALUE_DTYPES:
                return Dtype(name=cast("Any", _VALUE_DTYPES[argument]))
            case torch.memory_format() if argument in _FORMATS:
                return MemoryFormat(name=cast("Any", _FORMATS[argument]))
            case _:
                raise _refusal(node, str(node.target), f"Its argument {argument!r} cannot be sent.")

    def _slot(self, node: fx.Node) -> int:
        slot = self._slot_of[node]
        if isinstance(slot, list):
            raise _refusal(node, str(node.target), "Its results must be taken one by one.")
        return slot


def _operation(node: fx.Node) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return what a node calls, without the device: that is the volunteer's.

    Moves to a device become casts to the dtype that the result has.
    """
    kwargs = {key: value for key, value in node.kwargs.items() if key not in _WHERE}
    name = _WHOLE_NUMBERS.get(cast("Any", node.target), str(node.target))
    if name in {"aten.to.device", "aten.to.dtype_layout", "aten.to.other", "aten._to_copy.default"}:
        return "aten.to.dtype", (node.args[0], node.meta["val"].dtype), {}
    return name, node.args, kwargs


def _value(node: fx.Node, value: Any) -> Value:
    """Return dtype and shape of a node's output at the example's batch size."""
    if isinstance(value, (int, torch.SymInt)):
        return Value(dtype="int")
    if isinstance(value, torch.Tensor) and value.is_complex():
        advice = "Complex numbers are not carried: compute with real and imaginary parts."
        raise _refusal(node, str(node.target), advice)
    if not isinstance(value, torch.Tensor) or value.dtype not in _VALUE_DTYPES:
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise _refusal(node, str(node.target), f"It gives {kind}, which is not carried.")
    return Value(dtype=cast("Any", _VALUE_DTYPES[value.dtype]), shape=_shape(value))


def _shape(tensor: torch.Tensor) -> list[int]:
    """Return the shape at export, with the example's size for the free batch dimension."""
    sizes: Iterable[Any] = tensor.shape
    if any(isinstance(size, torch.SymInt) and size.node.hint is None for size in sizes):
        raise GraphError("A shape depends on values: use torch.where instead of a boolean index.")
    return [int(s.node.hint) if isinstance(s, torch.SymInt) else int(s) for s in sizes]


def _dtype_name(name: str, tensor: torch.Tensor) -> str:
    """Return the protocol's name of the dtype of a tensor of any shape."""
    if tensor.dtype not in DTYPE_NAMES:
        raise GraphError(f"{name!r} is {tensor.dtype}: use one of {sorted(DTYPE_NAMES.values())}.")
    return DTYPE_NAMES[tensor.dtype]


def _refusal(node: fx.Node, name: str, advice: str) -> RefusedNodeError:
    return RefusedNodeError(name, source_line(node), advice)
