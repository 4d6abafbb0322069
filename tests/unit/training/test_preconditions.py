"""What a kernel would trust is checked before it runs, and whole numbers divide without a trap."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value
from pleb_shared.protocol.project import InputSpec, TensorSpec
from pleb_shared.training.allow_list import ALLOWED
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run
from pleb_shared.training.graph import CompiledGraph
from pleb_shared.training.medians import MEDIANS
from pleb_shared.training.preconditions.algebra import PDIST

RECURRENT = {"lstm": 4, "gru": 3}


def _recurrent(kind: str, shapes: list[list[int]]) -> Graph:
    """Return a graph of one layer: x [5, 2, 6], state(s) [1, 2, 4], parameters of `shapes`."""
    specs = [
        TensorSpec(name=f"p{i}", dtype="float32", shape=shape) for i, shape in enumerate(shapes)
    ]
    parameters: list[Any] = [Ref(slot=i) for i in range(4)]
    state, x = Ref(slot=4), Ref(slot=5)
    hx: Any = [state, state] if kind == "lstm" else state
    many = [Value(dtype="float32", shape=[5, 2, 4])]
    many += [Value(dtype="float32", shape=[1, 2, 4])] * (2 if kind == "lstm" else 1)
    layer = Node(
        op=f"aten.{kind}.input",
        args=[x, hx, parameters, True, 1, 0.0, True, False, False],
        outputs=many,
    )
    loss = Node(
        op="aten.sum.default", args=[Ref(slot=6)], outputs=[Value(dtype="float32", shape=[])]
    )
    return Graph(
        format=1,
        parameters=specs,
        buffers=[TensorSpec(name="h", dtype="float32", shape=[1, 2, 4])],
        inputs=[InputSpec(name="x", dtype="float32", shape=[5, 2, 6])],
        nodes=[layer, loss],
        outputs=[Output(name="loss", slot=6 + len(many))],
    )


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("place", [None, 0, 1, 2, 3])
def test_recurrent_layers_take_exact_shapes_only(kind, place):
    """A bias [1] would be broadcast by one code and read as [gates * hidden] by the other."""
    rows = RECURRENT[kind] * 4
    shapes = [[rows, 6], [rows, 4], [rows], [rows]]
    if place is None:
        assert dry_run(_recurrent(kind, shapes), trains=True).memory_bytes > 0
        return
    shapes[place] = [1, *shapes[place][1:]]
    with pytest.raises(GraphError, match="params have the shapes"):
        dry_run(_recurrent(kind, shapes), trains=True)


DIVISIONS: dict[str, dict[str, Any]] = {
    "aten.div.Tensor_mode": {"rounding_mode": "trunc"},
    "aten.div.Scalar_mode": {"rounding_mode": "floor"},
    "aten.floor_divide.default": {},
    "aten.remainder.Tensor": {},
    "aten.remainder.Scalar": {},
    "aten.fmod.Tensor": {},
    "aten.fmod.Scalar": {},
}
REMAINDERS = ("aten.remainder", "aten.fmod")


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "int8"])
@pytest.mark.parametrize("op", DIVISIONS)
def test_the_least_whole_number_is_divided_by_minus_one(op, dtype):
    """Without care the processor traps and takes the worker with it."""
    info = torch.iinfo(getattr(torch, dtype))
    numbers = torch.tensor([info.min, info.max, 7, -7], dtype=getattr(torch, dtype))
    found = _divide(op, numbers, -1)
    expected = [0, 0, 0, 0] if op.startswith(REMAINDERS) else [info.min, -info.max, -7, 7]
    assert found.tolist() == expected
    for divisor in (2, -3, 5):
        call = ALLOWED[op].call
        other = divisor if "Scalar" in op else torch.full_like(numbers, divisor)
        assert torch.equal(_divide(op, numbers, divisor), call(numbers, other, **DIVISIONS[op]))


def _divide(op, numbers, divisor):
    """Return what a graph makes of `numbers` [n] and `divisor`, which is a tensor for some."""
    other = divisor if "Scalar" in op else Ref(slot=1)
    dtype: Any = str(numbers.dtype).removeprefix("torch.")
    value = Value(dtype=dtype, shape=list(numbers.shape))
    node = Node(op=op, args=[Ref(slot=0), other], kwargs=DIVISIONS[op], outputs=[value])
    specs = [InputSpec(name=name, dtype=dtype, shape=value.shape) for name in ("x", "y")]
    graph = Graph(
        format=1,
        parameters=[],
        buffers=[],
        inputs=specs,
        nodes=[node],
        outputs=[Output(name="out", slot=2)],
    )
    inputs = {"x": numbers, "y": torch.full_like(numbers, divisor)}
    return CompiledGraph(graph).run({}, {}, inputs, NodeDraws(0, 0))["out"]


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.embedding.default", [Ref(slot=0), Ref(slot=2), -1, False, True]),
        ("aten.gather.default", [Ref(slot=0), 0, Ref(slot=1)]),
        ("aten.conv1d.default", [Ref(slot=1), Ref(slot=0), None, [1], [0], [1], 0]),
        ("aten.upsample_nearest2d.vec", [Ref(slot=1), None, [-1.0, 1.0]]),
        ("aten.layer_norm.default", [Ref(slot=1), [4], Ref(slot=0)]),
        ("aten.im2col.default", [Ref(slot=1), [7, 7], [1, 1], [0, 0], [1, 1]]),
        ("aten.col2im.default", [Ref(slot=1), [4, 4], [2, 2], [1, 1], [0, 0], [2, 2]]),
        ("aten.grid_sampler_2d.default", [Ref(slot=1), Ref(slot=0), 0, 0, False]),
        ("aten._cdist_forward.default", [Ref(slot=0), Ref(slot=1), 2.0, None]),
        ("aten._linalg_det.default", [Ref(slot=0)]),
        ("aten.linalg_solve_triangular.default", [Ref(slot=0), Ref(slot=1)]),
        ("aten.multi_margin_loss.default", [Ref(slot=0), Ref(slot=2)]),
        ("aten.index_put.default", [Ref(slot=0), [Ref(slot=1)], Ref(slot=0)]),
        ("aten.searchsorted.Tensor", [Ref(slot=2), Ref(slot=0)]),
        ("aten.zeros.default", [[2**40]]),
        ("aten.zeros.default", [[-1]]),
    ],
)
def test_a_refusal_names_the_node_and_says_why(op, args):
    node = Node(op=op, args=args, outputs=[Value(dtype="float32", shape=[1])])
    graph = Graph(
        format=1,
        parameters=[TensorSpec(name="w", dtype="float32", shape=[3, 2])],
        buffers=[TensorSpec(name="b", dtype="float32", shape=[5, 4])],
        inputs=[InputSpec(name="i", dtype="int64", shape=[2])],
        nodes=[node],
        outputs=[Output(name="loss", slot=3)],
    )
    with pytest.raises(GraphError, match=rf"Node 0 \({op}\) cannot run: .+\."):
        dry_run(graph, trains=False)


@pytest.mark.parametrize(
    ("op", "args", "shapes", "least"),
    [
        ("aten._cdist_forward.default", [2.0, None], [[64, 8], [512, 8]], 16 * 64 * 512 * 8),
        ("aten.linalg_matrix_exp.default", [], [[64, 64]], 64 * 64**3),
    ],
)
def test_what_compares_or_factors_counts_more_than_its_elements(op, args, shapes, least):
    """Nothing else would bound the time of a small tensor's distances, inverse or exponential."""
    specs = [TensorSpec(name=f"p{i}", dtype="float32", shape=s) for i, s in enumerate(shapes)]
    out = [shapes[0][0], shapes[-1][0]]
    nodes = [
        Node(
            op=op,
            args=[*(Ref(slot=i) for i in range(len(shapes))), *args],
            outputs=[Value(dtype="float32", shape=out)],
        ),
        Node(
            op="aten.sum.default",
            args=[Ref(slot=len(specs) + 1)],
            outputs=[Value(dtype="float32", shape=[])],
        ),
    ]
    graph = Graph(
        format=1,
        parameters=specs,
        buffers=[],
        inputs=[InputSpec(name="x", dtype="float32", shape=[1])],
        nodes=nodes,
        outputs=[Output(name="loss", slot=len(specs) + 2)],
    )
    assert dry_run(graph, trains=True).operations > least


def test_distances_of_no_points_are_refused():
    """The kernel reads the first one all the same."""
    (rule,) = PDIST[-1:]
    assert rule({"self": torch.zeros(0, 4), "p": 2.0})
    assert rule({"self": torch.zeros(4, 0), "p": 2.0})
    assert not rule({"self": torch.zeros(4, 4), "p": 2.0})


@pytest.mark.parametrize("op", MEDIANS)
def test_medians_read_expanded_memory_where_it_is(op):
    for shape in ([3, 1], [1, 4]):
        x = torch.randn(shape).expand(3, 4)
        for dim in (0, 1):
            found, expected = MEDIANS[op](x, dim), ALLOWED[op].call(x.contiguous(), dim)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
