"""Encoding and decoding a real pseudo-gradient: size, speed, and how well it keeps its direction.

The delta is that of one unit of a byte GPT on Python's own source text, after some units before
it. `gb_per_s` counts float32 bytes over encoding plus decoding, in CPU time on one thread.
"""

from __future__ import annotations

import argparse
import inspect
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from benchmarks.models import Gpt, GptSize, gpt_batch, gpt_loss, gpt_metrics
from pleb_project.export import Exported, export_model
from pleb_shared.protocol.project import ModelSpec, Muon, Training, elements
from pleb_shared.tensors.format import DeltaFormat
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.tensors.version import subtract_versions
from pleb_shared.training.draws import NodeDraws, window_starts
from pleb_shared.training.optimizers import make_optimizer, unit_learning_rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.protocol.project import CodecName
    from pleb_shared.training.graph import CompiledGraph

CODECS: Final[tuple[CodecName, ...]] = ("fp32", "int8", "int4", "2bit")
BLOCK: Final = 256
BATCH: Final = 4


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = GptSize()
    exported = export_model(Gpt(size), gpt_loss, gpt_metrics, gpt_batch(BATCH, size))
    delta = pseudo_gradient(exported, size.window, units=2 if quick else 12)
    repeats = 20 if quick else 100
    model = exported.model
    return {
        "codecs": {codec: measure(delta, model, codec, repeats) for codec in CODECS},
        "numbers": sum(elements(spec) for spec in model.parameters),
        "block": BLOCK,
    }


def measure(delta: Tensors, model: ModelSpec, codec: CodecName, repeats: int) -> dict[str, float]:
    """Return ratio, speeds and the cosine between what was encoded and what is decoded."""
    form = DeltaFormat(model, codec, BLOCK)
    data = form.encode(delta)
    decoded = form.decode(data)
    before = np.concatenate([delta[spec.name].ravel() for spec in model.parameters])
    after = np.concatenate([decoded[spec.name].ravel() for spec in model.parameters])
    encoding = seconds(lambda: form.encode(delta), repeats)
    decoding = seconds(lambda: form.decode(data), repeats)
    gigabytes = before.nbytes / 1e9
    return {
        "ratio": before.nbytes / len(data),
        "gb_per_s": gigabytes / (encoding + decoding),
        "cosine": cosine(before.astype(np.float64), after.astype(np.float64)),
        "encode_gb_per_s": gigabytes / encoding,
        "decode_gb_per_s": gigabytes / decoding,
    }


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of one call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


def pseudo_gradient(exported: Exported, window: int, units: int) -> Tensors:
    """Return version - local of the last of `units` units of 25 Muon steps in a row."""
    training = Training(
        optimizer=Muon(matrices=exported.matrices),
        learning_rate=2e-2,
        batch_examples=BATCH,
        local_steps=25,
        versions=40,
        warmup_steps=50,
    )
    graph = exported.compiled(exported.training_graph)
    text = np.frombuffer(inspect.getsource(argparse).encode(), np.uint8)
    version = load_tensors(exported.initial)
    delta: Tensors = {}
    for number in range(units):
        local = train(graph, training, version, text, (number, window))
        delta = subtract_versions(version, local, exported.model)
        version = local
    return delta


def train(
    graph: CompiledGraph,
    training: Training,
    version: Tensors,
    text: np.ndarray[Any, Any],
    place: tuple[int, int],
) -> Tensors:
    """Return what one unit makes of `version`; `place` is its number and the window."""
    number, window = place
    tensors = {
        name: torch.from_numpy(array.copy()).requires_grad_() for name, array in version.items()
    }
    rates = unit_learning_rates(training, number * training.local_steps, training.local_steps)
    optimizer = make_optimizer(training, tensors, None, rates)
    for step, rate in enumerate(rates):
        starts = window_starts(number, step, training.batch_examples, text.size - window)
        rows = text[starts[:, None] + np.arange(window + 1)]
        inputs = {"x": torch.from_numpy(rows[:, :-1]), "y": torch.from_numpy(rows[:, 1:])}
        for tensor in tensors.values():
            tensor.grad = None
        loss = graph.run(tensors, {}, inputs, NodeDraws(number, step))["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(tensors, rate)
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
