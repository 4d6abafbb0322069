"""What `check` tries where honest results are too far apart, and what it says about it."""

from __future__ import annotations

from pleb_project.check.measured import Tried
from pleb_project.check.remedies import advice, smooth
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value
from pleb_shared.protocol.project import InputSpec


def graph(*ops):
    """Return a graph of one input, each operator on what the one before gave."""
    value = Value(dtype="float32", shape=[4])
    return Graph(
        format=1,
        parameters=[],
        buffers=[],
        inputs=[InputSpec(name="x", dtype="float32", shape=[4])],
        nodes=[Node(op=op, args=[Ref(slot=i)], outputs=[value]) for i, op in enumerate(ops)],
        outputs=[Output(name="loss", slot=len(ops))],
    )


def test_relu_becomes_silu_and_nothing_else_changes():
    before = graph("aten.relu.default", "aten.exp.default", "aten.relu_.default")
    after = smooth(before)
    assert after == graph("aten.silu.default", "aten.exp.default", "aten.silu.default")
    assert smooth(graph("aten.exp.default")) is None


def test_the_first_that_helps_is_named_with_its_measured_effect():
    tried = (
        Tried(what='numerics = "strict" in [verification]', apart=0.01, seconds_ratio=1.4),
        Tried(what="local_steps = 6 in [training]", apart=0.001, seconds_ratio=1.0),
    )
    told = advice(tried, ceiling=0.03)
    assert told[0] == ("local_steps = 6 in [training] helps: honest results then differ by 0.001.")
    assert told[1:] == [
        'Tried without enough effect: numerics = "strict" in [verification] (0.01).'
    ]


def test_a_slower_remedy_says_how_much_slower():
    told = advice((Tried(what="It", apart=0.0, seconds_ratio=1.37),), ceiling=0.03)
    assert told == [
        "It helps: honest results then differ by 0, and a step takes 1.4 times as long."
    ]


def test_without_time_to_try_anything_that_is_said():
    (told,) = advice((), ceiling=0.03)
    assert "was not measured: --cpu-minutes" in told
