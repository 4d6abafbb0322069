"""Units of chunks: what they train, what they leave, what they send."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from pleb_project.export.chunks import freeze, layers_in_order
from pleb_shared.errors import GraphError, Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.chunk import Axis, Chunk, Window, kept_units
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.project import AdamW, SgdMomentum
from pleb_shared.tensors.chunk_view import chunk_view, held_numbers, view_of
from pleb_shared.tensors.format import delta_format
from pleb_shared.training.dry_run import trained_parameters, training_cost
from pleb_shared.training.graph import CompiledGraph
from pleb_shared.training.local_sgd import UnitRun
from tests.small_projects import BATCH, NOTHING, cnn_project, gpt_project, train_unit


def last_layers(project, count):
    """Return the frozen graph, and the metadata with a chunk of the last `count` layers."""
    graph = parse_graph(project.exported.training_graph)
    names = {name for layer in layers_in_order(graph)[-count:] for name in layer}
    chunk = Chunk(
        name="last",
        training_graph=NOTHING,
        parameters=[spec.name for spec in graph.parameters if spec.name in names],
        memory_bytes=2**20,
    )
    metadata = msgspec.structs.replace(
        project.trained_by(SgdMomentum(), clip_norm=0.0), chunks=[chunk]
    )
    return parse_graph(strict_json.encode(freeze(graph, names))), metadata


def part_unit(chunk="last", **changes):
    return msgspec.structs.replace(train_unit(**changes), chunk=chunk)


@pytest.mark.parametrize("make", [gpt_project, cnn_project])
def test_the_first_step_of_some_layers_is_that_of_the_whole_model(make):
    project = make()
    graph, metadata = last_layers(project, 2)
    unit = part_unit(steps=1)
    compiled = CompiledGraph(graph).with_base({}, partly=True)
    part = UnitRun(compiled, metadata, unit, project.version, None, project.shards[:1])
    whole_unit = msgspec.structs.replace(unit, chunk="full")
    whole = UnitRun(project.graph, metadata, whole_unit, project.version, None, project.shards[:1])
    assert part.step() == whole.step()
    found, wanted = part.exact_delta(), whole.exact_delta()
    assert found.keys() < wanted.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name])
    assert trained_parameters(graph) == set(metadata.chunks[0].parameters)
    assert len(part.delta()) == delta_format(metadata, unit).size
    assert delta_format(metadata, unit).size < delta_format(metadata, whole_unit).size


def test_a_resumed_unit_of_some_layers_has_the_same_bits():
    project = gpt_project()
    graph, metadata = last_layers(project, 3)
    arguments = (CompiledGraph(graph), metadata, part_unit(steps=3), project.version, None)
    straight = UnitRun(*arguments, project.shards[:1])
    first = UnitRun(*arguments, project.shards[:1])
    straight.step()
    first.step()
    resumed = UnitRun(*arguments, project.shards[:1], first.state())
    for run in (straight, resumed):
        run.step()
        run.step()
    assert straight.delta() == resumed.delta()


def test_some_layers_take_less_memory_and_fewer_operations():
    project = gpt_project()
    graph, metadata = last_layers(project, 2)
    whole = parse_graph(project.exported.training_graph)
    rest = (metadata.data, BATCH, AdamW())
    part = training_cost(graph, chunk_view(metadata, "last"), *rest)
    full = training_cost(whole, view_of(metadata.model, None), *rest)
    assert part.memory_bytes < full.memory_bytes
    assert part.operations < full.operations


def test_a_graph_of_another_chunk_is_refused():
    project = gpt_project()
    graph, metadata = last_layers(project, 2)
    with pytest.raises(GraphError, match="do not match"):
        UnitRun(project.graph, metadata, part_unit(), project.version, None, project.shards[:1])
    with pytest.raises(Refusal, match="no chunk 'other'; there are full, last"):
        chunk_view(metadata, "other")
    assert graph.base[0].name in {spec.name for spec in metadata.model.parameters}


def test_windows_move_on_until_every_unit_was_trained_equally_often():
    window = Window(units=6, kept=4, axes=[Axis(tensor="w", dimension=0)])
    seen = [kept_units(window, version) for version in range(3)]
    assert seen == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5]]
    counts = np.bincount([unit for units in seen for unit in units])
    assert counts.tolist() == [2] * 6


def windowed(project, name, dimension, **axis):
    spec = next(s for s in project.metadata.model.parameters if s.name == name)
    one = Axis(tensor=name, dimension=dimension, **axis)
    units = spec.shape[dimension] // (one.blocks * one.size)
    return Chunk(
        name="narrow",
        training_graph=NOTHING,
        parameters=[s.name for s in project.metadata.model.parameters],
        memory_bytes=2**20,
        windows=[Window(units=units, kept=units // 2, axes=[one])],
    )


def test_a_window_takes_the_same_units_of_every_block():
    project = gpt_project()
    name = next(s.name for s in project.metadata.model.parameters if s.shape[0] == 3 * 32)
    view = view_of(project.metadata.model, windowed(project, name, 0, blocks=3, size=16))
    rows = np.arange(96 * 32, dtype=np.float32).reshape(96, 32)
    assert (view.narrowed(name, rows, 0)[:, 0] // 32).tolist() == [
        *range(16),
        *range(32, 48),
        *range(64, 80),
    ]
    assert (view.narrowed(name, rows, 1)[0, 0] // 32) == 16
    assert held_numbers(view) == held_numbers(view_of(project.metadata.model, None)) - 48 * 32


def test_a_window_that_does_not_fit_is_refused():
    project = gpt_project()
    good = windowed(project, project.metadata.model.parameters[0].name, 0)
    window = good.windows[0]
    model = project.metadata.model
    axis: Any
    for axis, sentence in [
        ({"dimension": 5}, "narrows dimension 5"),
        ({"size": 3}, "but the tensor has shape"),
        ({"tensor": "nowhere"}, "which it does not train"),
    ]:
        wrong = msgspec.structs.replace(window.axes[0], **axis)
        changed = msgspec.structs.replace(window, axes=[wrong])
        with pytest.raises(Refusal, match=sentence):
            view_of(model, msgspec.structs.replace(good, windows=[changed]))
    twice = msgspec.structs.replace(window, axes=[*window.axes, *window.axes])
    with pytest.raises(Refusal, match="twice"):
        view_of(model, msgspec.structs.replace(good, windows=[twice]))
    with pytest.raises(Refusal, match="not in the model's order"):
        view_of(model, msgspec.structs.replace(good, parameters=good.parameters[::-1]))
    with pytest.raises(ValueError, match="keeps 4 of 4"):
        Window(units=4, kept=4, axes=window.axes)
