"""Why a job has no result, and what should become of its unit.

WorkerError
├── WorkerUnusable   the process does not start: torch is missing or broken
│   ├── RuntimeMissing   a frozen build has not fetched its torch yet
│   └── DeviceRefused    the driver of its card does not start in the sandbox
├── WorkerDied       the process ended in the middle; its checkpoint is kept
├── BoundsExceeded   the process took more than any unit may, and was ended
├── JobStopped       the job was stopped by request; its checkpoint is kept
├── BrokenInput      a file of the job is not what its digest or layout says
├── GraphRefused     the graph is not one that may run here
├── OutOfMemory      the unit needs more memory than the volunteer gives
├── StepTooLong      a step computes far longer than its operations explain
├── NumericsUnavailable   this PC, or this process, cannot compute as the project demands
├── NotFinite        the loss or the delta is not a number
└── UnitFailed       torch could not compute the unit for another reason
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pleb_shared.errors import PlebError

__all__ = [
    "BoundsExceeded",
    "BrokenInput",
    "DeviceRefused",
    "DiskRefused",
    "GraphRefused",
    "JobStopped",
    "NotFinite",
    "NumericsUnavailable",
    "OutOfMemory",
    "Remedy",
    "RuntimeMissing",
    "StepTooLong",
    "UnitFailed",
    "WorkerDied",
    "WorkerError",
    "WorkerUnusable",
]


class Remedy(StrEnum):
    """What should become of the unit."""

    TRY_AGAIN = "try_again"
    """Run the same job again; it resumes from its checkpoint."""
    FETCH_AGAIN = "fetch_again"
    """Delete the job's inputs, fetch them again, then run it again."""
    GIVE_BACK = "give_back"
    """It would fail again: report a failure, so that another host gets it."""


class WorkerError(PlebError):
    """Base: a job has no result. `remedy` says what should become of the unit."""

    remedy: ClassVar[Remedy] = Remedy.GIVE_BACK


class WorkerUnusable(WorkerError):
    """The worker process does not start at all, whatever the unit."""


class RuntimeMissing(WorkerUnusable):
    """The worker's torch is still downloading, or is none for its device: nothing is broken."""


class DeviceRefused(WorkerUnusable):
    """The worker is warm, but its card's driver does not start where units are computed."""


class WorkerDied(WorkerError):
    """The worker process ended in the middle of a job or while it was started."""

    remedy: ClassVar[Remedy] = Remedy.TRY_AGAIN


class BoundsExceeded(WorkerError):
    """The process took more memory, threads or disk space than any unit may, and was ended."""


class JobStopped(WorkerError):
    """The job was stopped by `request_checkpoint_and_stop`."""

    remedy: ClassVar[Remedy] = Remedy.TRY_AGAIN


class BrokenInput(WorkerError):
    """A file in the job's directory is missing, cut, or not what its digest says."""

    remedy: ClassVar[Remedy] = Remedy.FETCH_AGAIN


class DiskRefused(WorkerError):
    """The result cannot be written: the disk is full or read-only."""

    remedy: ClassVar[Remedy] = Remedy.TRY_AGAIN


class GraphRefused(WorkerError):
    """The graph uses an operator, a size or a form that is not allowed."""


class OutOfMemory(WorkerError):
    """The dry run, or the operating system's limit, says that the memory does not suffice."""


class StepTooLong(WorkerError):
    """A step, a batch or the check of a graph outlasted its limit; the process ended."""


class NumericsUnavailable(WorkerError):
    """The project's numerics need another processor, system or process than this one."""


class NotFinite(WorkerError):
    """Training diverged: a loss or the delta is NaN or infinite."""


class UnitFailed(WorkerError):
    """torch refused to compute a step; the message is torch's own."""
