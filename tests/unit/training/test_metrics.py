"""Metrics of a whole holdout are scikit-learn's, whatever the batches were."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn import metrics as peer

from pleb_shared.errors import TrainingError
from pleb_shared.protocol.project import HoldoutMetric
from pleb_shared.training.metrics import FROM_LOSS, METRICS, whole_holdout


def value(name, predictions, targets):
    return whole_holdout([name], np.asarray(predictions), np.asarray(targets))[name]


def scores(classes, *, ties, seed):
    random = np.random.default_rng(seed)
    found = random.normal(size=(200, classes)).astype(np.float32)
    return ((found * 4).round() / 4 if ties else found), random.integers(0, classes, 200)


def test_the_protocol_names_every_metric():
    assert {*METRICS, FROM_LOSS} == set(get_args(HoldoutMetric))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_two_classes(ties, seed):
    logits, targets = scores(2, ties=ties, seed=seed)
    one, chosen = (logits[:, 1] - logits[:, 0]).astype(np.float64), logits.argmax(1)
    for predictions in (one, one[:, None], logits.astype(np.float64)):
        assert value("auc", predictions, targets) == pytest.approx(peer.roc_auc_score(targets, one))
        assert value("average_precision", predictions, targets) == pytest.approx(
            peer.average_precision_score(targets, one)
        )
    for name in ("precision", "recall", "f1"):
        expected = getattr(peer, f"{name}_score")(targets, chosen)
        assert value(name, logits, targets) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_many_classes(seed):
    logits, targets = scores(5, ties=True, seed=seed)
    targets[targets == 3] = 1  # a class that the holdout does not have
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    chosen, labels = logits.argmax(1), range(5)
    present = [c for c in labels if c != 3]
    each = [peer.roc_auc_score(targets == c, shares[:, c]) for c in present]
    assert value("auc", shares, targets) == pytest.approx(np.mean(each))
    assert value("accuracy", logits, targets) == pytest.approx(peer.accuracy_score(targets, chosen))
    for name in ("precision", "recall", "f1"):
        expected = getattr(peer, f"{name}_score")(
            targets, chosen, average="macro", labels=labels, zero_division=0
        )
        assert value(name, logits, targets) == pytest.approx(expected)
    matrix = whole_holdout(["confusion", "per_class"], logits, targets)
    expected = peer.confusion_matrix(targets, chosen, labels=labels)
    assert [matrix[f"confusion[{i},{j}]"] for i in labels for j in labels] == [*expected.flat]
    recalls = peer.recall_score(targets, chosen, average=None, labels=labels, zero_division=0)
    assert [matrix[f"recall[{c}]"] for c in labels] == pytest.approx([*recalls])


def test_each_position_of_a_sequence_counts():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(10, 7, 4)), random.integers(0, 4, (10, 7))
    expected = peer.accuracy_score(targets.flatten(), logits.argmax(2).flatten())
    assert value("accuracy", logits, targets) == pytest.approx(expected)


def test_metrics_of_numbers():
    random = np.random.default_rng(0)
    targets = random.normal(size=(50, 3))
    numbers = targets + random.normal(size=(50, 3)) / 4
    flat = targets.flatten(), numbers.flatten()
    assert value("r2", numbers, targets) == pytest.approx(peer.r2_score(*flat))
    assert value("mae", numbers, targets) == pytest.approx(peer.mean_absolute_error(*flat))
    assert value("rmse", numbers, targets) ** 2 == pytest.approx(peer.mean_squared_error(*flat))


@pytest.mark.parametrize(
    ("name", "predictions", "targets", "sentence"),
    [
        ("auc", [0.1, 0.2], [1, 1], "at least two classes"),
        ("auc", [0.1, 0.2], [1, 2], "0 or 1"),
        ("auc", [0.1, 0.2], [[0, 1], [1, 0]], "0 or 1"),
        ("average_precision", [0.1, 0.2], [0, 0], "positive examples"),
        ("f1", [0.1, 0.2], [0, 1], "torch.stack"),
        ("f1", [[0.1, 0.2]], [2], "from 0 to 1"),
        ("f1", [[0.1, 0.2]], [0.5], "whole numbers"),
        ("f1", [[0.1, 0.2]], [[0, 1]], "one target for each"),
        ("confusion", np.zeros((2, 16)), [0, 1], "at most 15"),
        ("r2", [0.1, 0.2], [3, 3], "not all the same"),
        ("mae", [[0.1, 0.2]], [[3.0]], "as many targets"),
        ("mae", [0.1, np.nan], [3, 3], "finite"),
        ("mae", [0.1, 0.2], [3], "do not belong"),
        ("mae", [], [], "do not belong"),
    ],
)
def test_what_has_no_value_is_refused(name, predictions, targets, sentence):
    with pytest.raises(TrainingError, match=sentence):
        value(name, predictions, targets)
