"""The outcome of a check as a table for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pleb_project.check.run import CheckOutcome

__all__ = ["check_json", "check_rows"]


def check_rows(outcome: CheckOutcome) -> list[tuple[str, str]]:
    """Return (what, how much) for people."""
    data, metadata, learning = outcome.draft.dataset, outcome.metadata, outcome.learning
    tolerance = metadata.verification
    rows = [
        ("model", f"{outcome.parameters:,} parameters"),
        ("data", f"{data.train_examples:,} examples in {len(data.shards.train)} shards"),
        ("holdout", f"{data.holdout_examples:,} examples"),
        *(("columns", note) for note in data.notes),
        ("memory per unit", f"{_mb(outcome.draft.predicted_memory_bytes)} at most (predicted)"),
        ("upload per unit", _mb(outcome.upload_bytes)),
        ("download per unit", _mb(outcome.download_bytes)),
        ("time per unit", f"{outcome.seconds_per_unit:.2g} s on this PC, one thread"),
        ("loss", f"{learning.loss_first:.4g} -> {learning.loss_last:.4g} in a few units"),
        ("honest results differ by", f"{outcome.tolerance.honest:.2g}"),
        ("1 % of noise differs by", f"{outcome.tolerance.noise:.2g}"),
        ("tolerance", f"{tolerance.tolerance:.2g}, at most {tolerance.tolerance_ceiling:.2g}"),
    ]
    rows += [
        (name, f"{learning.metrics_before[name]:.4g} -> {value:.4g} on the first holdout shard")
        for name, value in learning.metrics_after.items()
    ]
    return rows


def check_json(outcome: CheckOutcome) -> dict[str, Any]:
    """Return all figures for programs."""
    data, learning = outcome.draft.dataset, outcome.learning
    return {
        "project": outcome.metadata.project,
        "passed": outcome.passed,
        "parameters": outcome.parameters,
        "train_examples": data.train_examples,
        "holdout_examples": data.holdout_examples,
        "shards": len(data.shards.train),
        "memory_bytes": outcome.draft.predicted_memory_bytes,
        "upload_bytes": outcome.upload_bytes,
        "download_bytes": outcome.download_bytes,
        "seconds_per_unit": outcome.seconds_per_unit,
        "flops_per_step": outcome.draft.exported.flops_per_step,
        "loss_first": learning.loss_first,
        "loss_last": learning.loss_last,
        "metrics": learning.metrics_after,
        "honest_distance": outcome.tolerance.honest,
        "noise_distance": outcome.tolerance.noise,
        "tolerance": outcome.metadata.verification.tolerance,
        "tolerance_ceiling": outcome.metadata.verification.tolerance_ceiling,
        "warnings": list(outcome.warnings),
    }


def _mb(size: float) -> str:
    return f"{size / 1e6:,.3g} MB"
