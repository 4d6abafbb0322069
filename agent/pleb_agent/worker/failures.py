"""From what went wrong in a job to the answer that the agent gets."""

from __future__ import annotations

from typing import Final

from pleb_agent.worker.errors import BrokenInput, JobStopped, OutOfMemory
from pleb_agent.worker.job import Failed, FailureKind
from pleb_shared.errors import EncodingError, GraphError, Refusal, RefusalCode, TrainingError

__all__ = ["EXPECTED", "failure_of"]

EXPECTED: Final = (
    JobStopped,
    BrokenInput,
    OutOfMemory,
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
