"""What the agent sends to the worker and what the worker answers: plain values, no torch.

A worker computes for one project, or for the members of one family (an ensemble or a sweep, which
one researcher has signed), whose folder inside the work directory is all that it can read.
A job's inputs are files in `in/NAME` of that folder. They have to be real files or hard links: the
sandbox follows no link that leads outside. Its checkpoints and the delta go to `out/NAME`, into
files that the agent has made there: a worker fills files and makes none, so what it can take of the
disk is bounded. The agent removes both directories when the result is reported.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pleb_agent.core.devices import CPU
from pleb_agent.worker.errors import (
    BrokenInput,
    DiskRefused,
    GraphRefused,
    JobStopped,
    NotFinite,
    NumericsUnavailable,
    OutOfMemory,
    StepTooLong,
    UnitFailed,
    WorkerError,
)
from pleb_shared.errors import EncodingError, GraphError, Refusal, RefusalCode, TrainingError
from pleb_shared.protocol.messages import Runtime
from pleb_shared.protocol.project import Numerics
from pleb_shared.protocol.showcase import Shown
from pleb_shared.protocol.unit import Unit, VersionSource

__all__ = [
    "CHECKPOINT_FILES",
    "DELTA_FILE",
    "EXPECTED",
    "INPUTS",
    "NO_DEVICE_EXIT",
    "OUTPUTS",
    "OUTPUT_FILES",
    "Bounds",
    "Closed",
    "Command",
    "DeltaOutcome",
    "EvaluationOutcome",
    "Failed",
    "FailureKind",
    "Hello",
    "Job",
    "JobResult",
    "LayerState",
    "Progress",
    "Ready",
    "Reply",
    "Run",
    "Wake",
    "WorkerSettings",
    "failure_of",
    "most_threads",
]

CHECKPOINT_FILES: Final = ("checkpoint-0", "checkpoint-1")
DELTA_FILE: Final = "delta.bin"
OUTPUT_FILES: Final = (*CHECKPOINT_FILES, DELTA_FILE)
"""The files of a unit that a worker may fill."""
INPUTS: Final = "in"
OUTPUTS: Final = "out"

NO_DEVICE_EXIT: Final = 4
"""Exit code of a worker whose device is not there, or that its torch does not drive."""
_THREAD_BYTES: Final = 16 * 2**20
"""Stack and allocator's share of one more thread."""
_MORE_THREADS: Final = 16
_OPEN_FILES: Final = 64
"""A worker has about ten, and imports a few modules late."""
_DRIVER_THREADS: Final = 48
_DRIVER_FILES: Final = 512
_DRIVER_BYTES: Final = 4 * 2**30
"""Of the system's memory, for a card's driver and the kernels that its libraries load: generous,
since no card has shown yet what they need."""

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
"""A name directly inside the job's directory: no separator, so it cannot lead elsewhere."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what goes through the pipes."""


class WorkerSettings(Message, frozen=True):
    """What the volunteer gives. A change of `threads` is another determinism class."""

    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    memory_bytes: Annotated[int, msgspec.Meta(ge=2**20)]
    """What a unit may take on top of the warm runtime (torch alone holds about 0.3 GB)."""
    low_priority: bool = True
    long_pause_seconds: float = 60.0
    """A pause that lasts this long ends the process, to give its memory back."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints of a running job."""
    checkpoint_bytes_per_second: float = 0.5e6
    """Average rate of writing checkpoints, at most: spares the disk with big models."""
    progress_seconds: float = 0.5
    """Least time between two `Progress` messages."""
    stop_seconds: float = 4.0
    """A step that is not done this long after a request to stop is cut off. systemd's logind
    waits 5 s before it lets the machine sleep."""


class Bounds(Message, frozen=True):
    """What a worker's process may take."""

    memory_bytes: int
    """Beyond what it has when it is warm."""
    file_bytes: int
    """In each of the files that it may fill."""
    threads: int
    """That compute."""
    device: str = CPU

    @classmethod
    def of(cls, settings: WorkerSettings, file_bytes: int, device: str = CPU) -> Bounds:
        """Return those of a process with these settings, on this device."""
        memory_bytes = settings.memory_bytes + settings.threads * _THREAD_BYTES
        if device != CPU:
            memory_bytes += _DRIVER_BYTES
        threads = settings.threads
        return cls(memory_bytes=memory_bytes, file_bytes=file_bytes, threads=threads, device=device)

    @property
    def most_threads(self) -> int:
        """How many threads the process has at most, a driver's among them."""
        return most_threads(self.threads, self.device)

    @property
    def most_files(self) -> int:
        """How many files the process has open at most: a driver opens its nodes many times."""
        return _OPEN_FILES if self.device == CPU else _DRIVER_FILES


def most_threads(threads: int, device: str = CPU) -> int:
    """Return how many threads a worker has at most, of which `threads` compute.

    The others are the main thread, the reader of commands, and what libraries start.
    """
    return 2 * threads + _MORE_THREADS + (0 if device == CPU else _DRIVER_THREADS)


class Job(Message, frozen=True):
    """One unit to compute. File names are relative to `input_dir`."""

    folder: str
    """Absolute path of the project's or family's folder, inside the worker's work directory."""
    name: FileName
    """Of this unit's directories in it."""
    unit: Unit
    version: VersionSource
    file_bytes: Annotated[int, msgspec.Meta(ge=0)]
    """How long each of `OUTPUT_FILES` may get."""
    numerics: Numerics = "native"
    """The metadata's: how the process must compute, from its start on."""
    metadata: FileName = "metadata.json"
    """The project metadata's payload (not its envelope), as signed."""
    graph: FileName = "graph.json"
    """The graph that the unit's kind runs: training or evaluation."""
    showcase: FileName = "showcase.json"
    """The graph of the project's showcase, if it has one and the unit evaluates."""
    base: FileName = "base.safetensors"
    """The blob of the model's base, if it has one: the same file for every job of an epoch."""
    snapshot: FileName = "snapshot.safetensors"
    """The blob of `version.snapshot`."""
    differences: list[FileName] = []
    """The blobs of `version.differences` in order; for version 0 there are none."""
    shards: list[FileName] = []
    """The blobs of the unit's shards, in order."""

    @property
    def input_dir(self) -> Path:
        """Where the inputs are, which a worker can only read."""
        return Path(self.folder, INPUTS, self.name)

    @property
    def output_dir(self) -> Path:
        """Where the worker fills the `OUTPUT_FILES`."""
        return Path(self.folder, OUTPUTS, self.name)


class Progress(Message, tag="progress", frozen=True):
    """Where the job is. An evaluation has one step; `loss` is None where there is none yet."""

    steps_done: int
    steps_total: int
    loss: float | None
    compute_seconds: float
    """Time spent in steps so far, in earlier processes too; pauses do not count."""


class DeltaOutcome(Message, tag="delta", tag_field="kind", frozen=True):
    """The delta is in `file` of the job's `output_dir`, packed: `size` is the file's.

    `digest` is of the encoded delta itself.
    """

    file: FileName
    digest: str
    size: int
    loss_first: float
    loss_last: float


class EvaluationOutcome(Message, tag="evaluation", tag_field="kind", frozen=True):
    """Means over `examples` examples, by the metric's name."""

    metrics: dict[str, float]
    examples: int
    showcase: Shown | msgspec.UnsetType = msgspec.UNSET
    """Unset: the project has none, or it could not be made."""


class JobResult(Message, tag="result", frozen=True):
    """A finished job. `peak_bytes`: of the device's memory, the most that was held so far."""

    outcome: DeltaOutcome | EvaluationOutcome
    compute_seconds: float
    seconds_per_step: float
    peak_bytes: int


class LayerState(Message, frozen=True):
    """One layer of the sandbox: whether it holds in this process, and a sentence about it."""

    layer: str
    holds: bool
    sentence: str


class Ready(Message, tag="ready", frozen=True):
    """torch is warm. The sandbox closes with the first job, which says for which project."""

    runtime: Runtime


class Closed(Message, tag="closed", frozen=True):
    """The sandbox is closed around the project of the first job; nothing of it was read before."""

    layers: list[LayerState]


class FailureKind(StrEnum):
    """The errors that the process itself can report; otherwise it ends."""

    STOPPED = "stopped"
    BROKEN_INPUT = "broken_input"
    DISK_REFUSED = "disk_refused"
    GRAPH_REFUSED = "graph_refused"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    STEP_TOO_LONG = "step_too_long"
    WRONG_NUMERICS = "wrong_numerics"
    UNIT_FAILED = "unit_failed"


ERRORS: dict[FailureKind, type[WorkerError]] = {
    FailureKind.STOPPED: JobStopped,
    FailureKind.BROKEN_INPUT: BrokenInput,
    FailureKind.DISK_REFUSED: DiskRefused,
    FailureKind.GRAPH_REFUSED: GraphRefused,
    FailureKind.OUT_OF_MEMORY: OutOfMemory,
    FailureKind.NOT_FINITE: NotFinite,
    FailureKind.STEP_TOO_LONG: StepTooLong,
    FailureKind.WRONG_NUMERICS: NumericsUnavailable,
    FailureKind.UNIT_FAILED: UnitFailed,
}
"""The error that `WorkerProcess.run` raises for each kind."""


class Failed(Message, tag="failed", frozen=True):
    """The job ended without a result; the process takes the next one, if no step was too long."""

    kind: FailureKind
    message: str


class Hello(Message, tag="hello", frozen=True):
    """The first message: how to run, and whose child this is."""

    work_dir: str
    settings: WorkerSettings
    parent: int
    numerics: Numerics = "native"
    device: str = CPU
    """The name of the one that this process computes on."""
    nodes: list[str] = []
    """The device files by which its driver is reached."""


class Run(Message, tag="run", frozen=True):
    """Compute this job now."""

    job: Job


class Wake(Message, tag="wake", frozen=True):
    """The flag page has changed: read it. So a paused worker sleeps without polling."""


Command = Run | Wake
"""What the agent sends after `Hello`. The end of the stream means: end at once."""

Reply = Ready | Closed | Progress | JobResult | Failed
"""What the worker sends."""


EXPECTED: Final = (
    JobStopped,
    BrokenInput,
    OutOfMemory,
    NumericsUnavailable,
    GraphError,
    EncodingError,
    Refusal,
    TrainingError,
    MemoryError,
    ArithmeticError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a job may raise, torch's own errors included; anything else ends the process."""

_KINDS: Final[tuple[tuple[type[Exception], FailureKind], ...]] = (
    (JobStopped, FailureKind.STOPPED),
    (BrokenInput, FailureKind.BROKEN_INPUT),
    (OutOfMemory, FailureKind.OUT_OF_MEMORY),
    (NumericsUnavailable, FailureKind.WRONG_NUMERICS),
    (OSError, FailureKind.DISK_REFUSED),
    (MemoryError, FailureKind.OUT_OF_MEMORY),
    (GraphError, FailureKind.GRAPH_REFUSED),
    (TrainingError, FailureKind.NOT_FINITE),
    (EncodingError, FailureKind.BROKEN_INPUT),
    (Refusal, FailureKind.BROKEN_INPUT),
)


def failure_of(error: Exception) -> Failed:
    """Return the answer to the agent about one of the `EXPECTED` errors."""
    if isinstance(error, EncodingError) and error.code is RefusalCode.NOT_FINITE:
        return _failed(FailureKind.NOT_FINITE, error)
    for cause, kind in _KINDS:
        if isinstance(error, cause):
            return _failed(kind, error)
    if "not enough memory" in str(error) or "can't allocate memory" in str(error):
        return _failed(FailureKind.OUT_OF_MEMORY, error)
    return _failed(FailureKind.UNIT_FAILED, error)


def _failed(kind: FailureKind, error: Exception) -> Failed:
    lines = str(error).strip().splitlines()
    return Failed(kind=kind, message=lines[0][:480] if lines else type(error).__name__)
