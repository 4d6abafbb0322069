"""What a node may call, and which values it may change in place."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Graph, Node, Ref, value_count
from pleb_shared.training import drawing
from pleb_shared.training.allow_list import ALLOWED, FACTORIES
from pleb_shared.training.divisions import DIVISIONS
from pleb_shared.training.medians import MEDIANS
from pleb_shared.training.preconditions import draws, layers
from pleb_shared.training.preconditions.call import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.training.preconditions.rule import Rule

__all__ = [
    "DRAWING",
    "Operator",
    "find_operator",
    "is_allowed",
    "why_not",
    "written_buffers",
    "written_values",
]


@dataclass(frozen=True)
class Operator:
    """A callable of the allow-list. With `draws` it also takes the draws and its node's number.

    `parameters` and `rules` say what a call must fulfil; whole numbers check themselves.
    `writes` are the positions of arguments that it changes in place, `aliases` of those that
    its result may share memory with.
    """

    name: str
    call: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    rules: tuple[Rule, ...] = ()
    draws: bool = False
    factory: bool = False
    writes: tuple[int, ...] = ()
    aliases: tuple[int, ...] = ()


_ANNOTATIONS: Final = {
    "torch.Tensor": "Tensor",
    "torch.Tensor | None": "Optional[Tensor]",
    "float": "float",
    "float | None": "Optional[float]",
    "bool": "bool",
    "int": "int",
    "list[int]": "List[int]",
    "torch.dtype | None": "Optional[ScalarType]",
    "torch.device | None": "Optional[Device]",
    "torch.memory_format | None": "Optional[MemoryFormat]",
}
"""How torch's schemas write the types of our own functions."""


def _drawing(
    name: str, call: Callable[..., Any], rules: tuple[Rule, ...], *aliases: int
) -> Operator:
    """Return an operator that `call` computes: (draws, node, *parameters)."""
    taken = list(inspect.signature(call).parameters.values())[2:]
    parameters = tuple(
        Parameter(p.name, None if p.default is p.empty else p.default, _ANNOTATIONS[p.annotation])
        for p in taken
    )
    factory = any(parameter.name == "device" for parameter in parameters)
    return Operator(name, call, parameters, rules, draws=True, factory=factory, aliases=aliases)


_DRAWING: Final = {
    one.name: one
    for one in (
        _drawing("aten.dropout.default", drawing.dropout, layers.DROPOUT, 0),
        _drawing("aten.feature_dropout.default", drawing.feature_dropout, layers.DROPOUT, 0),
        _drawing("aten.scaled_dot_product_attention.default", drawing.attention, layers.ATTENTION),
        _drawing("aten.rand.default", drawing.rand, draws.RANDOM),
        _drawing("aten.rand_like.default", drawing.rand_like, draws.RANDOM),
        _drawing("aten.randn.default", drawing.randn, draws.RANDOM),
        _drawing("aten.randn_like.default", drawing.randn_like, draws.RANDOM),
        _drawing("aten.randint.default", drawing.randint_below, draws.RANDOM),
        _drawing("aten.randint.low", drawing.randint, draws.RANDOM),
        _drawing("aten.randperm.default", drawing.randperm, draws.RANDOM),
        _drawing("aten.bernoulli.default", drawing.bernoulli, draws.RANDOM),
        _drawing("aten.exponential.default", drawing.exponential, draws.RATE),
        _drawing("aten.multinomial.default", drawing.multinomial, draws.MULTINOMIAL),
    )
}
DRAWING: Final = frozenset(_DRAWING)
"""Names of the operators that may draw."""
_MOST: Final = 2**63
"""Bound of whole numbers (sizes): repeated squaring would otherwise fill the memory."""


def _of_sizes(call: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """Return `call` restricted to whole numbers and to results below `_MOST`."""

    def bounded(a: int, b: int) -> int:
        if not (type(a) is int and type(b) is int):
            raise TypeError("whole numbers are required")
        outcome = call(a, b)
        if not -_MOST < outcome < _MOST:
            raise ValueError("the whole number is too large")
        return outcome

    return bounded


_WHOLE_NUMBERS: Final[dict[str, Callable[..., Any]]] = {
    "aten.sym_size.int": torch.ops.aten.sym_size.int,
    "aten.sym_numel.default": torch.ops.aten.sym_numel.default,
    "int.add": _of_sizes(operator.add),
    "int.sub": _of_sizes(operator.sub),
    "int.mul": _of_sizes(operator.mul),
    "int.floordiv": _of_sizes(operator.floordiv),
    "int.mod": _of_sizes(operator.mod),
}
"""Arithmetic on sizes, which the batch dimension of an evaluation graph needs."""
_FORBIDDEN_ARGUMENTS: Final = frozenset({"device", "layout", "pin_memory", "generator", "out"})
_ADVICE: Final = (
    (("poisson", "binomial", "_standard_gamma", "_sample_dirichlet"),
     ("Gamma, Beta, Dirichlet, StudentT and Poisson draw as many numbers as rejection takes, which "
      "differs between machines: use a normal, log-normal, Kumaraswamy or Gumbel distribution.")),
    (("rand", "normal", "bernoulli", "multinomial", "dropout"),
     ("Random numbers must come from the unit's draws: use torch.rand, randn, randint, randperm, "
      "bernoulli, multinomial or nn.Dropout, without a generator.")),
    (("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount"),
     "Shapes and control flow must not depend on values: use torch.where or a mask."),
    (("empty", "resize", "as_strided", "set_"),
     "Memory must be written before it is read: use torch.zeros or reshape."),
    (("_fft", "fft", "stft", "istft", "complex", "view_as_complex", "polar"),
     "Complex numbers are not carried: compute with real and imaginary parts."),
    (("embedding_renorm",),
     ("max_norm changes a parameter in place, which only the optimizer may do: leave it out, and "
      "look up F.embedding(ids, w / (w.norm(dim=1, keepdim=True) / max_norm).clamp(min=1)).")),
    (("_foreach", "_fused", "native_"), "Use the plain form of this operation."),
)  # fmt: skip


_TORCHS: Final = ("aten.", "prims.", "torch.", "int.", "<")
_OUR_OWN: Final = DIVISIONS | MEDIANS
"""What is called in place of a kernel that would crash for some arguments."""


def is_allowed(name: str) -> bool:
    """Whether a node may call the operator `name`."""
    return name in ALLOWED or name in _DRAWING or name in _WHOLE_NUMBERS


def why_not(name: str) -> str:
    """Return advice: what to write instead of the operator `name`."""
    if not name.startswith(_TORCHS):
        return (
            "Volunteers do not run this operator, only torch's own: choose a plain form in that "
            "library's settings."
        )
    short = name.removeprefix("aten.")
    for starts, advice in _ADVICE:
        if short.startswith(starts):
            return advice
    return "Volunteers do not run this operator: write it with supported ones."


def find_operator(node: Node, number: int) -> Operator:
    """Return the operator that `node`, the graph's node `number`, calls.

    Raises:
        GraphError: the operator is not allowed, or not with these arguments.
    """
    if not is_allowed(node.op):
        raise GraphError(f"Node {number} calls {node.op}, which is not allowed. {why_not(node.op)}")
    forbidden = _FORBIDDEN_ARGUMENTS & node.kwargs.keys()
    if forbidden:
        raise GraphError(f"Node {number} ({node.op}) must not set {min(forbidden)!r}.")
    if node.op in _DRAWING:
        return _DRAWING[node.op]
    if node.op in _WHOLE_NUMBERS:
        return Operator(node.op, _WHOLE_NUMBERS[node.op])
    _check_recurrent(node, number)
    return _from_schema(node, number)


def _check_recurrent(node: Node, number: int) -> None:
    """Refuse dropout between recurrent layers, which would draw from torch's generator.

    Arguments of `lstm.input` and `gru.input`: input, hx, params, biases, layers, dropout, train.
    """
    if node.op in {"aten.lstm.input", "aten.gru.input"}:
        dropout = node.args[5] if len(node.args) > 5 else 0.0
        train = node.args[6] if len(node.args) > 6 else False
        if dropout != 0 and train:
            raise GraphError(
                f"Node {number} ({node.op}) uses dropout between layers: set the layer's dropout "
                "to 0 and put nn.Dropout between single layers."
            )


def _from_schema(node: Node, number: int) -> Operator:
    """Return the operator with the memory effects from its schema, or a known exception."""
    overload, rules = ALLOWED[node.op]
    arguments = overload._schema.arguments  # noqa: SLF001
    infos = [argument.alias_info for argument in arguments]
    for argument in arguments:
        if argument.name in node.kwargs and argument.alias_info is not None:
            raise GraphError(f"Node {number} ({node.op}) must not name {argument.name!r}.")
    writes = [i for i, info in enumerate(infos) if info is not None and info.is_write]
    if _changes_statistics(node, number):
        writes += [3, 4]
    return Operator(
        node.op,
        _OUR_OWN.get(node.op, overload),
        tuple(Parameter(a.name, a.default_value, str(a.real_type)) for a in arguments),
        rules,
        factory=node.op in FACTORIES,
        writes=tuple(writes),
        aliases=tuple(i for i, info in enumerate(infos) if info is not None),
    )


def _changes_statistics(node: Node, number: int) -> bool:
    """Whether a norm updates its running mean and variance, arguments 3 and 4.

    The schemas of batch_norm and instance_norm do not say so; argument 5 says whether the
    batch's own statistics are used.
    """
    if node.op not in {"aten.batch_norm.default", "aten.instance_norm.default"}:
        return False
    if len(node.args) < 6:
        raise GraphError(
            f"Node {number} ({node.op}) must pass its first six arguments by position."
        )
    return node.args[5] is not False and isinstance(node.args[3], Ref)


def written_buffers(graph: Graph, operators: list[Operator]) -> set[str]:
    """Return the names of the buffers that a run of `graph` changes in place.

    Raises:
        GraphError: a node would change a parameter, the base, an input or a constant, which would
            outlive the step and make the next one depend on it.
    """
    written: set[int] = set()
    for number, slot in written_values(graph, operators):
        written |= _checked(graph, number, graph.nodes[number], frozenset({slot}))
    return {graph.buffers[slot - len(graph.parameters)].name for slot in written}


def written_values(graph: Graph, operators: list[Operator]) -> list[tuple[int, int]]:
    """Return (node, value) for each value that a node changes in place, by their numbers.

    A value's roots are the values whose memory it may share: itself, or the roots of the
    arguments that its operator's schema calls aliases.
    """
    first = value_count(graph)
    roots: list[frozenset[int]] = [frozenset({slot}) for slot in range(first)]
    written: list[tuple[int, int]] = []
    for number, (node, called) in enumerate(zip(graph.nodes, operators, strict=True)):
        for position in called.writes:
            written += [(number, slot) for slot in sorted(_roots(node, position, roots))]
        shared = frozenset().union(*(_roots(node, p, roots) for p in called.aliases))
        for _ in node.outputs:
            roots.append(shared or frozenset({len(roots)}))
    return written


def _roots(node: Node, position: int, roots: list[frozenset[int]]) -> frozenset[int]:
    """Return the roots of the argument at `position`: a value, a list of values, or neither."""
    if position >= len(node.args):
        return frozenset()
    argument = node.args[position]
    items = argument if isinstance(argument, list) else [argument]
    return frozenset().union(*(roots[item.slot] for item in items if isinstance(item, Ref)))


def _checked(graph: Graph, number: int, node: Node, changed: frozenset[int]) -> set[int]:
    """Return the `changed` values that are buffers.

    Raises:
        GraphError: a changed value is a parameter, of the base, an input or a constant.
    """
    first_buffer = len(graph.parameters)
    first_base = first_buffer + len(graph.buffers)
    first_input = first_base + len(graph.base)
    lasting = {slot for slot in changed if slot < value_count(graph)}
    for slot in lasting:
        if not first_buffer <= slot < first_base:
            kind = "the model's base" if slot < first_input else "an input or constant"
            kind = "a parameter" if slot < first_buffer else kind
            raise GraphError(
                f"Node {number} ({node.op}) changes {kind} in place: "
                "use the form without an underscore, or clone it first."
            )
    return lasting
