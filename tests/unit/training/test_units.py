"""Units of every kind on small projects: data, evaluation, calibration, refusals."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
import torch

from pleb_shared.errors import EncodingError, GraphError, TrainingError
from pleb_shared.protocol.project import InputSpec, SgdMomentum, calibration_unit
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.tensors.format import DeltaFormat
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import training_cost
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun, calibrate
from pleb_shared.training.optimizers import unit_learning_rates
from tests.small_projects import BATCH, cnn_project, data_spec, gpt_project, train_unit

ROWS = data_spec("rows", [InputSpec(name="x", dtype="int64", shape=[2])])
WINDOWS = data_spec(
    "windows",
    [
        InputSpec(name="x", dtype="uint8", shape=[3]),
        InputSpec(name="y", dtype="int64", shape=[3]),
    ],
    window=3,
)


def rows(first, count):
    numbers = np.arange(first, first + count)
    return {"x": np.stack([numbers, -numbers], axis=1)}


def text(first, count):
    return {"x": np.arange(first, first + count).astype(np.uint8)}


def test_rows_are_numbered_through_all_shards():
    data = UnitData(ROWS, [rows(0, 3), rows(3, 1), rows(4, 6)])
    assert data.examples == 10
    assert data.take(np.array([9, 0, 3, 4]))["x"].tolist() == [[9, -9], [0, 0], [3, -3], [4, -4]]
    seen = np.concatenate([data.training_batch(5, step, 4)["x"][:, 0] for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_windows_are_shifted_by_one_and_stay_inside_a_shard():
    data = UnitData(WINDOWS, [text(0, 5), text(100, 4), text(200, 3)])
    assert data.examples == 2 + 1 + 0
    batch = data.take(np.array([1, 2, 0]))
    assert batch["x"].tolist() == [[1, 2, 3], [100, 101, 102], [0, 1, 2]]
    assert batch["y"].tolist() == [[2, 3, 4], [101, 102, 103], [1, 2, 3]]
    assert [batch[name].dtype.name for name in ("x", "y")] == ["uint8", "int64"]


def test_evaluation_takes_every_row_once_and_windows_side_by_side():
    batches = list(UnitData(ROWS, [rows(0, 3), rows(3, 4)]).evaluation_batches(4))
    assert [len(batch["x"]) for batch in batches] == [4, 3]
    assert np.concatenate([b["x"][:, 0] for b in batches]).tolist() == list(range(7))
    windows = UnitData(WINDOWS, [text(0, 8), text(100, 7)]).evaluation_batches(10)
    assert next(windows)["x"].tolist() == [[0, 1, 2], [3, 4, 5], [100, 101, 102], [103, 104, 105]]


@pytest.mark.parametrize(
    ("spec", "shard", "message"),
    [
        (ROWS, {}, "no array 'x'"),
        (ROWS, {"x": np.zeros((2, 3), np.int64)}, "not int64"),
        (ROWS, {"x": np.zeros((2, 2), np.int32)}, "not int64"),
        (WINDOWS, {"x": np.zeros((2, 2), np.uint8)}, "not a list"),
        (WINDOWS, text(0, 3), "0 examples"),
    ],
)
def test_a_shard_that_does_not_fit_is_refused(spec, shard, message):
    with pytest.raises(EncodingError, match=message):
        UnitData(spec, [shard])


@pytest.mark.parametrize("make", [gpt_project, cnn_project])
def test_evaluation_does_not_depend_on_the_batch_size(make):
    project = make()
    unit = train_unit(steps=0)
    results = []
    for batch in (BATCH, 3, 1):
        training = msgspec.structs.replace(project.metadata.training, batch_examples=batch)
        metadata = msgspec.structs.replace(project.metadata, training=training)
        results.append(
            evaluate(project.evaluation, metadata, unit, project.version, project.shards)
        )
    for (a, count), (b, other) in itertools.pairwise(results):
        assert count == other > BATCH
        assert a.keys() == b.keys() >= {"loss"}
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-6)


def test_evaluation_leaves_the_version_alone():
    project = cnn_project()
    before = {name: array.copy() for name, array in project.version.items()}
    evaluate(project.evaluation, project.metadata, train_unit(), project.version, project.shards)
    for name, array in before.items():
        assert (project.version[name] == array).all()


def test_calibration_is_the_same_for_everyone_and_sent_as_fp32():
    project = cnn_project()
    ticks = itertools.count()
    outcomes = [
        calibrate(
            project.graph,
            project.metadata,
            project.version,
            project.shards[0],
            lambda: float(next(ticks)),
        )
        for _ in range(2)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].seconds_per_step == 1.0
    model = project.metadata.model
    assert len(outcomes[0].delta) == DeltaFormat(model, "fp32", 64).size
    unit = calibration_unit(project.metadata)
    assert (unit.kind, unit.version, unit.local_steps) == (UnitKind.CALIBRATE, 0, 2)


def test_batch_norm_counts_its_batches_in_the_delta():
    project = cnn_project()
    run = _run(project, train_unit(steps=3))
    for _ in range(3):
        run.step()
    delta = DeltaFormat(project.metadata.model, "int4", 64).decode(run.delta())
    assert int(delta["layers.1.num_batches_tracked"]) == -3
    assert np.abs(delta["layers.1.running_mean"]).max() > 0


def _run(project, unit, metadata=None, state=None):
    metadata = metadata or project.metadata
    return UnitRun(project.graph, metadata, unit, project.version, None, project.shards, state)


def _finish(run):
    while run.steps_done < run.steps_total:
        run.step()


def test_losses_are_told_and_steps_are_counted():
    project = gpt_project()
    run = _run(project, train_unit(steps=2))
    assert math.isnan(run.loss_first)
    with pytest.raises(TrainingError, match="Only 0 of 2"):
        run.delta()
    losses = [run.step(), run.step()]
    assert [run.loss_first, run.loss_last] == losses
    assert (run.steps_done, run.steps_total) == (2, 2)
    with pytest.raises(TrainingError, match="only 2 steps"):
        run.step()


def _with_batches(unit, batches):
    return msgspec.structs.replace(unit, batches_per_step=batches)


def test_a_step_of_several_batches_goes_by_the_mean_of_their_gradients():
    project = gpt_project()
    metadata = project.trained_by(
        SgdMomentum(momentum=0.0), learning_rate=0.1, clip_norm=0, unit_warmup_steps=0
    )
    unit = _with_batches(train_unit(steps=3), 3)
    run = _run(project, unit, metadata)
    _finish(run)
    data = UnitData(metadata.data, project.shards)
    tensors = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in project.version.items()}
    for number in range(3):
        arrays = data.training_batch(unit.seed, number, BATCH)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        draws = NodeDraws(unit.seed, number)
        loss = project.graph.run(tensors, tensors, inputs, draws)["loss"]
        (loss / 3).backward()
    [rate] = unit_learning_rates(metadata.training, 0, 1)
    for name, change in run.exact_delta().items():
        gradient = tensors[name].grad
        assert gradient is not None
        np.testing.assert_allclose(change, rate * gradient.numpy(), atol=1e-7)


@pytest.mark.parametrize("stopped", [1, 2, 3, 4, 5])
def test_a_unit_of_large_steps_goes_on_from_any_batch_with_the_same_bits(stopped):
    project = gpt_project()
    unit = _with_batches(train_unit(steps=6), 3)
    whole, begun = _run(project, unit), _run(project, unit)
    _finish(whole)
    for _ in range(stopped):
        begun.step()
    state = begun.state()
    again = _run(project, unit, state=state)
    assert again.steps_done == stopped
    _finish(again)
    assert again.delta() == whole.delta()
    with pytest.raises(EncodingError, match="another unit"):
        _run(project, _with_batches(unit, 2), state=state)


def test_a_unit_that_diverges_ends_with_a_sentence():
    project = gpt_project()
    metadata = project.trained_by(
        SgdMomentum(), learning_rate=1e30, clip_norm=0, unit_warmup_steps=0
    )
    run = _run(project, train_unit(steps=6), metadata)
    with pytest.raises(TrainingError, match="learning rate"):
        _finish(run)


def test_a_label_out_of_range_ends_with_a_sentence_that_names_the_node():
    project = cnn_project()
    shard = project.shards[0] | {"label": np.full(21, 10)}
    run = UnitRun(project.graph, project.metadata, train_unit(), project.version, None, [shard])
    with pytest.raises(TrainingError, match=r"cross_entropy_loss.*out of bounds"):
        run.step()


def test_a_graph_of_another_batch_or_model_is_refused():
    project, other = gpt_project(), cnn_project()
    smaller = project.trained_by(SgdMomentum(), batch_examples=3)
    with pytest.raises(GraphError, match="batches of 3"):
        _run(project, train_unit(), smaller)
    with pytest.raises(GraphError, match="do not match the project's model"):
        UnitRun(
            other.graph,
            project.metadata,
            train_unit(),
            project.version,
            None,
            project.shards,
        )


def test_an_evaluation_graph_of_another_model_is_refused():
    project, other = gpt_project(), cnn_project()
    arguments = (project.metadata, train_unit(), project.version, project.shards)
    with pytest.raises(GraphError, match="do not match the project's model"):
        evaluate(other.evaluation, *arguments)


def test_the_memory_bound_counts_optimizer_and_batch():
    project = gpt_project()
    metadata, graph = project.metadata, project.graph.graph
    bounds = [
        training_cost(
            graph, view_of(metadata.model, None), metadata.data, BATCH, optimizer
        ).memory_bytes
        for optimizer in (SgdMomentum(), metadata.training.optimizer)
    ]
    weights = 4 * sum(math.prod(p.shape) for p in metadata.model.parameters)
    assert bounds[1] - bounds[0] == weights
