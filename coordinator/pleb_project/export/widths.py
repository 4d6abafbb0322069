"""Which columns, heads and channels of a model can be left out, found from its graph.

A *run* of a dimension is `blocks` x units x `size` numbers; leaving units out there must leave the
same units out of every other dimension that is computed from it or meets it: rows of a weight and
its bias, the heads of query, key and value, the next weight's columns. `trace` follows a run from
one dimension of a weight through the graph, forwards and backwards. Where it meets an operator that
mixes the units (a norm or softmax over them, a loss, a residual that a norm reads), nothing may be
left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_shared.protocol.graph import Graph, Node, Ref, references, value_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CONTRACTIONS", "Place", "Run", "Traced", "name_of", "value_shapes", "widths"]


class Run(NamedTuple):
    """How units lie in a dimension."""

    blocks: int
    size: int


class Place(NamedTuple):
    """A dimension of a value of the graph."""

    slot: int
    dimension: int


class Traced(NamedTuple):
    """Units that can be left out together."""

    units: int
    runs: dict[Place, Run]


Shape = list[int]
Found = dict[Place, Run]
"""What follows from a run at one place of a node: runs at its other places."""

CONTRACTIONS: Final = ("linear", "conv1d", "conv2d", "conv3d")
"""Operators that sum over units: the first argument's last dimension, or its channels."""
_ALONG: Final = {
    *("add", "sub", "rsub", "mul", "div", "neg", "abs", "exp", "sqrt", "rsqrt", "square", "pow"),
    *("tanh", "erf", "sigmoid", "relu", "relu6", "leaky_relu", "gelu", "silu", "mish", "elu"),
    *("selu", "celu", "hardswish", "hardsigmoid", "hardtanh", "softplus", "logsigmoid", "clamp"),
    *("clamp_min", "clamp_max", "maximum", "minimum", "dropout", "clone", "contiguous", "to"),
    *("detach", "alias", "where", "masked_fill", "sin", "cos", "reciprocal", "expand"),
}
"""Elementwise operators, in place or not; arguments are broadcast."""
_POOLS: Final = {
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d"),
}
"""They keep the first two dimensions apart from the others."""
_VIEWS: Final = {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"}


def widths(graph: Graph) -> list[Traced]:
    """Return all groups of units of the graph's weights that can be left out.

    Only trained weights of products and convolutions are followed; their rows are taken one by one,
    else as heads, else as two or three fused projections.
    """
    tracer = _Tracer(graph)
    taken: set[Place] = set()
    groups = []
    for slot in _weights(graph):
        place = Place(slot, 0)
        if place in taken:
            continue
        for run in tracer.guesses(place):
            traced = tracer.trace(place, run)
            if traced is not None and not taken & traced.runs.keys():
                groups.append(traced)
                taken |= traced.runs.keys()
                break
    return groups


def value_shapes(graph: Graph) -> list[Shape]:
    """Return the recorded shape of every value of the graph, by its number."""
    tensors = [*graph.parameters, *graph.buffers, *graph.base]
    shapes = [list(spec.shape) for spec in tensors]
    shapes += [list(spec.shape) for spec in graph.inputs]
    shapes += [list(constant.shape) for constant in graph.constants]
    return shapes + [list(value.shape) for node in graph.nodes for value in node.outputs]


def name_of(node: Node) -> str:
    """Return the operator's name without its overload and the mark of working in place."""
    return node.op.removeprefix("aten.").partition(".")[0].rstrip("_") or node.op


def _weights(graph: Graph) -> list[int]:
    """Return the numbers of trained weights of products, in the order of their use."""
    found = []
    for node in graph.nodes:
        if name_of(node) in CONTRACTIONS and len(node.args) > 1:
            weight = node.args[1]
            if isinstance(weight, Ref) and weight.slot < len(graph.parameters):
                found.append(weight.slot)
    return list(dict.fromkeys(found))


class _Tracer:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.shapes = value_shapes(graph)
        self._users: dict[int, list[tuple[Node, int]]] = defaultdict(list)
        slot = value_count(graph)
        for node in graph.nodes:
            for used in {*references(node), *range(slot, slot + len(node.outputs))}:
                self._users[used].append((node, slot))
            slot += len(node.outputs)
        self._heads = {
            self.shapes[query.slot][-1]
            for node in graph.nodes
            if name_of(node) == "scaled_dot_product_attention"
            and isinstance(query := node.args[0], Ref)
        }
        changing = len(graph.parameters) + len(graph.buffers)
        self._fixed = range(changing, value_count(graph))
        self._given = {output.slot for output in graph.outputs}

    def guesses(self, place: Place) -> Iterator[Run]:
        """Yield how the numbers of a dimension may be made of two units or more."""
        numbers = self.shapes[place.slot][place.dimension]
        for size in (1, *sorted(self._heads)):
            for blocks in (1, 3, 2):
                if numbers % (blocks * size) == 0 and numbers // (blocks * size) >= 2:
                    yield Run(blocks, size)

    def trace(self, start: Place, run: Run) -> Traced | None:
        """Return all places that the units at `start` reach; None: something mixes them."""
        units = self.shapes[start.slot][start.dimension] // (run.blocks * run.size)
        runs, waiting = {start: run}, [start]
        while waiting:
            place = waiting.pop()
            if place.slot in self._fixed or place.slot in self._given:
                return None
            for node, first in self._users[place.slot]:
                found = follow(node, first, self.shapes, units, place, runs[place])
                if found is None:
                    return None
                for other, its in found.items():
                    numbers = self.shapes[other.slot][other.dimension]
                    if numbers != its.blocks * units * its.size or runs.get(other, its) != its:
                        return None
                    if other not in runs:
                        runs[other] = its
                        waiting.append(other)
        return Traced(units, runs)


def follow(
    node: Node, first: int, shapes: Sequence[Shape], units: int, place: Place, run: Run
) -> Found | None:
    """Return the runs at a node's other places that follow from one at `place`, which it touches.

    Args:
        node: the node.
        first: the number of its first output.
        shapes: of all values.
        units: how many there are.
        place: a dimension of one of its arguments or outputs.
        run: how the units lie there.

    Returns:
        None: it mixes the units, or nobody knows what it does with them.
    """
    name = name_of(node)
    rule = _RULES.get(name)
    if name in _ALONG:
        rule = _along
    elif name in _POOLS:
        rule = _pool
    elif name in _VIEWS:
        rule = _view
    elif name in CONTRACTIONS and name != "linear":
        rule = _convolution
    return None if rule is None else rule(_At(node, first, shapes, units), place, run)


class _At(NamedTuple):
    """A node and what is known of it."""

    node: Node
    first: int
    shapes: Sequence[Shape]
    units: int

    def slot(self, position: int) -> int | None:
        """Return the number of the value that is the argument there, None if it is no value."""
        if position < len(self.node.args) and isinstance(ref := self.node.args[position], Ref):
            return ref.slot
        return None

    @property
    def outputs(self) -> range:
        """The numbers of the outputs."""
        return range(self.first, self.first + len(self.node.outputs))

    def same(self, places: Sequence[tuple[int | None, int]], place: Place, run: Run) -> Found:
        """Return the run at all of `places` if `place` is one of them, else nothing.

        A place is a value's number, None for an argument that is left out, and a dimension from
        the end or the beginning.
        """
        found = [
            Place(slot, dimension % len(self.shapes[slot]))
            for slot, dimension in places
            if slot is not None
        ]
        return dict.fromkeys(found, run) if place in found else {}


Rule = Callable[[_At, Place, Run], Found | None]


def _linear(at: _At, place: Place, run: Run) -> Found | None:
    """X [..., in], weight [out, in], bias [out] -> [..., out]."""
    x, weight, bias, out = at.slot(0), at.slot(1), at.slot(2), at.first
    if x is None or weight is None:
        return None
    inner = at.same([(x, -1), (weight, 1)], place, run)
    outer = at.same([(weight, 0), (bias, 0), (out, -1)], place, run)
    others = range(len(at.shapes[x]) - 1)
    passed = [at.same([(x, d), (out, d)], place, run) for d in others]
    return _either(inner, outer, *passed)


def _convolution(at: _At, place: Place, run: Run) -> Found | None:
    """X [batch, in, ...], weight [out, in, ...], bias [out] -> [batch, out, ...], one group."""
    x, weight, bias = at.slot(0), at.slot(1), at.slot(2)
    if x is None or weight is None or at.shapes[weight][1] != at.shapes[x][1]:
        return None  # grouped, or without a batch
    inner = at.same([(x, 1), (weight, 1)], place, run)
    outer = at.same([(weight, 0), (bias, 0), (at.first, 1)], place, run)
    return _either(inner, outer)


def _batch_norm(at: _At, place: Place, run: Run) -> Found | None:
    """Every channel has its own statistics; x [batch, channels, ...]."""
    vectors = [(at.slot(position), 0) for position in range(1, 5)]
    return _either(at.same([(at.slot(0), 1), *vectors, (at.first, 1)], place, run))


def _layer_norm(at: _At, place: Place, run: Run) -> Found | None:
    """The last dimensions are normed together, the others are apart."""
    x, shape = at.slot(0), at.node.args[1]
    if x is None or not isinstance(shape, list):
        return None
    apart = range(len(at.shapes[x]) - len(shape))
    return _either(*(at.same([(x, d), (at.first, d)], place, run) for d in apart))


def _along(at: _At, place: Place, run: Run) -> Found | None:
    """All arguments and the output are aligned at their last dimension, ones are broadcast."""
    slots = [*dict.fromkeys([*references(at.node), at.first])]
    back = place.dimension - len(at.shapes[place.slot])
    numbers = at.shapes[place.slot][back]
    return {
        Place(slot, len(at.shapes[slot]) + back): run
        for slot in slots
        if -back <= len(at.shapes[slot]) and at.shapes[slot][back] == numbers
    }


def _pool(at: _At, place: Place, run: Run) -> Found | None:
    """Batch and channels are apart; x [batch, channels, ...]."""
    if len(at.node.outputs) != 1:
        return None
    return _either(at.same([(at.slot(0), 1), (at.first, 1)], place, run))


def _view(at: _At, place: Place, run: Run) -> Found | None:
    """The numbers stay in their order, in other dimensions."""
    x = at.slot(0)
    if x is None or any(isinstance(item, Ref) for item in _sizes(at.node)):
        return None
    other = at.first if place.slot == x else x
    found = _refolded(at.shapes[place.slot], at.shapes[other], place.dimension, run, at.units)
    return None if found is None else {place: run, Place(other, found[0]): found[1]}


def _sizes(node: Node) -> Sequence[object]:
    return [item for a in node.args[1:] for item in (a if isinstance(a, list) else [a])]


def _refolded(
    shape: Shape, other: Shape, dimension: int, run: Run, units: int
) -> tuple[int, Run] | None:
    """Return the dimension of `other`, of as many numbers, along which the units lie, and how."""
    before = math.prod(shape[:dimension]) * run.blocks
    after = run.size * math.prod(shape[dimension + 1 :])
    for place, numbers in enumerate(other):
        outer, inner = math.prod(other[:place]), math.prod(other[place + 1 :])
        if before % outer == 0 and after % inner == 0:
            found = Run(before // outer, after // inner)
            if found.blocks * units * found.size == numbers:
                return place, found
    return None


def _moved(at: _At, place: Place, run: Run, order: Sequence[int]) -> Found | None:
    """Return what follows where dimension `order[d]` of x is dimension d of the output."""
    x = at.slot(0)
    return _either(*(at.same([(x, o), (at.first, d)], place, run) for d, o in enumerate(order)))


def _transpose(at: _At, place: Place, run: Run) -> Found | None:
    count = len(at.shapes[at.first])
    order = list(range(count))
    one, two = at.node.args[1:3] if len(at.node.args) > 2 else (0, 1)
    if not (isinstance(one, int) and isinstance(two, int)):
        return None
    order[one], order[two] = order[two], order[one]
    return _moved(at, place, run, order)


def _permute(at: _At, place: Place, run: Run) -> Found | None:
    dims = at.node.args[1]
    if not isinstance(dims, list):
        return None
    return _moved(at, place, run, [d for d in dims if isinstance(d, int)])


def _unbind(at: _At, place: Place, run: Run) -> Found | None:
    """Every output lacks the dimension that is taken apart."""
    x, along = at.slot(0), at.node.args[1] if len(at.node.args) > 1 else 0
    if x is None or not isinstance(along, int):
        return None
    kept = [d for d in range(len(at.shapes[x])) if d != along % len(at.shapes[x])]
    return _either(
        *(
            at.same([(x, d), *((out, i) for out in at.outputs)], place, run)
            for i, d in enumerate(kept)
        )
    )


def _split(at: _At, place: Place, run: Run) -> Found | None:
    """A dimension is cut into equal parts: into its blocks, or along another dimension."""
    x, along = at.slot(0), at.node.args[2] if len(at.node.args) > 2 else 0
    if x is None or not isinstance(along, int):
        return None
    along %= len(at.shapes[x])
    if place.dimension != along:
        return _either(at.same([(s, place.dimension) for s in (x, *at.outputs)], place, run))
    parts = len(at.outputs)
    if any(at.shapes[out] != at.shapes[at.first] for out in at.outputs):
        return None
    whole = run if place.slot == x else Run(run.blocks * parts, run.size)
    if whole.blocks % parts:
        return None
    part = Run(whole.blocks // parts, whole.size)
    return {Place(x, along): whole, **{Place(out, along): part for out in at.outputs}}


def _attention(at: _At, place: Place, run: Run) -> Found | None:
    """Heads and whatever comes before them are apart: [..., heads, length, width]."""
    if place.dimension >= len(at.shapes[place.slot]) - 2:
        return None
    mask = at.slot(3)
    slots = [at.slot(0), at.slot(1), at.slot(2), at.first]
    numbers = at.shapes[place.slot][place.dimension]
    back = place.dimension - len(at.shapes[place.slot])
    if mask is not None and -back <= len(at.shapes[mask]) and at.shapes[mask][back] == numbers:
        return None
    return _either(at.same([(slot, back) for slot in slots], place, run))


def _embedding(at: _At, place: Place, run: Run) -> Found | None:
    """Rows [width] of a table."""
    return _either(at.same([(at.slot(0), 1), (at.first, -1)], place, run))


def _either(*found: Found) -> Found | None:
    """Return the one that says something; None if none does."""
    return next((runs for runs in found if runs), None)


_RULES: Final[dict[str, Rule]] = {
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "transpose": _transpose,
    "t": _transpose,
    "permute": _permute,
    "unbind": _unbind,
    "split": _split,
    "chunk": _split,
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
}
