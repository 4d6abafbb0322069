"""The whole check, step by step, and its outcome: a table for people, JSON for programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_project.check.draft import Draft, make_draft
from pleb_project.check.effort import CPU_SECONDS
from pleb_project.check.likeness import ALIKE
from pleb_project.check.measured import Measured, kept_or_measured
from pleb_project.check.measuring import measure_project
from pleb_project.check.privacy import privacy_words
from pleb_project.check.remedies import advice
from pleb_project.check.tolerance import Tolerance, choose_tolerance
from pleb_shared.protocol.flops import flops_per_step
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.project import ProjectMetadata, elements
from pleb_shared.tensors.chunk_view import held_numbers, view_of
from pleb_shared.tensors.format import difference_format, training_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.check.learning import Learning
    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import Numerics

__all__ = ["CheckOutcome", "check_json", "check_project", "check_rows"]


_PRIVATE: Final = (
    "private: only members whom the operator invites, you and the operator read it, and members "
    "can read all data; its files lie encrypted on the coordinator, mirrors and PCs; it stays so"
)


@dataclass(frozen=True)
class CheckOutcome:
    """All that the check found. `metadata` is the draft's with the measured tolerance."""

    draft: Draft
    metadata: ProjectMetadata
    learning: Learning
    tolerance: Tolerance
    native: Tolerance
    """The same before the check chose strict numerics, where it did."""
    seconds_per_step: float
    """On this PC with one thread, as `seconds_per_unit`."""
    upload_bytes: int
    download_bytes: int
    """Per unit: one version difference and the shards."""
    parameters: int
    """Those that are trained."""
    base_bytes: int
    """The part of the model that training never changes: each PC fetches it once."""
    estimates: tuple[str, ...]
    """What was estimated instead of measured, as sentences."""
    warnings: tuple[str, ...]
    chunks: dict[str, float]
    """Seconds for a step of each, likewise on this PC with one thread."""

    @property
    def seconds_per_unit(self) -> float:
        """On this PC with one thread."""
        return self.seconds_per_step * self.metadata.training.local_steps

    @property
    def passed(self) -> bool:
        """Whether the project can be published as it is."""
        return self.tolerance.separates and self.learning.falls


def check_project(
    definition: ProjectDefinition,
    blobs: BlobFolder,
    say: Callable[[str], None],
    *,
    reuse: bool = False,
    cpu_seconds: float = CPU_SECONDS,
    admit: Callable[[ProjectMetadata], None] = lambda _: None,
) -> CheckOutcome:
    """Export, measure and try a project; `say` gets a sentence before each step that takes a while.

    Args:
        definition: the project file's.
        blobs: where data and model go.
        say: gets the progress.
        reuse: what an earlier check measured is taken, if all that it depends on is the same.
        cpu_seconds: about how much processor time the runs may take.
        admit: gets the draft before anything is measured, and may refuse it.

    Raises:
        PlebError: the project cannot be exported or trained; the message says what to change.
    """
    say("Reading the data and exporting the model")
    draft = make_draft(definition, blobs, say)
    admit(draft.metadata)
    may_choose = "numerics" in definition.measured

    def measure() -> Measured:
        return measure_project(draft, blobs, say, cpu_seconds, may_choose=may_choose)

    measured, kept = kept_or_measured(
        blobs.folder,
        draft.metadata,
        measure,
        reuse=reuse,
        cpu_seconds=cpu_seconds,
        may_choose=may_choose,
    )
    if kept:
        say("The model, its data and settings are as the last check measured them")
    learning = measured.learning
    native = choose_tolerance(measured.honest, measured.noise, measured.later)
    tolerance = native
    if measured.numerics != draft.metadata.verification.numerics:  # the check has chosen them
        honest = measured.tried[-1].apart
        tolerance = choose_tolerance(honest, measured.noise, honest)
    shards = draft.dataset.shards.train
    shard_bytes = max(shard.size for shard in shards) * draft.metadata.training.shards_per_unit
    outcome = CheckOutcome(
        draft=draft,
        metadata=_with_measured(draft, tolerance, measured.numerics),
        learning=learning,
        tolerance=tolerance,
        native=native,
        seconds_per_step=measured.seconds_per_step,
        upload_bytes=training_format(draft.metadata).size,
        download_bytes=difference_format(draft.metadata).size + shard_bytes,
        parameters=sum(elements(spec) for spec in draft.exported.model.parameters),
        base_bytes=len(draft.exported.base or b""),
        estimates=measured.estimates,
        warnings=(),
        chunks={name: chunk.seconds_per_step for name, chunk in measured.chunks.items()},
    )
    found = (*_about_results(measured, native, tolerance), *_warnings(outcome))
    return dataclasses.replace(outcome, warnings=found)


def _about_results(measured: Measured, native: Tolerance, tolerance: Tolerance) -> tuple[str, ...]:
    """Return what the researcher should know about honest results, as sentences.

    `native` is what was measured first, `tolerance` what holds.
    """
    apart, units = measured.apart, measured.learning.units
    if not native.separates:
        found = (
            f"Honest results differ by {native.honest:.2g}, a result with 1 % of noise by "
            f"{native.noise:.2g}: cheating cannot be distinguished from rounding"
        )
    elif native.drifts:
        found = (
            f"After {units} units honest results of different kinds of PCs differ by "
            f"{native.later:.2g}, more than the ceiling of {native.ceiling:.2g}: some of their "
            "results may not be confirmed and do not count then; no PC is found wrong for it"
        )
    elif native.tight:
        most = max(native.honest, native.later)
        found = (
            f"Honest results differ by {most:.2g}, close to the ceiling of {native.ceiling:.2g}: "
            "some honest results may be refused"
        )
    else:
        return ()
    if tolerance is not native:
        taken = (
            f"{found}. So the project runs in strict numerics, which make results equal to the "
            f"bit; a step takes {measured.tried[-1].seconds_ratio:.2g} times as long."
        )
        return (taken,)
    worst = max(apart, key=lambda name: apart[name])
    furthest = f"The tensor furthest apart is {worst!r} ({apart[worst]:.2g})."
    return (f"{found}.", *advice(measured.tried, native.ceiling), furthest)


def _warnings(outcome: CheckOutcome) -> tuple[str, ...]:
    """Return what else the researcher should change, as sentences."""
    found: list[str] = []
    if not outcome.learning.falls:
        found.append(
            f"The loss does not fall ({outcome.learning.loss_first:.4g} to "
            f"{outcome.learning.loss_last:.4g} in a few units): try a third of learning_rate."
        )
    shards, units = len(outcome.draft.dataset.shards.train), outcome.metadata.round.units
    if shards < units:
        found.append(
            f"{shards} shards are fewer than the {units} units of a round: some units train on "
            "the same shard."
        )
    likeness, read = outcome.draft.likeness, outcome.metadata.training.shards_per_unit
    if likeness.of(read) > ALIKE:
        better = likeness.enough
        advice = (
            f"shards_per_unit = {better} in [training] would make it {likeness.of(better):.0%}."
            if likeness.of(better) < likeness.of(read)
            else "fewer local_steps, or shards that are mixed, would help."
        )
        found.append(
            f"Units read data that are not alike: the values of {likeness.name!r} in one are "
            f"{likeness.of(read):.0%} apart from those of all: {advice}"
        )
    found += [
        f"The metric {name!r} is not a mean over examples: for a whole batch it is another than "
        "for its parts together, so the holdout's value would be wrong. Return (sum, count), which "
        'are added up, or "predictions" and "targets" for a metric of the whole holdout.'
        for name in outcome.learning.not_means
    ]
    wanted = outcome.draft.definition.limits.target_seconds
    if outcome.seconds_per_unit > 4 * wanted:
        steps = max(1, round(wanted / outcome.seconds_per_step))
        found.append(
            f"A unit takes {outcome.seconds_per_unit:.0f} s on this PC: local_steps = {steps} "
            f"would take {wanted:.0f} s."
        )
    return tuple(found)


def _with_measured(draft: Draft, tolerance: Tolerance, numerics: Numerics) -> ProjectMetadata:
    """Return the draft's metadata with what was measured, where the file gives nothing.

    A project whose honest results differ too much is never comparable, whatever the file says:
    its metadata promise volunteers that they are not banned for it.
    """
    given, measured = draft.metadata.verification, draft.definition.measured
    chosen = tolerance.tolerance if "tolerance" in measured else given.tolerance
    ceiling = tolerance.ceiling if "tolerance_ceiling" in measured else given.tolerance_ceiling
    verification = msgspec.structs.replace(
        given,
        tolerance=chosen,
        tolerance_ceiling=max(chosen, ceiling),
        comparable=given.comparable and tolerance.separates,
        numerics=numerics,
    )
    return msgspec.structs.replace(draft.metadata, verification=verification)


def check_rows(outcome: CheckOutcome) -> list[tuple[str, str]]:
    """Return (what, how much) for people."""
    data, metadata, learning = outcome.draft.dataset, outcome.metadata, outcome.learning
    tolerance = metadata.verification
    rows = [
        ("model", f"{outcome.parameters:,} {'trained ' if outcome.base_bytes else ''}parameters"),
        *([("base", f"{_mb(outcome.base_bytes)}, fetched once")] if outcome.base_bytes else []),
        ("data", f"{data.train_examples:,} examples in {len(data.shards.train)} shards"),
        ("holdout", f"{data.holdout_examples:,} examples"),
        *([("shards", _likeness_words(outcome))] if outcome.draft.likeness.name else []),
        *(("columns", note) for note in data.notes),
        ("memory per unit", f"{_mb(outcome.draft.predicted_memory_bytes)} at most (predicted)"),
        ("upload per unit", _mb(outcome.upload_bytes)),
        *((f"chunk {chunk.name}", _chunk_words(chunk)) for chunk in chunk_figures(outcome)),
        ("download per unit", _mb(outcome.download_bytes)),
        ("time per unit", f"{outcome.seconds_per_unit:.2g} s on this PC, one thread"),
        ("loss", f"{learning.loss_first:.4g} -> {learning.loss_last:.4g} in a few units"),
        ("numerics", tolerance.numerics),
        ("honest results differ by", f"{outcome.tolerance.honest:.2g}"),
        (f"after {learning.units} units by", f"{outcome.tolerance.later:.2g}"),
        ("1 % of noise differs by", f"{outcome.tolerance.noise:.2g}"),
        ("tolerance", f"{tolerance.tolerance:.2g}, at most {tolerance.tolerance_ceiling:.2g}"),
    ]
    rows += [
        (name, f"{learning.metrics_before[name]:.4g} -> {value:.4g} on the first holdout shard")
        for name, value in learning.metrics_after.items()
    ]
    if outcome.draft.showcase is not None:
        rows.append(("showcase", outcome.draft.showcase.words))
    words = privacy_words(outcome.metadata, len(data.shards.train))
    rows += [("privacy", sentence) for sentence in words]
    if outcome.draft.definition.project.access == "invited":
        rows.append(("access", _PRIVATE))
    rows += [("estimated", sentence) for sentence in outcome.estimates]
    return rows


def _likeness_words(outcome: CheckOutcome) -> str:
    likeness, read = outcome.draft.likeness, outcome.metadata.training.shards_per_unit
    if likeness.of(1) <= ALIKE:
        return f"alike (values of {likeness.name!r} {likeness.of(1):.0%} apart)"
    units = f"those of units {likeness.of(read):.0%}, with {read} shards each"
    return f"values of {likeness.name!r} {likeness.of(1):.0%} apart; {units}"


@dataclass(frozen=True)
class ChunkFigures:
    """What a unit of a chunk takes, beside a unit of the whole model."""

    name: str
    memory_bytes: int
    memory_share: float
    parameters: int
    upload_bytes: int
    flops_per_step: int
    flops_share: float
    seconds_per_unit: float
    """On this PC with one thread."""


def chunk_figures(outcome: CheckOutcome) -> list[ChunkFigures]:
    """Return the figures of the project's chunks, in its order."""
    metadata, exported = outcome.metadata, outcome.draft.exported
    found = []
    for planned in outcome.draft.chunks:
        chunk, flops = planned.chunk, flops_per_step(parse_graph(planned.graph))
        found.append(
            ChunkFigures(
                name=chunk.name,
                memory_bytes=chunk.memory_bytes,
                memory_share=chunk.memory_bytes / metadata.limits.full_bytes,
                parameters=held_numbers(view_of(metadata.model, chunk)),
                upload_bytes=training_format(metadata, chunk.name).size,
                flops_per_step=flops,
                flops_share=flops / exported.flops_per_step,
                seconds_per_unit=outcome.chunks[chunk.name] * metadata.training.local_steps,
            )
        )
    return found


def _chunk_words(chunk: ChunkFigures) -> str:
    return (
        f"{_mb(chunk.memory_bytes)} ({chunk.memory_share:.0%}), {chunk.parameters:,} parameters, "
        f"upload {_mb(chunk.upload_bytes)}, {chunk.flops_share:.0%} of the FLOPs, "
        f"{chunk.seconds_per_unit:.2g} s"
    )


def check_json(outcome: CheckOutcome) -> dict[str, Any]:
    """Return all figures for programs."""
    data, learning = outcome.draft.dataset, outcome.learning
    return {
        "project": outcome.metadata.project,
        "passed": outcome.passed,
        "parameters": outcome.parameters,
        "base_bytes": outcome.base_bytes,
        "train_examples": data.train_examples,
        "holdout_examples": data.holdout_examples,
        "shards": len(data.shards.train),
        "shards_apart": outcome.draft.likeness.of(1),
        "shards_per_unit": outcome.metadata.training.shards_per_unit,
        "memory_bytes": outcome.draft.predicted_memory_bytes,
        "upload_bytes": outcome.upload_bytes,
        "chunks": [dataclasses.asdict(chunk) for chunk in chunk_figures(outcome)],
        "download_bytes": outcome.download_bytes,
        "seconds_per_unit": outcome.seconds_per_unit,
        "flops_per_step": outcome.draft.exported.flops_per_step,
        "loss_first": learning.loss_first,
        "loss_last": learning.loss_last,
        "metrics": learning.metrics_after,
        "honest_distance": outcome.tolerance.honest,
        "honest_distance_later": outcome.tolerance.later,
        "noise_distance": outcome.tolerance.noise,
        "numerics": outcome.metadata.verification.numerics,
        "tolerance": outcome.metadata.verification.tolerance,
        "tolerance_ceiling": outcome.metadata.verification.tolerance_ceiling,
        "estimates": list(outcome.estimates),
        "warnings": list(outcome.warnings),
    }


def _mb(size: float) -> str:
    return f"{size / 1e6:,.3g} MB"
