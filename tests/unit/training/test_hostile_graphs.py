"""Whatever is changed in a graph, it runs as recorded or is refused; nothing else happens."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_shared.errors import GraphError
from pleb_shared.protocol.flops import flops_per_step
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.training.allow_list import ALLOWED
from pleb_shared.training.dry_run import dry_run
from tests.small_projects import cnn_project, gpt_project

NUMBERS = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False))
REFS = st.builds(lambda slot: {"is": "ref", "slot": slot}, st.integers(0, 120))
SCALARS = st.one_of(
    NUMBERS,
    REFS,
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.just({"is": "dtype", "name": "int64"}),
    st.just({"is": "float", "value": "nan"}),
    st.just({"is": "memory_format", "name": "channels_last"}),
)
ARGUMENTS = st.one_of(SCALARS, st.lists(SCALARS, max_size=4))
DIMENSIONS = st.lists(st.integers(0, 2**33), max_size=9)


@st.composite
def changed_graphs(draw):
    """Return a real graph's JSON with some nodes replaced in part."""
    project = draw(st.sampled_from([gpt_project, cnn_project]))()
    graph = json.loads(project.exported.training_graph)
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from(graph["nodes"]))
        match draw(st.sampled_from(["op", "argument", "arguments", "keyword", "shape"])):
            case "op":
                node["op"] = draw(st.sampled_from([*ALLOWED, "aten.sym_size.int", "int.floordiv"]))
            case "argument":
                place = draw(st.integers(0, max(0, len(node["args"]) - 1)))
                node["args"][place : place + 1] = [draw(ARGUMENTS)]
            case "arguments":
                node["args"] = draw(st.lists(ARGUMENTS, max_size=6))
            case "keyword":
                node["kwargs"][draw(st.sampled_from(["dtype", "scale", "self", "dim"]))] = draw(
                    ARGUMENTS
                )
            case _:
                node["outputs"][0]["shape"] = draw(DIMENSIONS)
    return json.dumps(graph).encode()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=changed_graphs())
def test_a_changed_graph_runs_as_recorded_or_is_refused(data):
    refusal = ""
    try:
        graph = parse_graph(data)
        flops_per_step(graph)
        dry_run(graph, trains=True)
    except GraphError as error:
        refusal = str(error)
    assert "\n" not in refusal
