"""Graphs of chunks, made from the graph of the whole model: nothing is traced again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pleb_shared.protocol.graph import Argument, Graph, Node, Ref, Scalar, references

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["freeze", "layers_in_order", "renumbered"]


def freeze(graph: Graph, trained: Collection[str]) -> Graph:
    """Return the graph that trains only the parameters `trained`, and reads the others as its base.

    The others become the first tensors of its base. Autograd then computes nothing before the first
    layer that is trained, and keeps no values for it.
    """
    kept = [i for i, spec in enumerate(graph.parameters) if spec.name in trained]
    frozen = [i for i, spec in enumerate(graph.parameters) if spec.name not in trained]
    buffers = range(len(graph.parameters), len(graph.parameters) + len(graph.buffers))
    order = [*kept, *buffers, *frozen]
    numbers = {old: new for new, old in enumerate(order)}
    return replace(
        graph,
        parameters=[graph.parameters[i] for i in kept],
        base=[*(graph.parameters[i] for i in frozen), *graph.base],
        nodes=[renumbered(node, numbers) for node in graph.nodes],
        outputs=[replace(o, slot=numbers.get(o.slot, o.slot)) for o in graph.outputs],
    )


def renumbered(node: Node, numbers: Mapping[int, int]) -> Node:
    """Return the node with its references changed; those not in `numbers` stay."""

    def item(scalar: Scalar) -> Scalar:
        if isinstance(scalar, Ref):
            return Ref(slot=numbers.get(scalar.slot, scalar.slot))
        return scalar

    def changed(argument: Argument) -> Argument:
        return [item(one) for one in argument] if isinstance(argument, list) else item(argument)

    return replace(
        node,
        args=[changed(argument) for argument in node.args],
        kwargs={name: changed(argument) for name, argument in node.kwargs.items()},
    )


def layers_in_order(graph: Graph) -> list[list[str]]:
    """Return the names of each layer's parameters, in the order in which the loss uses them.

    A layer is a module with parameters of its own. Tied weights belong to where they are used
    first.
    """
    first_use: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        for slot in references(node):
            if slot < len(graph.parameters):
                first_use.setdefault(slot, number)
    layers: dict[str, list[str]] = {}
    for slot in sorted(first_use, key=lambda slot: (first_use[slot], slot)):
        name = graph.parameters[slot].name
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return list(layers.values())
