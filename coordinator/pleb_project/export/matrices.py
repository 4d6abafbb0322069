"""Which parameters Muon steps unless the researcher says otherwise."""

from __future__ import annotations

from typing import Final

from pleb_shared.protocol.graph import Graph, Node, references, value_count

__all__ = ["hidden_matrices"]

_PRODUCTS: Final = (
    "aten.linear.",
    "aten.matmul.",
    "aten.mm.",
    "aten.bmm.",
    "aten.addmm.",
    "aten.conv1d.",
    "aten.conv2d.",
    "aten.conv3d.",
)
_VIEWS: Final = (
    "aten.t.",
    "aten.transpose.",
    "aten.permute.",
    "aten.view.",
    "aten.reshape.",
    "aten.chunk.",
    "aten.split",
    "aten.unbind.",
    "aten.select.",
    "aten.slice.",
    "aten.to.",
)


def hidden_matrices(graph: Graph) -> list[str]:
    """Return the names of the matrices of the hidden layers, in the model's order.

    Those are the weights of matrix products and convolutions, apart from the last product (the
    head), from what is also looked up as an embedding (tied weights), and from what has but
    one row or column, such as depthwise filters. All else, norms and vectors too, is AdamW's
    (Jordan 2024, "when should you use Muon").
    """
    origin: dict[int, int] = {i: i for i in range(len(graph.parameters))}
    products: list[int] = []
    embedded: set[int] = set()
    slot = value_count(graph)
    for node in graph.nodes:
        used = [origin[s] for s in references(node) if s in origin]
        if node.op.startswith("aten.embedding."):
            embedded.update(used)
        elif node.op.startswith(_PRODUCTS):
            products += [p for p in used if len(graph.parameters[p].shape) >= 2]
        elif used and _is_view(node):
            origin.update(dict.fromkeys(range(slot, slot + len(node.outputs)), used[0]))
        slot += len(node.outputs)
    head = products[-1:]
    chosen = set(products) - embedded - set(head)
    return [
        spec.name
        for i, spec in enumerate(graph.parameters)
        if i in chosen and min(spec.shape[:2]) > 1
    ]


def _is_view(node: Node) -> bool:
    return node.op.startswith(_VIEWS)
