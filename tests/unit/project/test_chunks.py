"""What `chunks` in a project file becomes: graphs, parameters, memory."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pleb_project.check.chunks import plan_chunks
from pleb_project.definition.chunk_words import Layers, parse_chunk
from pleb_project.definition.load import parse_definition
from pleb_project.definition.places import DefinitionError
from pleb_shared.errors import InputError
from pleb_shared.protocol.chunk import needed_memory
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.training.dry_run import trained_parameters, training_cost
from tests.small_projects import gpt_project
from tests.unit.project.test_definition import FILE, MINIMAL


def planned(*wanted, shard_bytes=0):
    project = gpt_project()
    graph = parse_graph(project.exported.training_graph)
    metadata = project.metadata
    return plan_chunks(wanted, graph, metadata.model, metadata.data, metadata.training, shard_bytes)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("layers:1/2", Layers(Fraction(1, 2))),
        ("layers:0.25", Layers(Fraction(1, 4))),
        ("layers:4.weight", Layers(None, ("4.weight",))),
        ("layers: head*, norm.*", Layers(None, ("head*", "norm.*"))),
    ],
)
def test_the_words_of_a_chunk(text, meaning):
    assert parse_chunk(text) == meaning


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("half", "is one like"),
        ("depth:1/2", "is one like"),
        ("layers:", "is one like"),
        ("width:half", "needs a share"),
        ("layers:1/0", "needs a share"),
        ("layers:1", "between 0 and 1"),
        ("layers:" + "a" * 80, "64 characters"),
    ],
)
def test_a_chunk_that_is_written_wrongly_is_shown_in_the_file(text, sentence):
    with pytest.raises(DefinitionError) as caught:
        parse_definition(f'{MINIMAL}\n[limits]\nchunks = ["{text}"]\n', FILE)
    assert sentence in caught.value.sentence
    assert caught.value.place.line == 8


def test_a_chunk_that_is_named_twice_is_refused():
    with pytest.raises(DefinitionError, match="names one twice"):
        parse_definition(f'{MINIMAL}\n[limits]\nchunks = ["layers:1/2", "layers:1/2"]\n', FILE)


def test_layers_are_the_last_ones_that_fit_into_the_share_of_the_memory():
    few, many = planned("layers:0.6", "layers:0.8")[::-1]
    assert many.chunk.name == "layers:0.8"
    assert set(few.chunk.parameters) < set(many.chunk.parameters)
    metadata = gpt_project().metadata
    rest = (metadata.data, metadata.training.batch_examples, metadata.training.optimizer)
    whole_graph = parse_graph(gpt_project().exported.training_graph)
    whole = training_cost(whole_graph, view_of(metadata.model, None), *rest)
    full = needed_memory(whole.memory_bytes)
    needed = [needed_memory(found.chunk.memory_bytes) for found in (few, many)]
    assert needed[0] <= 0.6 * full < needed[1] <= 0.8 * full
    graph = parse_graph(few.graph)
    assert trained_parameters(graph) == set(few.chunk.parameters)


def test_layers_may_be_named():
    [found] = planned("layers:head*,norm*")
    names = [spec.name for spec in gpt_project().metadata.model.parameters]
    wanted = [name for name in names if name.startswith(("head", "norm"))]
    assert wanted
    assert found.chunk.parameters == wanted


def test_what_cannot_be_made_says_why():
    with pytest.raises(InputError, match="no trained parameter has that name; there are"):
        planned("layers:nowhere*")
    with pytest.raises(InputError, match="the last layer alone takes"):
        planned("layers:0.01")
    with pytest.raises(InputError, match="remove it from chunks"):
        planned("layers:*")
