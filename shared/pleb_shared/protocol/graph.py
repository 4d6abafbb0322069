"""The graph: a loss as a list of allow-listed ATen operators.

The values of a graph are numbered: first the parameters, then buffers, base, inputs, constants,
then every output of every node, in order. A node may refer to smaller numbers only. Nothing here
runs or even knows an operator beyond its name: `training.operators` has the allow-list.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec

from pleb_shared.errors import GraphError, Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ITEM_BYTES, InputSpec, TensorSpec
from pleb_shared.protocol.unit import Struct

__all__ = [
    "CONSTANT_BYTES",
    "GRAPH_FORMAT",
    "Argument",
    "Constant",
    "Dtype",
    "Float",
    "Graph",
    "MemoryFormat",
    "Node",
    "Output",
    "OutputKind",
    "Ref",
    "Scalar",
    "Value",
    "check_constants",
    "parse_graph",
    "references",
    "value_count",
]

GRAPH_FORMAT: Final = 1
"""The number of the format that is described here."""
CONSTANT_BYTES: Final = 8 * 1024**2
"""Ceiling of all constants of a graph together, in bytes."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Slot = Annotated[int, msgspec.Meta(ge=0, le=2_000_000)]
_Dimension = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.tensor_elements)]
_Shape = Annotated[list[_Dimension], msgspec.Meta(max_length=LIMITS.tensor_dimensions)]
ValueDtype = Literal[
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"
]


class Ref(Struct, tag="ref", tag_field="is", frozen=True):
    """The value of this number."""

    slot: _Slot


class Dtype(Struct, tag="dtype", tag_field="is", frozen=True):
    """An element type, as an argument."""

    name: ValueDtype


class Float(Struct, tag="float", tag_field="is", frozen=True):
    """A number that JSON cannot write."""

    value: Literal["inf", "-inf", "nan"]


class MemoryFormat(Struct, tag="memory_format", tag_field="is", frozen=True):
    """An order of the dimensions in memory, as an argument."""

    name: Literal["contiguous", "preserve", "channels_last"]


_Text = Annotated[str, msgspec.Meta(max_length=256)]
Scalar = None | bool | int | float | _Text | Ref | Dtype | Float | MemoryFormat
Argument = Scalar | Annotated[list[Scalar], msgspec.Meta(max_length=1024)]


class Value(Struct, frozen=True):
    """What a node gives, as recorded at export. `int` is a whole number, not a tensor."""

    dtype: ValueDtype | Literal["int"]
    shape: _Shape = []


class Node(Struct, kw_only=True, frozen=True):
    """One call of an operator; `outputs` get the next free numbers.

    `no_grad` nodes run without recording for backward.
    """

    op: _Name
    args: Annotated[list[Argument], msgspec.Meta(max_length=64)] = []
    kwargs: Annotated[dict[str, Argument], msgspec.Meta(max_length=16)] = {}
    outputs: Annotated[list[Value], msgspec.Meta(min_length=1, max_length=1024)]
    no_grad: bool = False


class Constant(Struct, frozen=True):
    """A small array that is part of the model's code: its bytes, C order, little-endian."""

    dtype: Literal["float32", "float64", "int64", "int32", "uint8", "bool"]
    shape: _Shape
    data: Annotated[bytes, msgspec.Meta(max_length=CONSTANT_BYTES)]


OutputKind = Literal["mean", "sum", "count", "predictions", "targets"]


class Output(Struct, frozen=True):
    """A value that the graph gives: `loss`, or a metric's name.

    `mean`: a number, the mean over a batch. `sum` and `count` of one name: two numbers, of which
    the sums over all batches make a share. `predictions` and `targets`: numbers [batch, ...], from
    which the metrics of the whole holdout are computed.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LIMITS.name_characters)]
    slot: _Slot
    kind: OutputKind = "mean"

    @property
    def key(self) -> str:
        """What tells it from all other outputs of a graph."""
        return self.name if self.kind == "mean" else f"{self.name}/{self.kind}"


class Graph(Struct, kw_only=True, frozen=True):
    """The loss of one batch, or the metrics of one batch, from the tensors of a version.

    `parameters`, `buffers` and `base` are the model's (`ModelSpec`). `inputs` have the shapes of
    whole batches, as recorded at export. `mutated` names the buffers that a run changes in place.
    """

    format: int
    parameters: Annotated[list[TensorSpec], msgspec.Meta(max_length=LIMITS.tensors)]
    buffers: Annotated[list[TensorSpec], msgspec.Meta(max_length=LIMITS.tensors)]
    base: Annotated[list[TensorSpec], msgspec.Meta(max_length=2 * LIMITS.tensors)] = []
    inputs: Annotated[list[InputSpec], msgspec.Meta(min_length=1, max_length=LIMITS.inputs)]
    constants: Annotated[list[Constant], msgspec.Meta(max_length=1000)] = []
    nodes: Annotated[list[Node], msgspec.Meta(min_length=1, max_length=LIMITS.graph_nodes)]
    outputs: Annotated[list[Output], msgspec.Meta(min_length=1, max_length=LIMITS.metrics)]
    mutated: Annotated[list[str], msgspec.Meta(max_length=LIMITS.tensors)] = []


def parse_graph(data: bytes) -> Graph:
    """Return the graph that JSON `data` spells, with every reference checked.

    Raises:
        GraphError: not such JSON, an unknown format, a parameter of whole numbers, constants
            of a wrong or too large size, a node that refers to a later value, an unknown output or
            buffer. The sentence names the node and its operator.
    """
    try:
        graph = strict_json.decode(data, Graph, most_bytes=LIMITS.graph_bytes)
    except Refusal as error:
        raise GraphError(f"This is not a graph. {error.message}") from error
    if graph.format != GRAPH_FORMAT:
        raise GraphError(
            f"The graph has format {graph.format}, this version reads {GRAPH_FORMAT}: "
            "update Pleb-Cluster."
        )
    for spec in graph.parameters:
        if not spec.dtype.startswith(("float", "bfloat")):
            raise GraphError(
                f"The graph's parameter {spec.name!r} is {spec.dtype}: whole numbers have no "
                "gradients."
            )
    check_constants(graph)
    _check_names(graph)
    _check_references(graph)
    return graph


def references(node: Node) -> list[int]:
    """Return the numbers of all values that a node uses, in the order of its arguments."""
    arguments = [*node.args, *node.kwargs.values()]
    items = [i for a in arguments for i in (a if isinstance(a, list) else [a])]
    return [item.slot for item in items if isinstance(item, Ref)]


def value_count(graph: Graph) -> int:
    """Return how many values come before the first node's output."""
    tensors = len(graph.parameters) + len(graph.buffers) + len(graph.base)
    return tensors + len(graph.inputs) + len(graph.constants)


def check_constants(graph: Graph) -> None:
    """Check the sizes of a graph's constants.

    Raises:
        GraphError: one has a wrong size, or all together are too large.
    """
    total = 0
    for number, constant in enumerate(graph.constants):
        size = math.prod(constant.shape) * ITEM_BYTES[constant.dtype]
        total += size
        if len(constant.data) != size:
            raise GraphError(f"Constant {number} has {len(constant.data)} bytes, not {size}.")
    if total > CONSTANT_BYTES:
        raise GraphError(
            f"The graph's constants have {total} bytes; at most {CONSTANT_BYTES} are allowed. "
            "Register large tables as persistent buffers, or compute them in forward()."
        )


def _check_names(graph: Graph) -> None:
    names = [spec.name for spec in [*graph.parameters, *graph.buffers, *graph.base]]
    for group in (names, [i.name for i in graph.inputs], [o.key for o in graph.outputs]):
        if len(set(group)) != len(group):
            twice = next(name for name in group if group.count(name) > 1)
            raise GraphError(f"The name {twice!r} is used twice in the graph.")
    if not set(graph.mutated) <= {spec.name for spec in graph.buffers}:
        raise GraphError("The graph changes a buffer that it does not have.")


def _check_references(graph: Graph) -> None:
    known = value_count(graph)
    for number, node in enumerate(graph.nodes):
        for value in node.outputs:
            if math.prod(value.shape) > LIMITS.tensor_elements:
                raise GraphError(
                    f"Node {number} ({node.op}) makes a tensor of {math.prod(value.shape)} "
                    f"numbers; at most {LIMITS.tensor_elements} are allowed."
                )
        if any(slot >= known for slot in references(node)):
            raise GraphError(f"Node {number} ({node.op}) uses a value that does not exist yet.")
        known += len(node.outputs)
    for output in graph.outputs:
        if output.slot >= known:
            raise GraphError(f"The output {output.name!r} is a value that does not exist.")
