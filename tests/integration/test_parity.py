"""A graph trains exactly as its model does in eager mode; a stopped unit as one that ran on."""

from __future__ import annotations

import copy

import msgspec
import numpy as np
import pytest
import torch

from benchmarks.models import Cnn, Gpt, GptSize, cnn_batch, cnn_loss, gpt_batch, gpt_loss
from pleb_project.export import export_model
from pleb_project.export.parity import drawing_nodes, eager_draws
from pleb_shared.errors import EncodingError
from pleb_shared.protocol.project import AdamW, Codec, Muon, SgdMomentum
from pleb_shared.tensors.distance import distances
from pleb_shared.tensors.format import training_format
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.local_sgd import UnitRun
from tests.small_projects import cnn_project, gpt_project, train_unit

SIZE = GptSize(layers=2, width=32, heads=2, window=16, dropout=0.1)


def _models():
    torch.manual_seed(3)
    metrics = lambda loss: lambda model, batch: {"loss": loss(model, batch)}  # noqa: E731
    return {
        "gpt": (Gpt(SIZE), gpt_loss, metrics(gpt_loss), lambda seed: gpt_batch(4, SIZE, seed)),
        "cnn": (Cnn(8, dropout=0.2), cnn_loss, metrics(cnn_loss), lambda seed: cnn_batch(4, seed)),
    }


@pytest.mark.parametrize("name", ["gpt", "cnn"])
def test_twenty_steps_equal_eager_to_the_bit(name):
    model, loss, metrics, batches = _models()[name]
    exported = export_model(model, loss, metrics, batches(0))
    graph = exported.compiled(exported.training_graph)
    nodes = drawing_nodes(graph.graph)
    eager, mine = copy.deepcopy(model).train(), copy.deepcopy(model)
    parameters, buffers = dict(mine.named_parameters()), dict(mine.named_buffers())
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (eager, mine)]
    for step in range(20):
        draws, batch = NodeDraws(7, step), batches(step)
        with eager_draws(draws, nodes):
            expected = loss(eager, batch)
        found = graph.run(parameters, buffers, batch, draws)["loss"]
        assert torch.equal(expected, found)
        for optimizer, value in zip(optimizers, (expected, found), strict=True):
            optimizer.zero_grad()
            value.backward()
        for key, parameter in eager.named_parameters():
            assert torch.equal(parameter.grad, parameters[key].grad), key
        for optimizer in optimizers:
            optimizer.step()
    for key, buffer in eager.named_buffers():
        assert torch.equal(buffer, buffers[key]), key
    assert nodes, "the models must draw, or nothing is shown about draws"


def _run(project, metadata, unit, state=None, difference=None):
    return UnitRun(
        project.graph, metadata, unit, project.version, difference, project.shards[:1], state
    )


def _finish(run):
    while run.steps_done < run.steps_total:
        run.step()
    return run.delta()


def _difference(project):
    generator = np.random.default_rng(1)
    return {
        name: (1e-3 * generator.standard_normal(array.shape)).astype(np.float32)
        for name, array in project.version.items()
    }


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("make", [gpt_project, cnn_project])
def test_resuming_at_any_step_is_bit_identical(make, optimizer):
    project = make()
    settings = {
        "muon": Muon(matrices=project.exported.matrices),
        "adamw": AdamW(weight_decay=0.1),
        "sgd": SgdMomentum(nesterov=True),
    }
    metadata = project.trained_by(settings[optimizer])
    unit, difference = train_unit(version=1, steps=4), _difference(project)
    whole = _run(project, metadata, unit, difference=difference)
    states = [whole.state()]
    while whole.steps_done < whole.steps_total:
        whole.step()
        states.append(whole.state())
    for number, state in enumerate(states):
        again = _run(project, metadata, unit, state, difference)
        assert again.steps_done == number
        assert _finish(again) == whole.delta()
        assert again.state() == states[-1]


def test_the_same_unit_gives_the_same_delta_and_another_seed_another():
    project = gpt_project()
    deltas = [_finish(_run(project, project.muon(), train_unit(seed=seed))) for seed in (1, 1, 2)]
    assert deltas[0] == deltas[1] != deltas[2]


def test_a_state_of_another_unit_is_refused():
    project = gpt_project()
    state = _run(project, project.metadata, train_unit(seed=1)).state()
    with pytest.raises(EncodingError, match="another unit"):
        _run(project, project.metadata, train_unit(seed=2), state)


def test_thread_counts_stay_within_a_thousandth_on_a_smooth_model():
    project, deltas = gpt_project(), []
    metadata = msgspec.structs.replace(project.muon(), codec=Codec(up="fp32"))
    encoding = training_format(metadata)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            delta = _finish(_run(project, metadata, train_unit(steps=10)))
            deltas.append(encoding.decode(delta))
    finally:
        torch.set_num_threads(before)
    assert max(distances(deltas[0], deltas[1], encoding).values()) < 1e-3


def test_training_learns():
    project = gpt_project()
    run = _run(project, project.muon(), train_unit(steps=40))
    losses = [run.step() for _ in range(40)]
    assert losses[-1] < losses[0] - 1
