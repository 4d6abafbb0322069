"""Which values of a graph share memory, and what a node may change in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Argument, Graph, Node, Ref, value_count

if TYPE_CHECKING:
    from pleb_shared.training.operators import Operator

__all__ = ["written_buffers"]


def written_buffers(graph: Graph, operators: list[Operator]) -> set[str]:
    """Return the names of the buffers that a run of `graph` changes in place.

    A value's roots are the values whose memory it may share: itself, or the roots of the
    arguments that its operator's schema calls aliases.

    Raises:
        GraphError: a node would change a parameter, an input or a constant, which would
            outlive the step and make the next one depend on it.
    """
    first = value_count(graph)
    roots: list[frozenset[int]] = [frozenset({slot}) for slot in range(first)]
    written: set[int] = set()
    for number, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        for position in operator.writes:
            written |= _checked(graph, number, node, _roots(node, position, roots))
        shared = frozenset().union(*(_roots(node, p, roots) for p in operator.aliases))
        for _ in node.outputs:
            roots.append(shared or frozenset({len(roots)}))
    return {graph.buffers[slot - len(graph.parameters)].name for slot in written}


def _roots(node: Node, position: int, roots: list[frozenset[int]]) -> frozenset[int]:
    """Return the roots of the argument at `position`: a value, a list of values, or neither."""
    if position >= len(node.args):
        return frozenset()
    return frozenset().union(*(roots[slot] for slot in _slots(node.args[position])))


def _slots(argument: Argument) -> list[int]:
    items = argument if isinstance(argument, list) else [argument]
    return [item.slot for item in items if isinstance(item, Ref)]


def _checked(graph: Graph, number: int, node: Node, changed: frozenset[int]) -> set[int]:
    """Return the `changed` values that are buffers.

    Raises:
        GraphError: a changed value is a parameter, an input or a constant.
    """
    first_buffer = len(graph.parameters)
    first_input = first_buffer + len(graph.buffers)
    lasting = {slot for slot in changed if slot < value_count(graph)}
    for slot in lasting:
        if not first_buffer <= slot < first_input:
            kind = "a parameter" if slot < first_buffer else "an input or constant"
            raise GraphError(
                f"Node {number} ({node.op}) changes {kind} in place: "
                "use the form without an underscore, or clone it first."
            )
    return lasting
