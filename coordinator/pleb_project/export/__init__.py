"""A researcher's PyTorch model as graphs: traced, rewritten, checked against eager mode.

    model = nn.Module; loss(model, batch) -> scalar
    evaluate(model, batch) -> {name: mean, or (sum, count), or predictions and targets [batch, ...]}

`torch.export` runs on the researcher's machine only. Its program is rewritten to JSON (`rewrite`),
and the graph must do exactly what the model does (`parity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch
from torch import nn

from pleb_project.export.model_tensors import (
    TensorSpecs,
    canonical_names,
    initial_tensors,
    unchanged,
)
from pleb_project.export.parity import check_evaluation, check_parity, check_showcase
from pleb_project.export.rewrite import rewrite
from pleb_project.export.source import RefusedNodeError
from pleb_project.export.trace import trace_evaluation, trace_showcase, trace_training
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.flops import flops_per_step
from pleb_shared.protocol.graph import Graph, check_constants, parse_graph, references, value_count
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import BaseSpec, InputSpec, ModelSpec
from pleb_shared.tensors.layout import read_tensors, save_tensors, version_digest
from pleb_shared.training.dry_run import dry_run, trained_parameters
from pleb_shared.training.graph import CompiledGraph, base_tensors
from pleb_shared.training.showcase import OUTPUT

if TYPE_CHECKING:
    from pleb_project.export.trace import Named
    from pleb_shared.protocol.unit import Blob

__all__ = [
    "Batch",
    "EvaluateFunction",
    "Exported",
    "LossFunction",
    "ShowcaseFunction",
    "export_model",
]

Batch = dict[str, torch.Tensor]
"""Inputs by name; the first dimension of each counts examples."""
LossFunction = Callable[[nn.Module, Batch], torch.Tensor]
EvaluateFunction = Callable[[nn.Module, Batch], dict[str, Any]]
"""A mean [] or a pair of sum and count [] by a metric's name; "predictions" and "targets"
[batch, ...]."""
ShowcaseFunction = Callable[[nn.Module, Batch], torch.Tensor]
"""[batch, ...]: scores of classes, numbers, or scores of the next byte at each place."""

_PRODUCTS: Final = (
    "aten.linear.",
    "aten.matmul.",
    "aten.mm.",
    "aten.bmm.",
    "aten.addmm.",
    "aten.conv1d.",
    "aten.conv2d.",
    "aten.conv3d.",
)
_VIEWS: Final = (
    "aten.t.",
    "aten.transpose.",
    "aten.permute.",
    "aten.view.",
    "aten.reshape.",
    "aten.chunk.",
    "aten.split",
    "aten.unbind.",
    "aten.select.",
    "aten.slice.",
    "aten.to.",
)


@dataclass(frozen=True)
class Exported:
    """What becomes of a model: its graphs, the tensors' specs, version 0, and its base."""

    training_graph: bytes
    evaluation_graph: bytes
    model: ModelSpec
    inputs: list[InputSpec]
    """Each of the shape of one example."""
    initial: bytes
    """Version 0 as safetensors."""
    base: bytes | None
    """What training never changes, as safetensors."""
    matrices: list[str]
    """Parameters that Muon steps."""
    shared: dict[str, str]
    """Other names in the state_dict -> the parameter or buffer that they are (tied weights)."""
    metrics: list[str]
    """Those that `evaluate` returns as numbers."""
    predicts: bool
    """Whether it returns predictions and targets, too."""
    flops_per_step: int
    showcase_graph: bytes | None = None

    def compiled(self, graph: bytes, *, partly: bool = False) -> CompiledGraph:
        """Return a graph, ready to run on the base; `partly`: a chunk's, whose unit adds the rest.

        Others are one of the graphs here.
        """
        data = self.base or b""
        arrays = read_tensors(lambda start, stop: data[start:stop], self.model.base_tensors)
        base = base_tensors(arrays if data else [])
        return CompiledGraph(parse_graph(graph)).with_base(base, partly=partly)


def export_model(
    model: nn.Module,
    loss: LossFunction,
    evaluate: EvaluateFunction,
    example_batch: Batch,
    *,
    matrices: list[str] | None = None,
    showcase: ShowcaseFunction | None = None,
) -> Exported:
    """Return the graphs of `loss` in training mode, the others in evaluation mode.

    `example_batch` has exactly `batch_examples` examples, since the training graph is made for
    that size; the other graphs work for any. `matrices` overrides the choice of what Muon
    steps. The model is left as it was.

    Raises:
        GraphError: something cannot be exported; the sentence names the operator, the line in
            the model's code, and what to write instead. Also where loss, gradients or buffers
            of a graph differ from those in eager mode.
        InputError: a tensor has a dtype that the protocol does not carry, or `matrices` names
            no parameter of at least two dimensions.
    """
    every = TensorSpecs.of(model)
    traced = trace_training(model, loss, example_batch)

    def training_graph(specs: TensorSpecs) -> tuple[Graph, bool]:
        with _located(lambda copied: loss(copied, example_batch), model):
            graph, exact = rewrite(traced, specs, model, example_batch, [("loss", "mean")])
        return _checked(graph), exact

    training, exact = training_graph(every)
    trained = trained_parameters(training)
    traced_evaluation, outputs = trace_evaluation(model, evaluate, example_batch)

    def evaluation_graph(specs: TensorSpecs) -> Graph:
        with _located(lambda copied: evaluate(copied, example_batch), model):
            return _checked(rewrite(traced_evaluation, specs, model, example_batch, outputs)[0])

    written = {*training.mutated, *evaluation_graph(every).mutated}
    specs = every.split(trained, written)
    (training, exact), evaluation = training_graph(specs), evaluation_graph(specs)
    dry_run(training, trains=True)  # refuses what a volunteer's refuses
    check_parity(training, model, loss, example_batch, exact=exact)
    dry_run(evaluation, trains=False)
    check_evaluation(evaluation, model, evaluate, example_batch)
    shown = None
    if showcase is not None:
        traced_showcase = trace_showcase(model, showcase, example_batch)
        with _located(lambda copied: showcase(copied, example_batch), model):
            outputs_shown: list[Named] = [(OUTPUT, "predictions")]
            shown = _checked(
                rewrite(traced_showcase, specs, model, example_batch, outputs_shown)[0]
            )
        dry_run(shown, trains=False)
        check_showcase(shown, model, showcase, example_batch)
    tensors = initial_tensors(model, [*specs.parameters, *specs.buffers])
    initial = save_tensors(tensors)
    base = save_tensors(initial_tensors(model, specs.base)) if specs.base else None
    model_spec = ModelSpec(
        parameters=specs.parameters,
        buffers=specs.buffers,
        initial=_blob(initial),
        initial_digest=digest_of(b""),
        base=BaseSpec(tensors=specs.base, blob=_blob(base)) if base else None,
    )
    digest = version_digest(tensors, model_spec)
    return Exported(
        training_graph=strict_json.encode(training),
        evaluation_graph=strict_json.encode(evaluation),
        model=msgspec.structs.replace(model_spec, initial_digest=digest),
        inputs=[msgspec.structs.replace(i, shape=i.shape[1:]) for i in training.inputs],
        initial=initial,
        base=base,
        matrices=_chosen(matrices, specs, training),
        shared={n: first for n, first in canonical_names(model).items() if n != first},
        metrics=[name for name, kind in outputs if kind in {"mean", "sum"}],
        predicts=any(kind == "predictions" for _, kind in outputs),
        flops_per_step=flops_per_step(training),
        showcase_graph=None if shown is None else strict_json.encode(shown),
    )


def _blob(data: bytes) -> Blob:
    return blob_of(data)


@contextmanager
def _located(run: Callable[[nn.Module], object], model: nn.Module) -> Iterator[None]:
    """Add to a refusal the line of loss() or evaluate(), which `run` calls once more."""
    try:
        yield
    except RefusedNodeError as error:
        with unchanged(model):
            raise error.located(lambda: run(model)) from None


def _checked(graph: Graph) -> Graph:
    """Return the graph as an agent will read it."""
    check_constants(graph)
    return parse_graph(strict_json.encode(graph))


def _chosen(matrices: list[str] | None, specs: TensorSpecs, graph: Graph) -> list[str]:
    """Return the given matrices that are trained, or the default choice."""
    if matrices is None:
        return _hidden_matrices(graph)
    possible = {spec.name for spec in specs.parameters if len(spec.shape) >= 2}
    chosen = [name for name in matrices if name not in {spec.name for spec in specs.base}]
    for name in chosen:
        if name not in possible:
            raise InputError(
                f"{name!r} is listed for Muon but is not a parameter with at least two dimensions."
            )
    return chosen


def _hidden_matrices(graph: Graph) -> list[str]:
    """Return the names of the matrices of the hidden layers, in the model's order.

    Those are the weights of matrix products and convolutions, apart from the last product (the
    head), from what is also looked up as an embedding (tied weights), and from what has but
    one row or column, such as depthwise filters. All else, norms and vectors too, is AdamW's
    (Jordan 2024, "when should you use Muon").
    """
    tensors = [*graph.parameters, *graph.buffers, *graph.base]
    origin: dict[int, int] = {i: i for i in range(len(tensors))}
    products: list[int] = []
    embedded: set[int] = set()
    slot = value_count(graph)
    for node in graph.nodes:
        used = [origin[s] for s in references(node) if s in origin]
        if node.op.startswith("aten.embedding."):
            embedded.update(used)
        elif node.op.startswith(_PRODUCTS):
            products += [p for p in used if len(tensors[p].shape) >= 2]
        elif used and node.op.startswith(_VIEWS):
            origin.update(dict.fromkeys(range(slot, slot + len(node.outputs)), used[0]))
        slot += len(node.outputs)
    head = products[-1:]
    chosen = set(products) - embedded - set(head)
    return [
        spec.name
        for i, spec in enumerate(graph.parameters)
        if i in chosen and min(spec.shape[:2]) > 1
    ]
