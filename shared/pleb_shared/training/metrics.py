"""Metrics of predictions for a whole holdout, where no mean over batches gives their value.

Predictions are one of three kinds: scores [n, classes], of which the highest is the predicted
class; scores [n] of the positive class, in no certain unit; or numbers [n, ...] that should equal
the targets. Definitions and names are those of scikit-learn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Classes = NDArray[np.int64]

__all__ = ["FROM_LOSS", "METRICS", "whole_holdout"]

FROM_LOSS: Final = "perplexity"
"""The one metric that follows from the loss and needs no predictions."""
_MOST_CLASSES: Final = 15
"""For metrics that have a value for each class, or each pair."""


def whole_holdout(
    wanted: Sequence[str], predictions: NDArray[Any], targets: NDArray[Any]
) -> dict[str, float]:
    """Return the metrics `wanted`, by name: `predictions` [n, ...] and `targets` [n, ...].

    One with a value for each class is called `recall[2]`, the confusion matrix
    `confusion[target,predicted]`.

    Raises:
        TrainingError: the predictions are not of a kind that a metric takes, or not finite.
    """
    if len(predictions) != len(targets) or not len(targets):
        message = f"{len(predictions)} predictions do not belong to {len(targets)} targets."
        raise TrainingError(message)
    if not (np.isfinite(predictions).all() and np.isfinite(targets).all()):
        raise TrainingError("A prediction or target is not a finite number.")
    found: dict[str, float] = {}
    for name in wanted:
        found |= METRICS[name](predictions, targets)
    return found


def _auc(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    """Return the area under the ROC curve; with more than two classes the mean of each against all.

    It is the share of pairs, one of each class, that the scores order right (Mann and Whitney
    1947); pairs of equal scores count half.
    """
    return {"auc": _mean_over_classes("auc", _ranked_pairs, predictions, targets)}


def _average_precision(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    """Return the precision, averaged over the thresholds by the recall that each of them adds."""
    value = _mean_over_classes("average_precision", _precision_by_recall, predictions, targets)
    return {"average_precision": value}


def _mean_over_classes(
    name: str,
    of_one: Callable[[Numbers, NDArray[np.bool_]], float],
    predictions: NDArray[Any],
    targets: NDArray[Any],
) -> float:
    """Return `of_one` of scores [n] and of what is positive [n], as a mean over the classes."""
    scores = predictions.astype(np.float64)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim == 1:
        positive = targets.reshape(-1)
        if len(positive) != len(scores) or not np.isin(positive, (0, 1)).all():
            message = f"{name} of one score per example needs one target per example, 0 or 1."
            raise TrainingError(message)
        return of_one(scores, positive == 1)
    classes = _classes(name, targets, scores.shape[1])
    if scores.shape[1] == 2:
        return of_one(scores[:, 1] - scores[:, 0], classes == 1)
    present = np.unique(classes)
    return float(np.mean([of_one(scores[:, one], classes == one) for one in present]))


def _ranked_pairs(scores: Numbers, positive: NDArray[np.bool_]) -> float:
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise TrainingError("auc needs examples of at least two classes in the holdout.")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / positives / negatives)


def _precision_by_recall(scores: Numbers, positive: NDArray[np.bool_]) -> float:
    if not positive.any():
        raise TrainingError("average_precision needs positive examples in the holdout.")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # of examples with the same score
    found = hits[last]
    precision = found / (np.flatnonzero(last) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / hits[-1])


def _classes(name: str, targets: NDArray[Any], count: int) -> Classes:
    classes = targets.reshape(-1).astype(np.int64)
    if (classes != targets.reshape(-1)).any() or classes.min() < 0 or classes.max() >= count:
        raise TrainingError(f"{name} needs targets that are whole numbers from 0 to {count - 1}.")
    return classes


def _confusion(name: str, predictions: NDArray[Any], targets: NDArray[Any]) -> Classes:
    """Return how many examples of class i were taken for j: [classes, classes].

    Positions of a sequence count as examples: scores [n, ..., classes], targets [n, ...].
    """
    if predictions.ndim < 2 or predictions.shape[-1] < 2:
        message = (
            f"{name} needs predictions [batch, classes], the highest of which is the predicted "
            "class; of a single logit make them torch.stack([torch.zeros_like(x), x], dim=1)."
        )
        raise TrainingError(message)
    count = predictions.shape[-1]
    chosen = predictions.reshape(-1, count).argmax(axis=1)
    classes = _classes(name, targets, count)
    if len(chosen) != len(classes):
        message = f"{name} needs one target for each prediction of {count} scores."
        raise TrainingError(message)
    pairs: Classes = np.bincount(classes * count + chosen, minlength=count**2)
    matrix: Classes = pairs.reshape(count, count)
    return matrix


def _share(part: Any, whole: Any) -> Numbers:
    """Return part / whole, and 0 where there is nothing to divide by, as scikit-learn does."""
    shares: Numbers = np.zeros(np.shape(part))
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares


def _rates(name: str, predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, Numbers]:
    """Return precision, recall and F1 for each class [classes]."""
    matrix = _confusion(name, predictions, targets)
    right, predicted, there = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    return {
        "precision": _share(right, predicted),
        "recall": _share(right, there),
        "f1": _share(2 * right, predicted + there),
    }


def _rate(name: str) -> Callable[[NDArray[Any], NDArray[Any]], dict[str, float]]:
    """Return one of `_rates`: of class 1, or with more than two classes the mean over them."""

    def rate(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        values = _rates(name, predictions, targets)[name]
        return {name: float(values[1] if len(values) == 2 else values.mean())}

    return rate


def _accuracy(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    matrix = _confusion("accuracy", predictions, targets)
    return {"accuracy": float(matrix.trace() / matrix.sum())}


def _per_class(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    values = _rates("per_class", predictions, targets)["recall"]
    _check_few("per_class", len(values))
    return {f"recall[{number}]": float(value) for number, value in enumerate(values)}


def _matrix(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    matrix = _confusion("confusion", predictions, targets)
    _check_few("confusion", len(matrix))
    return {f"confusion[{i},{j}]": float(count) for (i, j), count in np.ndenumerate(matrix)}


def _check_few(name: str, classes: int) -> None:
    if classes > _MOST_CLASSES:
        message = f"{name} is for at most {_MOST_CLASSES} classes, not {classes}."
        raise TrainingError(message)


def _errors(name: str, predictions: NDArray[Any], targets: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Return predictions - targets and the targets, both [numbers]."""
    a, b = predictions.astype(np.float64).reshape(-1), targets.astype(np.float64).reshape(-1)
    if len(a) != len(b):
        raise TrainingError(f"{name} needs as many targets as predicted numbers.")
    return a - b, b


def _r2(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    errors, wanted = _errors("r2", predictions, targets)
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    if not spread:
        raise TrainingError("r2 needs targets that are not all the same.")
    return {"r2": 1 - float((errors**2).sum()) / spread}


def _rmse(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    return {"rmse": math.sqrt(float((_errors("rmse", predictions, targets)[0] ** 2).mean()))}


def _mae(predictions: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    return {"mae": float(np.abs(_errors("mae", predictions, targets)[0]).mean())}


METRICS: Final[dict[str, Callable[[NDArray[Any], NDArray[Any]], dict[str, float]]]] = {
    "accuracy": _accuracy,
    "auc": _auc,
    "average_precision": _average_precision,
    "confusion": _matrix,
    "f1": _rate("f1"),
    "mae": _mae,
    "per_class": _per_class,
    "precision": _rate("precision"),
    "r2": _r2,
    "recall": _rate("recall"),
    "rmse": _rmse,
}
"""What `[evaluation] metrics` may name, besides `FROM_LOSS`: predictions [n, ...], targets [n, ...]
-> values by name. The names are part of the protocol (`protocol.project.HoldoutMetric`)."""
