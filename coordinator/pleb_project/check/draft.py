"""The draft of a project: data and model as blobs, and metadata that lacks only signatures."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch
from msgspec import UNSET

from pleb_project.check.chunks import PlannedChunk, plan_chunks
from pleb_project.check.likeness import UNKNOWN_LIKENESS, measure_likeness
from pleb_project.check.rehearsal import rehearse, researchers_errors
from pleb_project.check.researcher_code import load_code
from pleb_project.check.showcase import (
    PlannedShowcase,
    output_of_first,
    plan_showcase,
    rehearse_showcase,
)
from pleb_project.export import Exported, export_model
from pleb_project.readers.read import read_dataset
from pleb_shared.errors import InputError, TrainingError
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.own_data import own_shard_examples
from pleb_shared.protocol.privacy import SENTENCES, Unearned
from pleb_shared.protocol.project import (
    Calibration,
    Delegation,
    Muon,
    Privacy,
    ProjectMetadata,
    ResourceLimits,
    Training,
    example_bytes,
)
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run, training_cost
from pleb_shared.training.metrics import FROM_LOSS, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pleb_project.check.likeness import Likeness
    from pleb_project.check.researcher_code import ResearcherCode
    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.export import ShowcaseFunction
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.shards import Dataset

__all__ = ["Draft", "export_code", "make_draft"]

_NO_KEY: Final = "1" * 64
_MEMORY_AT_LEAST: Final = 256 * 2**20
_CALIBRATION_STEPS: Final = 3
_HEADER_BYTES: Final = 2**16
"""Of a shard with its user's own data, at most: names and shapes of its inputs."""
_LEAST_WARM_START_BATCHES: Final = 2
_FAMILIES: Final = {"per_class": "recall", "confusion": "confusion"}
"""Metrics with a value for each class -> how their values' names begin."""


@dataclass(frozen=True)
class Draft:
    """A project before it is signed.

    `metadata` has placeholders for keys, numbers and times, and a provisional tolerance
    where the project file gives none.
    """

    definition: ProjectDefinition
    dataset: Dataset
    exported: Exported
    metadata: ProjectMetadata
    predicted_memory_bytes: int
    """Bound on what a unit takes beyond an idle worker."""
    chunks: list[PlannedChunk] = field(default_factory=list)
    """In the order of the metadata."""
    likeness: Likeness = UNKNOWN_LIKENESS
    """How far apart the shards are."""
    showcase: PlannedShowcase | None = None

    def shard(self, blobs: BlobFolder, number: int) -> Tensors:
        """Return training shard `number` (modulo their count)."""
        shards = self.dataset.shards.train
        return load_tensors(blobs.get(shards[number % len(shards)].digest))


def make_draft(
    definition: ProjectDefinition, blobs: BlobFolder, say: Callable[[str], None] = lambda _: None
) -> Draft:
    """Read the data, export the model, put both into `blobs` and return the draft.

    `say` gets the progress of reading much data.

    Raises:
        InputError, GraphError: data or model cannot be used; the message says what to change.
    """
    dataset = read_dataset(definition.data, definition.folder, blobs, say)
    code = load_code(definition.model, definition.folder)
    training, likeness = definition.training, measure_likeness(dataset, blobs)
    if "shards_per_unit" in definition.measured:
        training = msgspec.structs.replace(training, shards_per_unit=likeness.enough)
    shard = load_tensors(blobs.get(dataset.shards.train[0].digest))
    arrays = UnitData(dataset.spec, [shard]).training_batch(0, 0, training.batch_examples)
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    batches = [batch, *_extremes(shard, batch)]
    exported = export_code(
        code,
        batches,
        definition.folder,
        lambda: _matrices(training, code.model),
        showcase=None if definition.showcase is None else code.showcase or output_of_first,
    )
    _check_target(definition, exported)
    _check_privacy(definition.privacy, exported, len(dataset.shards.train))
    if isinstance(training.optimizer, Muon):
        optimizer = msgspec.structs.replace(training.optimizer, matrices=exported.matrices)
        training = msgspec.structs.replace(training, optimizer=optimizer)
    largest_shard = max(shard.size for shard in dataset.shards.train)
    if dataset.spec.own is not None:
        example = example_bytes(dataset.spec.inputs)
        own = example * own_shard_examples(example, training.batch_examples)
        largest_shard = max(largest_shard, own + _HEADER_BYTES)
    graph = parse_graph(exported.training_graph)
    cost = training_cost(
        graph,
        view_of(exported.model, None),
        dataset.spec,
        training.batch_examples,
        training.optimizer,
    )
    shard_bytes = largest_shard * training.shards_per_unit
    full_bytes = shard_bytes + cost.memory_bytes
    chunks = plan_chunks(
        definition.limits.chunks, graph, exported.model, dataset.spec, training, shard_bytes
    )
    showcase = plan_showcase(definition.showcase, exported, dataset, blobs)
    memory = max(
        full_bytes,
        _evaluation_memory(exported, dataset, definition, training),
        showcase.memory_bytes if showcase else 0,
    )
    if dataset.shards.holdout:
        held = load_tensors(blobs.get(dataset.shards.holdout[0].digest))
        evaluated = definition.evaluation.batch_examples or training.batch_examples
        _check_last_batch(exported, dataset, held, evaluated)
    for planned in chunks:
        blobs.put(planned.graph)
    blobs.put(exported.initial)
    if exported.base is not None:
        blobs.put(exported.base)
    project = definition.project
    limit = _memory_limit(definition, memory)
    training = _warm_start(training, limit - cost.memory_bytes, largest_shard)
    metadata = ProjectMetadata(
        protocol=1,
        project=project.name,
        number=1,
        epoch=0,
        issued_at=0,
        root_key=_NO_KEY,
        delegation=Delegation(online_key=_NO_KEY, expires_at=0, may_restore=project.restore),
        title=project.title or project.name,
        description=project.description,
        data_licence=project.data_licence,
        contact=project.contact,
        model=exported.model,
        training_graph=blobs.put(exported.training_graph),
        evaluation_graph=blobs.put(exported.evaluation_graph),
        data=dataset.spec,
        training=training,
        outer=definition.outer,
        codec=definition.codec,
        round=definition.round,
        verification=definition.verification,
        calibration=Calibration(
            steps=min(_CALIBRATION_STEPS, training.local_steps),
            seed=definition.data.seed,
            chunk=chunks[-1].chunk.name if chunks else FULL,
        ),
        limits=ResourceLimits(
            memory_bytes=limit,
            lease_seconds=definition.limits.lease_seconds,
            full_bytes=full_bytes,
        ),
        chunks=[planned.chunk for planned in chunks],
        evaluation=definition.evaluation,
        target=definition.target,
        mirrors=project.mirrors,
        uploads=project.uploads,
        privacy=definition.privacy,
        showcase=UNSET if showcase is None else showcase.showcase,
    )
    return Draft(definition, dataset, exported, metadata, memory, chunks, likeness, showcase)


def export_code(
    code: ResearcherCode,
    batches: Sequence[dict[str, torch.Tensor]],
    folder: Path,
    matrices: Callable[[], list[str] | None] = lambda: None,
    showcase: ShowcaseFunction | None = None,
) -> Exported:
    """Return the export of the researcher's code for the first of `batches`.

    All batches hold inputs [batch, ...]; the code is run on each before. `matrices` names the
    parameters for Muon, once lazy layers have their sizes; `showcase` is exported too, if given.

    Raises:
        InputError, GraphError: one sentence, with the line in `folder` and what to write.
    """
    with code.place:
        suspects = rehearse(code, batches, folder)
        if showcase is not None:
            rehearse_showcase(code, showcase, batches[0], folder)
        with researchers_errors("The model", folder, suspects):
            return export_model(
                code.model,
                code.loss,
                code.evaluate,
                batches[0],
                matrices=matrices(),
                showcase=showcase,
            )


def _extremes(shard: Tensors, batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return a batch with the largest and smallest whole numbers of a shard, if there are any.

    Labels and indices that are out of range need not be in the first batch [batch, ...]; the
    arrays of the shard are [examples, ...].
    """
    rows: list[int] = []
    if any(n not in shard or shard[n].shape[1:] != tuple(t.shape[1:]) for n, t in batch.items()):
        return []  # texts and lists lie in shards in another way
    for name, tensor in batch.items():
        if not tensor.dtype.is_floating_point and tensor.dtype != torch.bool:
            flat = shard[name].reshape(len(shard[name]), -1)
            if flat.size:
                rows += [int(flat.max(axis=1).argmax()), int(flat.min(axis=1).argmin())]
    if not rows:
        return []
    size = len(next(iter(batch.values())))
    chosen = [rows[i % len(rows)] for i in range(size)]
    return [{name: torch.from_numpy(shard[name][chosen]) for name in batch}]


def _evaluation_memory(
    exported: Exported, dataset: Dataset, definition: ProjectDefinition, training: Training
) -> int:
    """Return the bytes that evaluating takes: one holdout shard at a time, and a batch."""
    batch = definition.evaluation.batch_examples or training.batch_examples
    cost = dry_run(parse_graph(exported.evaluation_graph), trains=False, batch_examples=batch)
    return cost.memory_bytes + max((shard.size for shard in dataset.shards.holdout), default=0)


def _check_last_batch(exported: Exported, dataset: Dataset, shard: Tensors, batch: int) -> None:
    """Refuse batches of `batch` examples if the last, which is shorter, has no finite metrics.

    One example has no variance, for instance, and no other to be compared with. The last batch is
    as long as it will be, of the holdout's `shard`.
    """
    spec = dataset.spec
    each = 1 if spec.kind == "rows" else spec.window
    count = sum(-(-one.examples // each) for one in dataset.shards.holdout)
    last, data = count % batch, UnitData(spec, [shard])
    if not last:
        return
    arrays = data.take(np.arange(last) * each % data.examples)
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    version = load_tensors(exported.initial)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in version.items()}
    graph = exported.compiled(exported.evaluation_graph)
    try:
        with torch.no_grad():
            found = graph.run(tensors, tensors, inputs, NodeDraws(0, 0))
    except TrainingError as error:
        wrong = f"evaluate() fails: {error}"
    else:
        means = {o.name: found[o.key] for o in graph.graph.outputs if o.kind == "mean"}
        infinite = [name for name, value in means.items() if not value.isfinite().all()]
        if not infinite:
            return
        wrong = f"evaluate() gives {float(means[infinite[0]])} as {infinite[0]!r}."
    fitting = [b for b in range(2, 2 * batch + 1) if count % b == 0 or 2 * (count % b) >= b]
    better = min(fitting, key=lambda b: abs(b - batch), default=count)
    raise InputError(
        f"Of the {count} examples of the holdout the last batch has {last}, for which {wrong} "
        f"Write batch = {better} in [evaluation]."
    )


def _warm_start(training: Training, shards_bytes: int, largest_shard: int) -> Training:
    """Return the settings with a warm start whose unit has its shards in `shards_bytes`.

    It reads as many as all units of a round; where so many do not fit, or make more steps than a
    unit may have, its batches are smaller.
    """
    fitting = shards_bytes // (largest_shard * training.shards_per_unit)
    allowed = LIMITS.local_steps // training.local_steps
    batches = min(training.warm_start_batches, fitting, allowed)
    if batches < _LEAST_WARM_START_BATCHES:
        return msgspec.structs.replace(training, warm_start_versions=0)
    return msgspec.structs.replace(training, warm_start_batches=batches)


def _check_privacy(privacy: Privacy | None, exported: Exported, train_shards: int) -> None:
    if privacy is None:
        return
    if exported.model.buffers:
        raise InputError(f"[privacy] cannot hold: {SENTENCES[Unearned.BUFFERS]}")
    if privacy.delta * train_shards >= 1:
        raise InputError(f"[privacy] cannot hold: {SENTENCES[Unearned.DELTA]}")


def _memory_limit(definition: ProjectDefinition, predicted: int) -> int:
    given = definition.limits.memory_mb
    if not given:
        return max(_MEMORY_AT_LEAST, 2 * predicted)
    if given * 2**20 < predicted:
        raise InputError(
            f"memory_mb = {given} in [limits] is less than the {-(-predicted >> 20)} MiB that a "
            "unit is predicted to take: raise it, or make batch smaller."
        )
    return given * 2**20


def _matrices(training: Training, model: torch.nn.Module) -> list[str] | None:
    """Return the parameters that the project file's patterns name; None if it names none."""
    if not isinstance(training.optimizer, Muon) or not training.optimizer.matrices:
        return None
    patterns = training.optimizer.matrices
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                f"matrices in [training] names {pattern!r}, but no parameter has that name; "
                f"there are {', '.join(names[:12])}."
            )
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _check_target(definition: ProjectDefinition, exported: Exported) -> None:
    """Check the metrics: those that evaluate() returns, those of [evaluation], and the target's."""
    target, wanted = definition.target, definition.evaluation.metrics
    if len(exported.metrics) > LIMITS.metrics:
        raise InputError(f"evaluate() returns more than {LIMITS.metrics} metrics: leave some out.")
    of_predictions = [name for name in wanted if name != FROM_LOSS]
    if of_predictions and not exported.predicts:
        raise InputError(
            f"[evaluation] names {of_predictions[0]!r}, which is computed from the whole holdout: "
            'let evaluate() return "predictions" and "targets" [batch, ...] too.'
        )
    if exported.predicts and not of_predictions:
        raise InputError(
            'evaluate() returns "predictions": name in [evaluation] the metrics to compute from '
            f"them, such as metrics = [{sorted(METRICS)[1]!r}]; there are "
            f"{', '.join(sorted(METRICS))}."
        )
    for name in wanted:
        if name in exported.metrics:
            raise InputError(
                f"evaluate() returns a metric {name!r}, and [evaluation] names it too: drop one."
            )
    families = [name for name in wanted if name not in _FAMILIES]
    known = [*exported.metrics, *families]
    is_member = target is not None and any(
        name in wanted and target.metric.startswith(f"{prefix}[")
        for name, prefix in _FAMILIES.items()
    )
    if target and target.metric not in known and not is_member:
        raise InputError(
            f"[target] names the metric {target.metric!r}, but evaluate() returns "
            f"{', '.join(map(repr, known))}."
        )
