"""What one step of a graph costs, counted from its recorded shapes; credit is paid by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Graph, Node, references
from pleb_shared.protocol.limits import LIMITS

__all__ = ["flops_per_evaluation", "flops_per_step"]

_Shapes = list[list[int]]
_Count = Callable[[Node, _Shapes], int]


def flops_per_step(graph: Graph) -> int:
    """Return the floating point operations of one training step, at least 1.

    Forward once, and twice its cost for backward: gradients of inputs and of weights (Kaplan
    et al. 2020, section 2.1). A multiply-add counts as two; only matrix products, convolutions,
    attention and recurrent layers count.

    Raises:
        GraphError: as `flops_per_evaluation`.
    """
    return _bounded(3 * flops_per_evaluation(graph))


def flops_per_evaluation(graph: Graph) -> int:
    """Return the floating point operations of one forward pass, at least 1.

    Raises:
        GraphError: recorded shapes do not fit their operator, or it is more than allowed.
    """
    shapes: list[list[int]] = [
        *(spec.shape for spec in graph.parameters),
        *(spec.shape for spec in graph.buffers),
        *(spec.shape for spec in graph.base),
        *(spec.shape for spec in graph.inputs),
        *(constant.shape for constant in graph.constants),
    ]
    total = 0
    for number, node in enumerate(graph.nodes):
        count = _COUNTS.get(node.op)
        if count is not None:
            try:
                total += count(node, [shapes[slot] for slot in references(node)])
            except (IndexError, ZeroDivisionError) as error:
                message = (
                    f"The recorded shapes of node {number} ({node.op}) do not fit its operator."
                )
                raise GraphError(message) from error
        shapes.extend(value.shape for value in node.outputs)
    return _bounded(max(1, total))


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
    "aten.addmm.default": _added_product,
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
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.lstm.input": _recurrent,
    "aten.gru.input": _recurrent,
}
