"""The graph of a narrower model: some units of each group that `widths` finds are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pleb_project.export.chunks import renumbered
from pleb_project.export.widths import (
    CONTRACTIONS,
    Place,
    Traced,
    name_of,
    value_shapes,
    widths,
)
from pleb_shared.protocol.chunk import Axis, Window
from pleb_shared.protocol.graph import Argument, Graph, Node, Ref, Value, value_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from pleb_shared.protocol.project import TensorSpec

__all__ = ["narrow"]

_SIZED = {"view", "reshape", "_unsafe_view", "expand"}
"""Operators whose second argument is the output's shape."""


def narrow(graph: Graph, share: Fraction) -> tuple[Graph, list[Window]]:
    """Return the graph with that share of the units of each group, and the groups' windows.

    What is summed over the units that are left is scaled by whole / kept, as dropout does, so that
    it is as large on average as in the whole model (Diao et al. 2021, HeteroFL's scaler).
    The windows are empty if nothing can be left out. `graph` trains all its parameters.
    """
    groups = [
        (traced, kept)
        for traced in widths(graph)
        if (kept := max(1, round(share * traced.units))) < traced.units
    ]
    narrowed = _Narrowed(graph, groups)
    windows = [_window(graph, traced, kept) for traced, kept in groups]
    return narrowed.graph(), windows


def _window(graph: Graph, traced: Traced, kept: int) -> Window:
    tensors = [*graph.parameters, *graph.buffers]
    axes = [
        Axis(
            tensor=tensors[place.slot].name,
            dimension=place.dimension,
            blocks=run.blocks,
            size=run.size,
        )
        for place, run in sorted(traced.runs.items())
        if place.slot < len(tensors)
    ]
    return Window(units=traced.units, kept=kept, axes=axes)


class _Narrowed:
    def __init__(self, graph: Graph, groups: Sequence[tuple[Traced, int]]) -> None:
        self._graph = graph
        self._shapes = value_shapes(graph)
        self._scales: dict[Place, float] = {}
        for traced, kept in groups:
            for place, run in traced.runs.items():
                self._shapes[place.slot][place.dimension] = run.blocks * kept * run.size
                self._scales[place] = traced.units / kept

    def graph(self) -> Graph:
        graph, numbers, nodes = self._graph, dict[int, int](), list[Node]()
        before = after = value_count(graph)
        for node in graph.nodes:
            scale = self._scale(node)
            moved = renumbered(node, numbers)
            if scale is not None and isinstance(old := node.args[0], Ref):
                # a product has the dtype of what it sums over
                value = Value(dtype=node.outputs[0].dtype, shape=self._shapes[old.slot])
                args = [moved.args[0], scale]
                nodes.append(Node(op="aten.mul.Tensor", args=args, outputs=[value]))
                moved = replace(moved, args=[Ref(slot=after), *moved.args[1:]])
                after += 1
            outputs = [
                replace(value, shape=self._shapes[before + i])
                for i, value in enumerate(node.outputs)
            ]
            nodes.append(replace(moved, args=self._arguments(moved, before), outputs=outputs))
            for _ in node.outputs:
                numbers[before] = after
                before, after = before + 1, after + 1
        return replace(
            graph,
            parameters=self._specs(graph.parameters, 0),
            buffers=self._specs(graph.buffers, len(graph.parameters)),
            nodes=nodes,
            outputs=[replace(o, slot=numbers.get(o.slot, o.slot)) for o in graph.outputs],
        )

    def _specs(self, specs: Sequence[TensorSpec], first: int) -> list[TensorSpec]:
        return [replace(spec, shape=self._shapes[first + i]) for i, spec in enumerate(specs)]

    def _scale(self, node: Node) -> float | None:
        """Return whole / kept where the node sums over units that are left out, else None."""
        name = name_of(node)
        if name not in CONTRACTIONS or not isinstance(x := node.args[0], Ref):
            return None
        dimension = len(self._shapes[x.slot]) - 1 if name == "linear" else 1
        return self._scales.get(Place(x.slot, dimension))

    def _arguments(self, node: Node, output: int) -> list[Argument]:
        """Return the node's arguments with the sizes that its narrower output has."""
        name, args = name_of(node), list(node.args)
        shape = self._shapes[output]
        if name in _SIZED and isinstance(sizes := args[1], list):
            offset = len(shape) - len(sizes)
            args[1] = [size if size == -1 else shape[offset + i] for i, size in enumerate(sizes)]
        elif name == "unflatten" and isinstance(sizes := args[2], list):
            at = args[1] if isinstance(args[1], int) else 0
            first = at if at >= 0 else at + len(shape) - len(sizes) + 1
            args[2] = [size if size == -1 else shape[first + i] for i, size in enumerate(sizes)]
        elif name == "split" and isinstance(args[1], int):
            # all parts are alike where units are left out along it, else nothing has changed
            along = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
            changed = any(place.slot == output for place in self._scales)
            args[1] = shape[along] if changed else args[1]
        return args
