"""Reads a job's files: metadata, graph, base, version, shards; keeps what later jobs need again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, overload

from typing_extensions import override

from pleb_agent.worker.errors import BrokenInput, OutOfMemory
from pleb_shared.errors import EncodingError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import Tensors, load_tensors, read_tensors
from pleb_shared.tensors.version import rebuild_version
from pleb_shared.training.dry_run import Cost, dry_run, training_cost
from pleb_shared.training.graph import CompiledGraph, base_tensors

if TYPE_CHECKING:
    import torch

    from pleb_agent.worker.devices.device import Device
    from pleb_agent.worker.job import Job
    from pleb_shared.protocol.project import BaseSpec
    from pleb_shared.protocol.unit import Blob, VersionSource

__all__ = [
    "BaseCache",
    "GraphCache",
    "KnownGraph",
    "ShardsInTurn",
    "VersionCache",
    "memory_of_shards",
    "read_metadata",
    "read_shards",
]

_GRAPHS_KEPT: Final = 5
"""At least, however large: those that train, whole or a chunk, evaluate and show."""
_GRAPH_BYTES_KEPT: Final = 2 * 2**20
"""Of small graphs more, for the members of a family; one takes about ten times its file."""


def read_metadata(job: Job) -> ProjectMetadata:
    """Return the project metadata of `job`.

    Raises:
        BrokenInput: the file is missing.
        Refusal: it is no project metadata.
    """
    data = _read(job, job.metadata)
    return strict_json.decode(data, ProjectMetadata, most_bytes=LIMITS.metadata_bytes)


def read_shards(job: Job) -> list[Tensors]:
    """Return the shards of `job` in order.

    Raises:
        BrokenInput, EncodingError: a file is missing or no safetensors blob.
    """
    return [load_tensors(_read(job, name)) for name in job.shards]


class ShardsInTurn(Sequence[Tensors]):
    """The shards of `job` in order, each read when it is asked for; the last one is kept.

    Raises (when one is asked for):
        BrokenInput, EncodingError: a file is missing or no safetensors blob.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._kept: tuple[int, Tensors] | None = None

    @override
    def __len__(self) -> int:
        return len(self._job.shards)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensors]: ...
    @override
    def __getitem__(self, index: int | slice) -> Tensors | list[Tensors]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._kept is None or self._kept[0] != index:
            self._kept = None  # so that two are never held at once
            self._kept = index, load_tensors(_read(self._job, self._job.shards[index]))
        return self._kept[1]


def memory_of_shards(job: Job) -> int:
    """Return the bytes that the job's shards take: one at a time of those that are evaluated.

    Raises:
        BrokenInput: a file is missing.
    """
    try:
        sizes = [(job.input_dir / name).stat().st_size for name in job.shards]
    except OSError as error:
        raise _unreadable(str(error.filename), error) from error
    return max(sizes, default=0) if job.unit.kind is UnitKind.EVALUATE else sum(sizes)


@dataclass(frozen=True)
class KnownGraph:
    """A graph that may run here, and what one run of it costs."""

    compiled: CompiledGraph
    cost: Cost
    file_bytes: int


class GraphCache:
    """Compiled graphs: parsed, checked and dry-run once in each epoch of a project.

    The memory that one needs depends on the optimizer and the batch too, which only an epoch
    changes, and in which members of a family differ.
    """

    def __init__(self, memory_bytes: int, device: Device) -> None:
        self._memory_bytes = memory_bytes
        self._device = device
        self._known: dict[tuple[str, str, int, str], KnownGraph] = {}

    def get(self, job: Job, metadata: ProjectMetadata) -> KnownGraph:
        """Return the graph that the unit of `job` runs.

        Raises:
            BrokenInput: the file is not the graph that the metadata names.
            GraphError: it is not one that may run here.
            OutOfMemory: it would need more than the volunteer or the project allows.
        """
        trains = job.unit.kind is not UnitKind.EVALUATE
        blob = metadata.graph_of(job.unit.chunk) if trains else metadata.evaluation_graph
        if blob is None:
            message = f"The project has no chunk {job.unit.chunk!r}: fetch its metadata again."
            raise BrokenInput(message)
        known = self._kept(job, metadata, job.graph, blob)
        self.check_memory(known.cost, metadata, memory_of_shards(job))
        return known

    def showcase(self, job: Job, metadata: ProjectMetadata, blob: Blob) -> KnownGraph:
        """Return the graph of the project's showcase, as `get`; its memory is not checked."""
        return self._kept(job, metadata, job.showcase, blob)

    def _kept(self, job: Job, metadata: ProjectMetadata, name: str, blob: Blob) -> KnownGraph:
        key = (metadata.root_key, metadata.project, metadata.epoch, blob.digest)
        known = self._known.pop(key, None) or _load_graph(job, metadata, name, blob, self._device)
        self._known[key] = known
        self._drop_oldest()
        return known

    def _drop_oldest(self) -> None:
        size = sum(known.file_bytes for known in self._known.values())
        while len(self._known) > _GRAPHS_KEPT and size > _GRAPH_BYTES_KEPT:
            size -= self._known.pop(next(iter(self._known))).file_bytes

    def check_memory(self, cost: Cost, metadata: ProjectMetadata, more_bytes: int = 0) -> None:
        """Check that a run and `more_bytes` fit.

        Raises:
            OutOfMemory: they need more than the volunteer or the project allows, or than is free
                on a device with memory of its own.
        """
        needed_bytes = cost.memory_bytes + more_bytes
        limit = min(self._memory_bytes, metadata.limits.memory_bytes)
        if needed_bytes > limit:
            whose = "this PC gives" if limit == self._memory_bytes else "the project declares"
            message = (
                f"The unit needs up to {needed_bytes >> 20} MiB, but {whose} {limit >> 20} MiB: "
                "raise the memory preference or take smaller units."
            )
            raise OutOfMemory(message)
        free_bytes = self._device.free_bytes()
        if free_bytes is not None and needed_bytes > free_bytes:
            raise OutOfMemory(
                f"The unit needs up to {needed_bytes >> 20} MiB, but only {free_bytes >> 20} MiB "
                f"are free on {self._device.name}: close what uses it, or take smaller units."
            )


def _load_graph(
    job: Job, metadata: ProjectMetadata, name: str, blob: Blob, device: Device
) -> KnownGraph:
    data = _read(job, name)
    if digest_of(data) != blob.digest:
        message = f"The graph is not the one with digest {blob.digest[:12]}...: fetch it again."
        raise BrokenInput(message)
    graph = parse_graph(data)
    compiled = CompiledGraph(graph, device.place, device.part_done)
    if job.unit.kind is UnitKind.EVALUATE:
        return KnownGraph(compiled, dry_run(graph, trains=False), len(data))
    training = metadata.training
    view = chunk_view(metadata, job.unit.chunk)
    cost = training_cost(graph, view, metadata.data, training.batch_examples, training.optimizer)
    return KnownGraph(compiled, cost, len(data))


class BaseCache:
    """The base of the latest job's model: read once, however many versions are computed on it."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._digest = ""
        self._tensors: dict[str, torch.Tensor] = {}

    def get(self, job: Job, metadata: ProjectMetadata) -> dict[str, torch.Tensor]:
        """Return the tensors of the base in their place, none without one. Not to be changed.

        Raises:
            BrokenInput: the file is missing, or not the one that the metadata names.
            EncodingError: it holds other tensors.
        """
        base = metadata.model.base
        if base is None:
            return {}
        if base.blob.digest != self._digest:
            self._digest, self._tensors = "", {}  # so that two bases are never held at once
            self._tensors = self._read(job, base)
            self._digest = base.blob.digest
        return self._tensors

    def _read(self, job: Job, base: BaseSpec) -> dict[str, torch.Tensor]:
        """Return the base's tensors; one of them is held twice for a moment, never the file."""
        try:
            with (job.input_dir / job.base).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != base.blob.digest:
                    message = "The model's base is not the one that was signed: fetch it again."
                    raise BrokenInput(message)

                def read(start: int, stop: int) -> bytes:
                    file.seek(start)
                    return file.read(stop - start)

                tensors = base_tensors(read_tensors(read, base.tensors))
                return {name: tensor.to(self._place) for name, tensor in tensors.items()}
        except OSError as error:
            raise _unreadable(job.base, error) from error


@dataclass(frozen=True)
class _KnownVersion:
    root_key: str
    project: str
    source: VersionSource
    tensors: Tensors
    last_difference: Tensors | None


class VersionCache:
    """The latest version, so that the next one costs only the differences in between."""

    def __init__(self) -> None:
        self._known: _KnownVersion | None = None

    def get(self, job: Job, metadata: ProjectMetadata) -> tuple[Tensors, Tensors | None]:
        """Return the version of `job` and the decoded difference that led to it, if any.

        Neither may be changed by the caller.

        Raises:
            BrokenInput: a file is missing, or there are not as many files as the source says.
            EncodingError: a file is malformed, or the outcome has another digest.
        """
        source = job.version
        if source.number - source.snapshot_number != len(job.differences):
            message = "The job's differences do not lead from its snapshot to its version."
            raise BrokenInput(message)
        known = self._known
        if known is None or not _leads_to(known, metadata, source):
            known = self._rebuild(job, metadata, None)
        elif known.source.number != source.number:
            # even where the tensors are the same: momentum starts from the last difference
            try:
                known = self._rebuild(job, metadata, known)
            except (EncodingError, LookupError, ValueError):
                # what is kept belongs to another history, or model: start at the snapshot
                known = self._rebuild(job, metadata, None)
        self._known = known
        return known.tensors, known.last_difference

    def _rebuild(
        self, job: Job, metadata: ProjectMetadata, base: _KnownVersion | None
    ) -> _KnownVersion:
        source = job.version
        start = source.snapshot_number if base is None else base.source.number
        names = job.differences[start - source.snapshot_number :]
        tensors = load_tensors(_read(job, job.snapshot)) if base is None else base.tensors
        self._known = None  # so that three versions are never held at once
        last = None if base is None else base.last_difference
        encoding = difference_format(metadata)
        differences = [encoding.decode(encoding.unpack(_read(job, name))) for name in names]
        tensors = rebuild_version(tensors, differences, metadata.model, source.digest)
        last = differences[-1] if differences else last
        return _KnownVersion(metadata.root_key, metadata.project, source, tensors, last)


def _leads_to(known: _KnownVersion, metadata: ProjectMetadata, source: VersionSource) -> bool:
    """Return whether the differences of `source` start from, or end at, what is known."""
    return (
        known.root_key == metadata.root_key
        and known.project == metadata.project
        and known.source.epoch == source.epoch
        and source.snapshot_number <= known.source.number <= source.number
        and (known.source.number < source.number or known.source.digest == source.digest)
    )


def _read(job: Job, name: str) -> bytes:
    try:
        return (job.input_dir / name).read_bytes()
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError) -> BrokenInput:
    return BrokenInput(
        f"The job's file {Path(name).name} cannot be read ({error.strerror}): fetch it again."
    )
