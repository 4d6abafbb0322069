"""Narrower models: what can be left out, and what is computed without it."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from pleb_project.check.chunks import plan_chunks
from pleb_project.export import export_model
from pleb_project.export.narrow import narrow
from pleb_project.export.widths import widths
from pleb_shared.errors import InputError
from pleb_shared.protocol.chunk import Chunk
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.project import SgdMomentum
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.chunk_view import chunk_view, view_of
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run
from pleb_shared.training.graph import CompiledGraph, base_tensors
from pleb_shared.training.local_sgd import UnitRun
from tests.small_projects import NOTHING, cnn_project, gpt_project, train_unit


def named(graph):
    tensors = [*graph.parameters, *graph.buffers]
    return [
        (
            group.units,
            {(tensors[p.slot].name, p.dimension) for p in group.runs if p.slot < len(tensors)},
        )
        for group in widths(graph)
    ]


def test_columns_and_whole_heads_of_a_transformer_can_be_left_out():
    found = named(parse_graph(gpt_project().exported.training_graph))
    assert found[:2] == [
        (2, {("blocks.0.qkv.weight", 0), ("blocks.0.out.weight", 1)}),
        (
            128,
            {
                ("blocks.0.mlp.0.weight", 0),
                ("blocks.0.mlp.0.bias", 0),
                ("blocks.0.mlp.2.weight", 1),
            },
        ),
    ]
    assert len(found) == 4, "no window over the width that layers share"


def test_channels_of_a_convolutional_network_take_their_statistics_along():
    found = named(parse_graph(cnn_project().exported.training_graph))
    assert [units for units, _ in found] == [8, 16, 16]
    assert ("layers.1.running_var", 0) in found[0][1]


class Separate(nn.Module):
    """Heads of three projections, gated columns, a rotation, and a norm inside."""

    def __init__(self, *, normed: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
        self.gates, self.back = nn.Linear(16, 48), nn.Linear(24, 16)
        self.inner, self.head = (nn.LayerNorm(24) if normed else None), nn.Linear(16, 4)
        self.register_buffer("angles", torch.rand(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, 4, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        q = q * self.get_buffer("angles").cos()
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        u, gate = self.gates(self.norm(x)).chunk(2, -1)
        h = u * F.silu(gate)
        scores: torch.Tensor = self.head(
            (x + self.back(self.inner(h) if self.inner else h)).mean(1)
        )
        return scores


def separate(**options):
    torch.manual_seed(0)
    batch = {"x": torch.randn(3, 5, 16), "y": torch.tensor([0, 1, 2])}

    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"])

    exported = export_model(Separate(**options), loss, lambda m, b: {"loss": loss(m, b)}, batch)
    return exported, batch


def test_separate_projections_and_gates_are_left_out_together():
    exported, _ = separate()
    found = named(parse_graph(exported.training_graph))
    heads, columns = found
    assert heads[0] == 4
    assert {name for name, _ in heads[1]} == {
        *(f"{part}.{kind}" for part in "qkv" for kind in ("weight", "bias")),
        "out.weight",
    }
    assert columns == (24, {("gates.weight", 0), ("gates.bias", 0), ("back.weight", 1)})


def test_a_norm_over_the_columns_keeps_all_of_them():
    exported, _ = separate(normed=True)
    assert [units for units, _ in named(parse_graph(exported.training_graph))] == [4]


def test_the_narrower_model_is_the_whole_one_without_what_is_left_out():
    """Zeroing the columns that would be summed, and scaling the others, gives the same loss."""
    exported, batch = separate()
    whole = parse_graph(exported.training_graph)
    graph, windows = narrow(whole, Fraction(1, 2))
    dry_run(graph, trains=True)
    model = exported.model
    state = exported.compiled(exported.training_graph)
    base = base_tensors((n, t) for n, t in _base_arrays(exported).items())
    chunk = _chunk(model, windows)
    view = view_of(model, chunk)
    tensors = _initial(exported)
    for version in (0, 1):
        kept = {n: torch.from_numpy(t) for n, t in view.taken(tensors, version).items()}
        found = CompiledGraph(graph).with_base(base).run(kept, {}, batch, NodeDraws(0, 0))
        masked = {n: t.copy() for n, t in tensors.items()}
        for name in ("out.weight", "back.weight"):
            places = view.places(name, masked[name].shape, version)
            assert places is not None
            only = np.zeros_like(masked[name])
            only[places] = 2 * masked[name][places]
            masked[name] = only
        given = {n: torch.from_numpy(t) for n, t in masked.items()}
        wanted = state.run(given, {}, batch, NodeDraws(0, 0))
        torch.testing.assert_close(found["loss"], wanted["loss"])


def _base_arrays(exported):
    return load_tensors(exported.base) if exported.base else {}


def _initial(exported):
    return load_tensors(exported.initial)


def _chunk(model, windows):
    return Chunk(
        name="width:1/2",
        training_graph=NOTHING,
        parameters=[spec.name for spec in model.parameters],
        memory_bytes=2**20,
        windows=windows,
    )


@pytest.mark.parametrize("make", [gpt_project, cnn_project])
def test_a_unit_of_a_narrower_model_trains_and_sends_what_it_has(make):
    project = make()
    metadata = project.trained_by(SgdMomentum())
    graph = parse_graph(project.exported.training_graph)
    planned = plan_chunks(["width:1/2"], graph, metadata.model, metadata.data, metadata.training, 0)
    metadata = msgspec.structs.replace(metadata, chunks=[planned[0].chunk])
    unit = msgspec.structs.replace(train_unit(steps=4, version=1), chunk="width:1/2")
    assert unit.kind is UnitKind.TRAIN
    narrower = CompiledGraph(parse_graph(planned[0].graph))
    run = UnitRun(narrower, metadata, unit, project.version, project.version, project.shards[:1])
    losses = [run.step() for _ in range(4)]
    assert np.isfinite(losses).all()
    delta = delta_format(metadata, unit).decode(run.delta())
    view = chunk_view(metadata, "width:1/2")
    assert delta.keys() == {spec.name for spec in view.model.parameters}, "no statistics"
    assert any(np.abs(array).max() > 0 for array in delta.values())
    whole = msgspec.structs.replace(unit, chunk="full")
    assert delta_format(metadata, unit).size < delta_format(metadata, whole).size


def test_a_model_of_one_layer_has_nothing_to_leave_out():
    torch.manual_seed(0)
    batch = {"x": torch.randn(3, 8), "y": torch.tensor([0, 1, 2])}

    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"])

    exported = export_model(nn.Linear(8, 4), loss, lambda m, b: {"loss": loss(m, b)}, batch)
    metadata = gpt_project().metadata
    data = msgspec.structs.replace(metadata.data, kind="rows", window=0, inputs=exported.inputs)
    training = msgspec.structs.replace(metadata.training, batch_examples=3)
    graph = parse_graph(exported.training_graph)
    with pytest.raises(InputError, match="Nothing can be left out"):
        plan_chunks(["width:1/2"], graph, exported.model, data, training, 0)
