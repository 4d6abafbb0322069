"""What `evaluate` may return, and what becomes of it over a whole holdout."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy

from pleb_project.export import export_model
from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.project import EvaluationSpec, HoldoutMetric
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.training.evaluation import evaluate
from tests.small_projects import small_project, train_unit

EXAMPLES = 53


def batch(count):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(EXAMPLES, 6, generator=generator)
    y = (x[:, 0] + torch.randn(EXAMPLES, generator=generator) > 0).long()
    return {"x": x[:count], "y": y[:count]}


def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def everything(model, batch):
    scores, y = model(batch["x"]), batch["y"]
    right = (scores.argmax(1) == y) & (y == 1)
    return {
        "loss": cross_entropy(scores, y),
        "found": (right.sum(), (y == 1).sum()),
        "predictions": scores,
        "targets": y,
    }


def project(measure, evaluation=EvaluationSpec()):  # noqa: B008 - it is immutable
    torch.manual_seed(0)
    exported = export_model(nn.Linear(6, 2), loss, measure, batch(8))
    shards = [{name: tensor.numpy() for name, tensor in batch(EXAMPLES).items()}]
    small = small_project(exported, "rows", 0, shards)
    metadata = msgspec.structs.replace(small.metadata, evaluation=evaluation)
    return exported, metadata, shards


def measured(measure, evaluation=EvaluationSpec()):  # noqa: B008
    exported, metadata, shards = project(measure, evaluation)
    unit = msgspec.structs.replace(train_unit(), kind=UnitKind.EVALUATE)
    graph = exported.compiled(exported.evaluation_graph)
    return evaluate(graph, metadata, unit, load_tensors(exported.initial), shards)


@pytest.mark.parametrize("size", [0, 1, 7, 64])
def test_metrics_do_not_depend_on_the_batch(size):
    wanted: list[HoldoutMetric] = ["auc", "f1", "perplexity"]
    found, examples = measured(everything, EvaluationSpec(batch_examples=size, metrics=wanted))
    torch.manual_seed(0)
    model, whole = nn.Linear(6, 2), batch(EXAMPLES)
    with torch.no_grad():
        scores, y = model(whole["x"]).numpy(), whole["y"].numpy()
        expected = loss(model, whole).item()
    assert examples == EXAMPLES
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert found["auc"] == pytest.approx(roc_auc_score(y, scores[:, 1] - scores[:, 0]))
    assert found["f1"] == pytest.approx(f1_score(y, scores.argmax(1)))
    assert found["found"] == pytest.approx((scores.argmax(1)[y == 1] == 1).mean())
    assert found.keys() == {"loss", "found", *wanted}


def test_predictions_that_are_not_asked_for_cost_nothing():
    assert measured(everything)[0].keys() == {"loss", "found"}


def test_a_share_of_nothing_is_refused():
    def nothing(model, batch):
        return {"loss": loss(model, batch), "share": (batch["y"].sum() * 0, batch["y"].sum() * 0)}

    with pytest.raises(TrainingError, match="'share' has counted nothing"):
        measured(nothing)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (loss, "a dict of means"),
        (lambda m, b: {"accuracy": loss(m, b)}, 'with a "loss"'),
        (lambda m, b: {"loss": loss(m, b), "n": 3}, "returns a int as 'n': return a tensor"),
        (lambda m, b: {"loss": loss(m, b), "a": [b["y"], b["y"]]}, "returns a list as 'a'"),
        (lambda m, b: {"loss": loss(m, b), "all": m(b["x"])}, r"returns \[.*\] numbers as 'all'"),
        (lambda m, b: {"loss": loss(m, b), "targets": b["y"]}, "or neither"),
        (
            lambda m, b: {"loss": loss(m, b), "predictions": m(b["x"]).sum(), "targets": b["y"]},
            r"'predictions' as \[batch, ...\]",
        ),
    ],
)
def test_what_is_no_metric_is_refused_in_one_sentence(returned, sentence):
    with pytest.raises(GraphError, match=sentence):
        project(returned)


def test_rows_that_are_not_examples_are_refused():
    """A graph from elsewhere may give anything: only its own evaluation fails."""

    def transposed(model, batch):
        scores = model(batch["x"]).transpose(0, 1)
        return {"loss": loss(model, batch), "predictions": scores, "targets": scores}

    with pytest.raises(TrainingError, match="has 2 rows for"):
        measured(transposed, EvaluationSpec(metrics=["mae"]))
