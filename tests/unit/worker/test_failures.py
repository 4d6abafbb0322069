"""What each error becomes on its way to the agent, and what the agent then does with the unit."""

from __future__ import annotations

import pytest

from pleb_agent.worker import errors
from pleb_agent.worker.errors import Remedy, WorkerError
from pleb_agent.worker.job import ERRORS, EXPECTED, FailureKind, failure_of
from pleb_shared.errors import EncodingError, GraphError, RefusalCode, TrainingError


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (errors.JobStopped("put away"), FailureKind.STOPPED, Remedy.TRY_AGAIN),
        (errors.BrokenInput("cut"), FailureKind.BROKEN_INPUT, Remedy.FETCH_AGAIN),
        (
            EncodingError(RefusalCode.WRONG_DIGEST, "other bytes"),
            FailureKind.BROKEN_INPUT,
            Remedy.FETCH_AGAIN,
        ),
        (
            EncodingError(RefusalCode.NOT_FINITE, "nan"),
            FailureKind.NOT_FINITE,
            Remedy.GIVE_BACK,
        ),
        (GraphError("aten.system"), FailureKind.GRAPH_REFUSED, Remedy.GIVE_BACK),
        (TrainingError("the loss became nan"), FailureKind.NOT_FINITE, Remedy.GIVE_BACK),
        (errors.OutOfMemory("too big"), FailureKind.OUT_OF_MEMORY, Remedy.GIVE_BACK),
        (OSError(28, "No space left on device"), FailureKind.DISK_REFUSED, Remedy.TRY_AGAIN),
        (MemoryError(), FailureKind.OUT_OF_MEMORY, Remedy.GIVE_BACK),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            FailureKind.OUT_OF_MEMORY,
            Remedy.GIVE_BACK,
        ),
        (RuntimeError("shapes do not match"), FailureKind.UNIT_FAILED, Remedy.GIVE_BACK),
    ],
)
def test_each_error_says_what_becomes_of_the_unit(
    error: Exception, kind: FailureKind, remedy: Remedy
) -> None:
    assert isinstance(error, EXPECTED)
    failed = failure_of(error)
    assert failed.kind is kind
    assert failed.message
    assert ERRORS[failed.kind].remedy is remedy


def test_a_step_that_was_too_long_is_given_back() -> None:
    """It would be as long again, here and elsewhere."""
    assert ERRORS[FailureKind.STEP_TOO_LONG].remedy is Remedy.GIVE_BACK


def test_every_kind_has_an_error() -> None:
    assert ERRORS.keys() == set(FailureKind)
    assert all(issubclass(error, WorkerError) for error in ERRORS.values())


def test_a_long_message_of_torch_is_cut_to_its_first_line() -> None:
    failed = failure_of(RuntimeError("x" * 900 + "\nC++ CapturedTraceback: ..."))
    assert len(failed.message) == 480
    assert "Captured" not in failed.message
