"""The graph against eager mode: forward, backward and optimizer step of the same model.

A pair is one step of each, in turns; the ratio is eager's median CPU time over the graph's.
"""

from __future__ import annotations

import copy
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.models import (
    Batch,
    Cnn,
    Gpt,
    GptSize,
    cnn_batch,
    cnn_loss,
    cnn_metrics,
    gpt_batch,
    gpt_loss,
    gpt_metrics,
)
from pleb_project.export import EvaluateFunction, LossFunction, export_model
from pleb_shared.training.draws import NodeDraws

if TYPE_CHECKING:
    from collections.abc import Callable


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pairs = 60 if quick else 300
    size = GptSize()
    gpt = _ratio(Gpt(size), gpt_loss, gpt_metrics, gpt_batch(8, size), pairs)
    cnn = _ratio(Cnn(dropout=0.0), cnn_loss, cnn_metrics, cnn_batch(32), pairs)
    return {
        "ratio_gpt": gpt[0],
        "ratio_cnn": cnn[0],
        "eager_ms_gpt": gpt[1],
        "eager_ms_cnn": cnn[1],
        "pairs": pairs,
    }


def _ratio(
    model: nn.Module, loss: LossFunction, metrics: EvaluateFunction, batch: Batch, pairs: int
) -> tuple[float, float]:
    """Return how fast the graph is beside eager mode (1 is as fast), and eager's milliseconds."""
    exported = export_model(model, loss, metrics, batch)
    graph = exported.compiled(exported.training_graph)
    eager, mine = copy.deepcopy(model).train(), copy.deepcopy(model)
    parameters, buffers = dict(mine.named_parameters()), dict(mine.named_buffers())
    draws = NodeDraws(seed=0, step=0)

    def graph_loss() -> torch.Tensor:
        return graph.run(parameters, buffers, batch, draws)["loss"]

    eager_step = _step(lambda: loss(eager, batch), eager)
    graph_step = _step(graph_loss, mine)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs + 5):
        order = (eager_step, graph_step) if number % 2 else (graph_step, eager_step)
        for step in order:
            start = time.process_time()
            step()
            if number >= 5:
                times[step is graph_step].append(time.process_time() - start)
    return median(times[0]) / median(times[1]), 1000 * median(times[0])


def _step(loss: Callable[[], torch.Tensor], model: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
