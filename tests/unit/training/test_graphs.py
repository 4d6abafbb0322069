"""Graphs from strangers: what is refused, what runs, what it costs."""

from __future__ import annotations

import weakref
from typing import Any

import msgspec
import pytest
import torch

from pleb_shared.errors import GraphError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.flops import flops_per_evaluation, flops_per_step
from pleb_shared.protocol.graph import (
    CONSTANT_BYTES,
    Constant,
    Dtype,
    Graph,
    Node,
    Output,
    Ref,
    Value,
    parse_graph,
)
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import InputSpec, TensorSpec
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run, trained_parameters
from pleb_shared.training.graph import CompiledGraph
from tests.small_projects import cnn_project, gpt_project

W, B, X = Ref(slot=0), Ref(slot=1), Ref(slot=2)


def f32(*shape):
    return Value(dtype="float32", shape=list(shape))


def call(op, *args, outputs=None, **kwargs):
    return Node(op=op, args=list(args), kwargs=kwargs, outputs=outputs or [f32()])


def graph(*nodes, **changes):
    """Return a graph of w [2, 3], b [2] (a buffer), x [4, 3] whose loss is the last value."""
    settings: dict[str, Any] = {
        "format": 1,
        "parameters": [TensorSpec(name="w", dtype="float32", shape=[2, 3])],
        "buffers": [TensorSpec(name="b", dtype="float32", shape=[2])],
        "inputs": [InputSpec(name="x", dtype="float32", shape=[4, 3])],
        "nodes": list(nodes),
        "outputs": [Output(name="loss", slot=2 + sum(len(n.outputs) for n in nodes))],
    }
    return Graph(**settings | changes)


LINEAR = call("aten.linear.default", X, W, B, outputs=[f32(4, 2)])
MEAN = call("aten.mean.default", Ref(slot=3))


def run(one, **tensors):
    values = {
        "w": torch.ones(2, 3, requires_grad=True),
        "b": torch.zeros(2),
        "x": torch.ones(4, 3),
    } | tensors
    return CompiledGraph(one).run(values, values, values, NodeDraws(0, 0))


def test_a_linear_layer_runs_and_costs_what_it_should():
    one = parse_graph(strict_json.encode(graph(LINEAR, MEAN)))
    assert run(one)["loss"].item() == 3.0
    assert flops_per_evaluation(one) == 2 * 4 * 2 * 3
    assert flops_per_step(one) == 2 * 2 * 4 * 2 * 3  # no gradient of the inputs


@pytest.mark.parametrize(
    ("op", "advice"),
    [
        ("os.system", "do not run this operator"),
        ("aten.randn.generator", "nn.Dropout"),
        ("aten.item.default", "torch.where"),
        ("aten.empty.memory_format", "torch.zeros"),
        ("aten.as_strided.default", "torch.zeros"),
        ("aten.from_file.default", "do not run this operator"),
        ("aten.set_.source_Tensor", "torch.zeros"),
    ],
)
def test_an_operator_that_is_not_listed_is_refused_with_advice(op, advice):
    with pytest.raises(GraphError, match=f"Node 0 calls {op}.*{advice}"):
        CompiledGraph(graph(call(op, X)))


def test_a_graph_cannot_choose_a_device():
    node = call("aten.zeros.default", [2], outputs=[f32(2)], device="cuda")
    with pytest.raises(GraphError, match="must not set 'device'"):
        CompiledGraph(graph(node, MEAN))


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (call("aten.mul_.Tensor", W, 2, outputs=[f32(2, 3)]), "a parameter"),
        (call("aten.mul_.Tensor", X, 2, outputs=[f32(4, 3)]), "an input"),
    ],
)
def test_lasting_values_cannot_be_changed_in_place(node, what):
    with pytest.raises(GraphError, match=f"changes {what}"):
        CompiledGraph(graph(node, MEAN))


def test_nor_through_a_view():
    view = call("aten.view.default", W, [6], outputs=[f32(6)])
    change = call("aten.mul_.Tensor", Ref(slot=3), 2, outputs=[f32(6)])
    with pytest.raises(GraphError, match="changes a parameter"):
        CompiledGraph(graph(view, change, MEAN))


def test_nor_by_a_norm_or_by_name():
    norm = call("aten.batch_norm.default", X, None, None, W, W, True, 0.1, 1e-5, False)
    with pytest.raises(GraphError, match="changes a parameter"):
        CompiledGraph(graph(norm))
    norm = call("aten.batch_norm.default", X, None, None, running_mean=W, training=True)
    with pytest.raises(GraphError, match="by position"):
        CompiledGraph(graph(norm))
    with pytest.raises(GraphError, match="must not name 'self'"):
        CompiledGraph(graph(call("aten.mul_.Tensor", self=W, other=2)))


def test_a_buffer_may_change_if_the_graph_says_so():
    change = call("aten.add_.Tensor", B, 1, outputs=[f32(2)])
    with pytest.raises(GraphError, match="changes the buffers"):
        CompiledGraph(graph(change, MEAN))
    buffer = torch.zeros(2)
    run(graph(change, MEAN, mutated=["b"]), b=buffer)
    assert buffer.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"outputs": [Output(name="loss", slot=99)]}, "does not exist"),
        ({"mutated": ["nothing"]}, "does not have"),
        ({"parameters": [TensorSpec(name="w", dtype="int64", shape=[2])]}, "'w' is int64"),
        ({"base": [TensorSpec(name="w", dtype="bfloat16", shape=[])]}, "'w' is used twice"),
        ({"inputs": [InputSpec(name="x", dtype="float32", shape=[1])] * 2}, "twice"),
        ({"constants": [Constant(dtype="float32", shape=[2], data=b"1234")]}, "has 4 bytes"),
        (
            {"nodes": [call("aten.add.Tensor", Ref(slot=3), 1)]},
            r"Node 0 \(aten.add.Tensor\) uses a value that does not exist",
        ),
        (
            {"nodes": [call("aten.add.Tensor", X, 1, outputs=[f32(2**20, 2**20)])]},
            "makes a tensor of",
        ),
    ],
)
def test_a_graph_that_does_not_hold_together_is_refused(changes, message):
    data = strict_json.encode(msgspec.structs.replace(graph(LINEAR, MEAN), **changes))
    with pytest.raises(GraphError, match=message):
        parse_graph(data)


def test_constants_have_a_ceiling_together():
    half = CONSTANT_BYTES // 2 + 1
    constants = [Constant(dtype="uint8", shape=[half], data=b"\0" * half)] * 2
    with pytest.raises(GraphError, match=r"constants have|largest|at most"):
        parse_graph(strict_json.encode(graph(LINEAR, MEAN, constants=constants)))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"format": 1, "format": 1}', b"x" * 100, b"[" * 100 + b"]" * 100],
)
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(GraphError, match="not a graph"):
        parse_graph(data)


def test_a_graph_has_a_ceiling_in_bytes():
    with pytest.raises(GraphError, match="at most"):
        parse_graph(b" " * (LIMITS.graph_bytes + 1))


def test_the_dry_run_finds_a_shape_that_was_not_recorded():
    lie = call("aten.linear.default", X, W, B, outputs=[f32(4, 1)])
    with pytest.raises(GraphError, match=r"Node 0 .*recorded"):
        dry_run(graph(lie, MEAN), trains=False)


def test_the_dry_run_bounds_a_memory_bomb_without_memory():
    bomb = call("aten.expand.default", B, [2**26, 2], outputs=[f32(2**26, 2)])
    copy = call("aten.clone.default", Ref(slot=3), outputs=[f32(2**26, 2)])
    total = call("aten.sum.default", Ref(slot=4))
    assert dry_run(graph(bomb, copy, total), trains=False).memory_bytes > 2**29


def test_the_dry_run_sees_what_backward_takes():
    """The forward pass looks at one row of a view; its gradient is as large as the whole view."""
    view = call("aten.expand.default", W, [2**24, 2, 3], outputs=[f32(2**24, 2, 3)])
    row = call("aten.select.int", Ref(slot=3), 0, 7, outputs=[f32(2, 3)])
    bomb = graph(view, row, call("aten.sum.default", Ref(slot=4)))
    assert dry_run(bomb, trains=False).memory_bytes < 2**10
    assert dry_run(bomb, trains=True).memory_bytes > 4 * 6 * 2**24


@pytest.mark.parametrize("rows", [1_000, 2**20])
def test_work_that_nothing_pays_for_has_a_ceiling(rows):
    """A hundred passes over a view cost no memory and no FLOPs, but a minute of the PC's time."""
    view = call("aten.expand.default", X, [rows, 4, 3], outputs=[f32(rows, 4, 3)])
    passes = [call("aten.sum.default", Ref(slot=3)) for _ in range(100)]
    one = graph(view, *passes)
    if rows == 1_000:
        cost = dry_run(one, trains=False)
        assert 16 * 100 * 12_000 <= cost.operations < 2**33
        assert cost.seconds == pytest.approx(cost.operations / 2e9)
    else:
        with pytest.raises(GraphError, match=r"far more than its .* FLOPs explain"):
            dry_run(one, trains=False)


def test_a_training_graph_needs_a_loss_that_is_trained():
    with pytest.raises(GraphError, match="depends on a trained parameter"):
        dry_run(graph(call("aten.sum.default", X)), trains=True)
    frozen = [TensorSpec(name="w", dtype="float32", shape=[2, 3])]
    linear = call("aten.linear.default", X, Ref(slot=1), Ref(slot=0), outputs=[f32(4, 2)])
    with pytest.raises(GraphError, match="depends on a trained parameter"):
        dry_run(graph(linear, MEAN, parameters=[], base=frozen), trains=True)
    assert dry_run(graph(LINEAR, MEAN), trains=True).operations > 0


def test_the_base_needs_memory_and_gets_no_gradient():
    table = [TensorSpec(name="table", dtype="bfloat16", shape=[2**20, 3])]
    base, x = Ref(slot=2), Ref(slot=3)
    as_float = call("aten.to.dtype", base, Dtype(name="float32"), outputs=[f32(2**20, 3)])
    weighted = call("aten.linear.default", x, Ref(slot=4), outputs=[f32(4, 2**20)])
    linear = call("aten.linear.default", x, W, B, outputs=[f32(4, 2)])
    means = [call("aten.mean.default", Ref(slot=slot)) for slot in (5, 6)]
    total = call("aten.add.Tensor", Ref(slot=7), Ref(slot=8))
    out = [Output(name="loss", slot=9)]
    one = graph(as_float, weighted, linear, *means, total, base=table, outputs=out)
    assert trained_parameters(one) == {"w"}
    cost = dry_run(one, trains=True)
    assert 6 * 2**20 + 12 * 2**20 < cost.memory_bytes < 100 * 2**20
    write = call("aten.mul_.Tensor", base, 2, outputs=[Value(dtype="bfloat16", shape=[2**20, 3])])
    with pytest.raises(GraphError, match="changes the model's base in place"):
        CompiledGraph(graph(write, base=table, outputs=[Output(name="loss", slot=4)]))
    with pytest.raises(GraphError, match="a base, which was not given"):
        run(one)


def test_another_batch_size_cannot_make_a_bomb():
    """The graph counts the examples that are missing, and asks for memory for each."""
    whole = Value(dtype="int", shape=[])
    size = call("aten.sym_size.int", X, 0, outputs=[whole])
    missing = call("int.sub", 4, Ref(slot=3), outputs=[whole])
    many = call("int.mul", Ref(slot=4), 2**25, outputs=[whole])
    zeros = call("aten.zeros.default", [Ref(slot=5)], outputs=[f32(0)])
    bomb = graph(size, missing, many, zeros, call("aten.sum.default", Ref(slot=6)))
    assert dry_run(bomb, trains=False).memory_bytes < 2**10
    assert dry_run(bomb, trains=False, batch_examples=3).memory_bytes > 2**27


@pytest.mark.parametrize("op", ["int.mul", "int.add"])
def test_whole_numbers_stay_sizes(op):
    """Squared a few dozen times one would fill the memory, and hold the interpreter for hours."""
    whole = Value(dtype="int", shape=[])
    first = call(op, 2**40, 2**40, outputs=[whole])
    grow = [call(op, Ref(slot=3 + k), Ref(slot=3 + k), outputs=[whole]) for k in range(30)]
    bomb = graph(first, *grow, call("aten.mean.default", X))
    with pytest.raises(GraphError, match="whole number is too large"):
        dry_run(bomb, trains=False)
    with pytest.raises(GraphError, match="whole numbers are required"):
        dry_run(graph(call(op, W, W, outputs=[whole]), call("aten.mean.default", X)), trains=False)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (call("aten.view.default", X, [5], outputs=[f32(5)]), "cannot run"),
        (call("aten.mm.default", X, X), "cannot run"),
        (call("aten.linear.default", X, "w"), "cannot run"),
        (
            call(
                "aten.index.Tensor",
                X,
                [Ref(slot=3)],
                outputs=[f32(1, 3)],
            ),
            "cannot run",
        ),
    ],
)
def test_the_dry_run_says_which_node_cannot_run(node, message):
    mask = call("aten.gt.Scalar", X, 0, outputs=[Value(dtype="bool", shape=[4, 3])])
    with pytest.raises(GraphError, match=message):
        dry_run(graph(mask, node, MEAN), trains=False)


def test_a_loss_is_one_number():
    with pytest.raises(GraphError, match="not a single number"):
        dry_run(graph(LINEAR), trains=False)


def test_nodes_without_gradient_and_casts():
    cast = call("aten.to.dtype", X, Dtype(name="float64"), outputs=[Value(dtype="float64")])
    total = call("aten.sum.default", Ref(slot=3), outputs=[Value(dtype="float64")])
    one = graph(cast, total)
    assert run(one)["loss"].dtype == torch.float64
    quiet = msgspec.structs.replace(LINEAR, no_grad=True)
    assert not run(graph(quiet, MEAN))["loss"].requires_grad


def test_dead_values_are_let_go():
    seen = []
    alive = []

    class Watch:
        def before(self, number, node, called, args, kwargs):
            pass

        def after(self, number, node, outputs):
            seen.append(weakref.ref(outputs[0]))
            alive.append([one() is not None for one in seen])

    values = {"w": torch.ones(2, 3), "b": torch.zeros(2), "x": torch.ones(4, 3)}
    squashed = call("aten.silu.default", Ref(slot=3), outputs=[f32(4, 2)])
    mean = call("aten.mean.default", Ref(slot=4))
    compiled = CompiledGraph(graph(LINEAR, squashed, mean))
    compiled.run(values, values, values, NodeDraws(0, 0), Watch())
    assert alive == [[True], [True, True], [False, True, True]]


@pytest.mark.parametrize("make", [gpt_project, cnn_project])
def test_the_bound_on_memory_is_above_what_autograd_keeps(make):
    project = make()
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    compiled = project.graph
    spec = compiled.graph
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.from_numpy(a.copy()) for name, a in project.version.items()}
    parameters = {p.name: tensors[p.name].requires_grad_() for p in spec.parameters}
    inputs = {
        i.name: torch.randint(0, 9, i.shape, generator=generator).to(getattr(torch, i.dtype))
        for i in spec.inputs
    }
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = compiled.run(parameters, tensors, inputs, NodeDraws(0, 0))
    del loss
    assert dry_run(spec, trains=True).memory_bytes > sum(kept.values()) - sum(
        4 * p.numel() for p in parameters.values()
    )
