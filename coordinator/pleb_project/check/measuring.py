"""Running units in the ways in which PCs differ, and trying what brings their results together."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.check.effort import effort_for
from pleb_project.check.learning import dry_run, probe_step
from pleb_project.check.measured import Measured, MeasuredChunk, Tried
from pleb_project.check.remedies import remedies, suffices
from pleb_project.check.tolerance import choose_tolerance, encoded_distances, noise_distance
from pleb_project.check.unit_process import Configuration, UnitProcesses, UnitRequest
from pleb_shared.protocol.numerics import STRICT_THREADS, variables
from pleb_shared.tensors.chunk_view import chunk_view, norms_of_chunk
from pleb_shared.tensors.distance import parameter_norms
from pleb_shared.tensors.format import training_format
from pleb_shared.tensors.layout import load_tensors, save_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_project.check.draft import Draft
    from pleb_project.check.remedies import Remedy
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import Numerics
    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = ["measure_project"]

_OTHER_PROCESSOR: Final = (
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_CBWR", "COMPATIBLE"),
)
"""No AVX-512, and none of the ways of MKL that only one maker's processors have."""
_NATIVE: Final = (
    Configuration("1-thread", 1),
    Configuration("2-threads", 2),
    Configuration("other-processor", 1, _OTHER_PROCESSOR),
)
"""The differences between them are those between honest hosts."""
_STRICT: Final = tuple(
    Configuration(name, STRICT_THREADS, tuple(variables("strict").items()), process)
    for process, name in enumerate(("strict", "strict-again"))
)
"""Two processes: all that can be seen of strict numerics on one PC is that they repeat."""


@dataclass(frozen=True)
class _Start:
    """Where the compared units start: a version's tensors, in the model's shapes, its number."""

    tensors: Tensors
    number: int


def measure_project(
    draft: Draft,
    blobs: BlobFolder,
    say: Callable[[str], None],
    cpu_seconds: float,
    *,
    may_choose: bool,
) -> Measured:
    """Run units, and return what they show.

    `may_choose`: where native numerics fail and strict ones do not, those are measured and taken.
    """
    seconds = probe_step(draft, blobs)
    effort = effort_for(seconds, draft.metadata.training.local_steps, cpu_seconds)
    steps, given = effort.steps, draft.metadata.verification.numerics
    with (
        tempfile.TemporaryDirectory(prefix="pleb-check-") as name,
        UnitProcesses(Path(name)) as processes,
    ):
        runs = _Runs(draft, blobs, processes, steps)
        ways = "twice in strict numerics" if given == "strict" else _WAYS
        say(f"Running {steps} steps {ways}")
        start = _Start(load_tensors(draft.exported.initial), 0)
        deltas, step_seconds = runs.deltas(start, given)
        apart = runs.apart(deltas, start)
        noise = noise_distance(deltas[0], runs.encoding)
        chunks = {}
        for chunk in draft.metadata.chunks:
            say(f"Running {steps} steps of the chunk {chunk.name}")
            chunks[chunk.name] = runs.chunk(chunk.name, start, given)
        say(f"Training {effort.units * steps} steps")
        learning, trained = dry_run(draft, blobs, steps, effort.units)
        later, after = apart, _Start(trained, learning.units)
        if effort.again:
            say(f"Running the next {steps} steps in the same ways")
            deltas, _ = runs.deltas(after, given)
            later = runs.apart(deltas, after)
        honest = max([*apart.values(), *(chunk.apart for chunk in chunks.values())])
        found = choose_tolerance(honest, noise, max(later.values()))
        numerics, tried = given, list[Tried]()
        if found.tight:
            worst = after if found.later > found.honest else start
            left_seconds = cpu_seconds - seconds * steps * (6 + effort.units)
            for remedy in remedies(draft, blobs, steps):
                cost = 2 * seconds * steps * remedy.times
                is_choice = remedy.numerics == "strict" and may_choose
                if cost > left_seconds and not is_choice:
                    continue
                say(f"Trying {remedy.what}")
                tried.append(runs.tried(remedy, worst, step_seconds))
                left_seconds -= cost
                if suffices(tried[-1], found.ceiling):
                    numerics = "strict" if is_choice else given
                    break
    return Measured(
        seconds_per_step=step_seconds * (tried[-1].seconds_ratio if numerics != given else 1),
        apart=apart,
        later=max(later.values()),
        noise=noise,
        numerics=numerics,
        tried=tuple(tried),
        learning=learning,
        cpu_seconds=cpu_seconds,
        estimates=effort.estimates,
        chunks=chunks,
    )


_WAYS: Final = "on 1 thread, on 2 threads and as another processor would"


class _Runs:
    """Runs the same unit in several ways."""

    def __init__(
        self, draft: Draft, blobs: BlobFolder, processes: UnitProcesses, steps: int
    ) -> None:
        self.encoding: DeltaFormat = training_format(draft.metadata)
        self._draft = draft
        self._blobs = blobs
        self._processes = processes
        self._steps = steps

    def deltas(self, start: _Start, numerics: Numerics) -> tuple[list[Tensors], float]:
        """Return each way's delta, and the first one's seconds per step."""
        ways = _STRICT if numerics == "strict" else _NATIVE
        return self._run(self._request(start), ways)

    def apart(self, deltas: Sequence[Tensors], start: _Start) -> dict[str, float]:
        """Return the largest distance of any two of the deltas from `start`, by tensor."""
        weights = parameter_norms(start.tensors, self.encoding.model)
        apart: dict[str, float] = {}
        for a, b in itertools.combinations(deltas, 2):
            for name, distance in encoded_distances(a, b, self.encoding, weights).items():
                apart[name] = max(distance, apart.get(name, 0.0))
        return apart

    def chunk(self, name: str, start: _Start, numerics: Numerics) -> MeasuredChunk:
        """Return what a unit of the chunk shows on the two ways that differ most."""
        ways = _STRICT if numerics == "strict" else (_NATIVE[0], _NATIVE[2])
        request = msgspec.structs.replace(self._request(start), chunk=name)
        (first, second), seconds = self._run(request, ways)
        metadata = self._draft.metadata
        norms = parameter_norms(start.tensors, metadata.model)
        weights = norms_of_chunk(norms, chunk_view(metadata, name))
        encoding = training_format(metadata, name)
        apart = encoded_distances(first, second, encoding, weights).values()
        return MeasuredChunk(apart=max(apart), seconds_per_step=seconds)

    def tried(self, remedy: Remedy, start: _Start, step_seconds: float) -> Tried:
        """Return what the remedy makes of the distance, on the two ways that differ most."""
        ways = _STRICT if remedy.numerics == "strict" else (_NATIVE[0], _NATIVE[2])
        request = msgspec.structs.replace(
            self._request(start), metadata=remedy.metadata, steps=remedy.steps
        )
        deltas, seconds = self._run(request, ways)
        return Tried(
            what=remedy.what,
            apart=max(self.apart(deltas, start).values()),
            seconds_ratio=seconds / step_seconds,
        )

    def _run(
        self, request: UnitRequest, ways: Sequence[Configuration]
    ) -> tuple[list[Tensors], float]:
        deltas, durations = [], []
        for way in ways:
            file = self._processes.folder / f"{way.name}.delta"
            one = msgspec.structs.replace(request, threads=way.threads, delta=str(file))
            durations.append(self._processes.measure(one, way))
            deltas.append(load_tensors(file.read_bytes()))
        return deltas, durations[0]

    def _request(self, start: _Start) -> UnitRequest:
        file = self._processes.folder / "version"
        file.write_bytes(save_tensors(start.tensors))
        shards = self._draft.dataset.shards.train
        count = self._draft.metadata.training.shards_per_unit
        first = start.number * count
        return UnitRequest(
            version=str(file),
            number=start.number,
            metadata=self._draft.metadata,
            blobs=str(self._blobs.folder),
            digests=[shards[(first + i) % len(shards)].digest for i in range(count)],
            steps=self._steps,
            threads=1,
            delta="",
        )
