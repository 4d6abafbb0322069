"""What one step of a graph costs, counted from its recorded shapes; credit is paid by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Graph, Node, references, value_count
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.showcase import runs_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pleb_shared.protocol.project import DataSpec, Shard
    from pleb_shared.protocol.showcase import Showcase

__all__ = [
    "flops_of_holdout",
    "flops_of_showcase",
    "flops_per_evaluation",
    "flops_per_step",
]

_Shapes = list[list[int]]
_Count = Callable[[Node, _Shapes], int]


def flops_per_step(graph: Graph) -> int:
    """Return the floating point operations of one training step, at least 1.

    Forward once, and in backward what autograd computes: for each operand of a product that the
    trained parameters reach, its gradient costs as much as the product. So a layer that is trained
    costs three times its forward pass, one of the frozen base twice that has trained layers before
    it and once that has none (Kaplan et al. 2020, section 2.1; Hu et al. 2022 for adapters). A
    multiply-add counts as two; only matrix products, convolutions, attention and recurrent layers
    count.

    Raises:
        GraphError: as `flops_per_evaluation`.
    """
    gradients = _Gradients(graph)
    total = 0
    for number, flops in _counted(graph).items():
        node = graph.nodes[number]
        total += flops
        if number in gradients.nodes:
            total += _backward(node.op, flops, [gradients.flags[s] for s in references(node)])
    return _bounded(max(1, total))


def flops_per_evaluation(graph: Graph) -> int:
    """Return the floating point operations of one forward pass, at least 1.

    Raises:
        GraphError: recorded shapes do not fit their operator, or it is more than allowed.
    """
    return _bounded(max(1, sum(_counted(graph).values())))


def flops_of_holdout(graph: Graph, data: DataSpec, holdout: Iterable[Shard]) -> int:
    """Return the operations of one evaluation by `graph`, counted from its recorded batch.

    Raises:
        GraphError: as `flops_per_evaluation`.
    """
    each = 1 if data.kind == "rows" else max(1, data.window)
    examples = sum(-(-shard.examples // each) for shard in holdout)
    return examples * flops_per_evaluation(graph) // _recorded_batch(graph)


def flops_of_showcase(showcase: Showcase, graph: Graph) -> int:
    """Return the operations of all runs of a showcase's graph together.

    Raises:
        GraphError: as `flops_per_evaluation`.
    """
    return runs_of(showcase) * flops_per_evaluation(graph) // _recorded_batch(graph)


def _recorded_batch(graph: Graph) -> int:
    """Return how many examples a graph was recorded with, at least 1."""
    sizes = [spec.shape[0] for spec in graph.inputs if spec.shape]
    return max(1, *sizes[:1])


def _counted(graph: Graph) -> dict[int, int]:
    """Return the operations of the forward pass by the numbers of the nodes that count.

    Raises:
        GraphError: recorded shapes do not fit their operator.
    """
    shapes: list[list[int]] = [
        *(spec.shape for spec in graph.parameters),
        *(spec.shape for spec in graph.buffers),
        *(spec.shape for spec in graph.base),
        *(spec.shape for spec in graph.inputs),
        *(constant.shape for constant in graph.constants),
    ]
    counted: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        count = _COUNTS.get(node.op)
        if count is not None:
            try:
                counted[number] = count(node, [shapes[slot] for slot in references(node)])
            except (IndexError, ZeroDivisionError) as error:
                message = (
                    f"The recorded shapes of node {number} ({node.op}) do not fit its operator."
                )
                raise GraphError(message) from error
        shapes.extend(value.shape for value in node.outputs)
    return counted


class _Gradients:
    """Which values and nodes autograd takes gradients of: between trained parameters and the loss.

    A value that is changed in place is reached from then on, and so are those whose memory it
    shares.
    """

    def __init__(self, graph: Graph) -> None:
        first = value_count(graph)
        self.flags = [slot < len(graph.parameters) for slot in range(first)]
        """Of each value, whether a trained parameter reaches it."""
        self._roots = list(range(first))
        """The value whose memory each shares: itself, or that of which it is a view."""
        self._views: dict[int, list[int]] = {}
        for node in graph.nodes:
            self._add(node)
        self.nodes = self._leading(graph, {self._roots[output.slot] for output in graph.outputs})
        """The numbers of the nodes through which the loss's gradient passes."""

    def _add(self, node: Node) -> None:
        used = references(node)
        name = node.op.removeprefix("aten.").partition(".")[0]
        reached = not node.no_grad and any(self.flags[slot] for slot in used)
        changes = name.endswith("_") and not name.endswith("__")
        if changes and reached:
            root = self._roots[used[0]]
            for slot in (root, *self._views.get(root, [])):
                self.flags[slot] = True
        for value in node.outputs:
            slot = len(self.flags)
            root = self._roots[used[0]] if used and (changes or name in _VIEWS) else slot
            self._roots.append(root)
            if root != slot:
                self._views.setdefault(root, []).append(slot)
            differentiable = value.dtype.startswith(("float", "bfloat"))
            self.flags.append(reached and differentiable and name not in _ENDS)

    def _leading(self, graph: Graph, wanted: set[int]) -> set[int]:
        """Return the nodes that lead to values whose memory is that of the `wanted` ones."""
        found: set[int] = set()
        slot = len(self.flags)
        for number in range(len(graph.nodes) - 1, -1, -1):
            node = graph.nodes[number]
            slot -= len(node.outputs)
            outputs = range(slot, slot + len(node.outputs))
            if any(self.flags[one] and self._roots[one] in wanted for one in outputs):
                found.add(number)
                wanted |= {self._roots[one] for one in references(node) if self.flags[one]}
        return found


def _backward(op: str, flops: int, operands: list[bool]) -> int:
    """Return what backward costs of a call of `flops` whose `operands` trained parameters reach."""
    if op in _AT_ONCE:
        return flops * _AT_ONCE[op][0] // _AT_ONCE[op][1] if any(operands) else 0
    first = 1 if op in _ADDING else 0
    many = len(operands) if op == "aten.einsum.default" else first + 2
    return flops * sum(operands[first:many])


def _bounded(flops: int) -> int:
    if flops > LIMITS.step_flops:
        raise GraphError(
            f"A run of the graph costs {flops:.1e} FLOPs; at most {LIMITS.step_flops:.1e} are "
            "allowed: make the batch smaller."
        )
    return flops


def _product(node: Node, used: _Shapes) -> int:
    """2 * outputs * K for a product [.., M, K] x [.., K, N], the first two arguments."""
    return 2 * math.prod(node.outputs[0].shape) * used[0][-1]


def _added_product(node: Node, used: _Shapes) -> int:
    """As `_product`, where the first argument is added to the product of the next two."""
    return 2 * math.prod(node.outputs[0].shape) * used[1][-1]


def _convolution(node: Node, used: _Shapes) -> int:
    """2 * outputs * (weights per output channel); weight [out, in / groups, *kernel]."""
    return 2 * math.prod(node.outputs[0].shape) * math.prod(used[1][1:])


def _transposed_convolution(_node: Node, used: _Shapes) -> int:
    """2 * inputs * (weights per input channel); weight [in, out / groups, *kernel]."""
    return 2 * math.prod(used[0]) * math.prod(used[1][1:])


def _attention(_node: Node, used: _Shapes) -> int:
    """2 * B * H * T * S * (E + V) for queries [B, H, T, E], keys [.., S, E], values [.., S, V]."""
    query, key, value = used[0], used[1], used[2]
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(_node: Node, used: _Shapes) -> int:
    """2 * steps * weights: every weight matrix meets every position of the input [.., .., E]."""
    weights = sum(math.prod(shape) for shape in used[1:] if len(shape) == 2)
    return 2 * math.prod(used[0][:-1]) * weights


def _einsum(node: Node, used: _Shapes) -> int:
    """2 * the product of the sizes of all letters: the cost of one plain contraction."""
    equation = node.args[0] if node.args and isinstance(node.args[0], str) else ""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, used, strict=False):
        sizes.update(zip(term, shape, strict=False))
    return 2 * math.prod(sizes.values())


_COUNTS: Final[dict[str, _Count]] = {
    "aten.linear.default": _product,
    "aten.matmul.default": _product,
    "aten.mm.default": _product,
    "aten.bmm.default": _product,
    "aten.mv.default": _product,
    "aten.dot.default": _product,
    "aten.addmm.default": _added_product,
    "aten.addmv.default": _added_product,
    "aten.baddbmm.default": _added_product,
    "aten.einsum.default": _einsum,
    "aten.conv1d.default": _convolution,
    "aten.conv2d.default": _convolution,
    "aten.conv3d.default": _convolution,
    "aten.conv1d.padding": _convolution,
    "aten.conv2d.padding": _convolution,
    "aten.conv3d.padding": _convolution,
    "aten.conv_transpose1d.default": _transposed_convolution,
    "aten.conv_transpose2d.input": _transposed_convolution,
    "aten.conv_transpose3d.input": _transposed_convolution,
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.lstm.input": _recurrent,
    "aten.gru.input": _recurrent,
}
_ADDING: Final = frozenset({"aten.addmm.default", "aten.addmv.default", "aten.baddbmm.default"})
"""Their first argument is added, the next two are multiplied."""
_AT_ONCE: Final = {
    "aten.scaled_dot_product_attention.default": (5, 2),
    "aten.lstm.input": (2, 1),
    "aten.gru.input": (2, 1),
}
"""Kernels that compute the gradients of all operands or none: backward over forward. Attention has
two products forward, and five backward, one of which is the forward one once more."""
_ENDS: Final = frozenset({"detach", "detach_", "zeros_like", "ones_like", "full_like"})
"""What passes no gradient on."""
_VIEWS: Final = frozenset({
    "alias", "chunk", "contiguous", "diagonal", "expand", "expand_as", "flatten",
    "movedim", "narrow", "permute", "reshape", "reshape_as", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "to", "transpose", "type_as", "unbind", "unflatten",
    "unfold", "unsqueeze", "view", "view_as",
})  # fmt: skip
"""Operators whose outcome shares memory with their first argument, or may do so."""
