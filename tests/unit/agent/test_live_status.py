"""The live status keeps the losses of the unit in hand, and forgets evenly when they are many."""

from __future__ import annotations

from pleb_agent.core.agent_state import Activity
from pleb_agent.loop.services import Listener
from pleb_agent.loop.status import CurrentUnit, LiveStatus


def unit(step: int, loss: float | None, assignment: int = 7) -> CurrentUnit:
    return CurrentUnit("words", assignment, "train", 3, step, 1000, loss)


def shown(status: LiveStatus) -> tuple[tuple[int, float], ...]:
    assert status.unit is not None
    return status.unit.losses


def test_losses_are_kept_by_step():
    status = LiveStatus(Listener())
    for step, loss in ((0, None), (1, 3.0), (2, 2.5), (2, 2.5), (3, None), (4, 2.0)):
        status.unit = unit(step, loss)
    assert shown(status) == ((1, 3.0), (2, 2.5), (4, 2.0))


def test_another_unit_begins_anew():
    status = LiveStatus(Listener())
    status.unit = unit(1, 3.0)
    status.unit = unit(1, 9.0, assignment=8)
    assert shown(status) == ((1, 9.0),)
    status.unit = None
    status.unit = unit(2, 8.0, assignment=8)
    assert shown(status) == ((2, 8.0),)


def test_of_too_many_every_second_is_forgotten():
    status = LiveStatus(Listener())
    for step in range(1, 1001):
        status.unit = unit(step, float(step))
    losses = shown(status)
    assert 64 <= len(losses) <= 128
    assert losses[-1] == (1000, 1000.0)
    assert all(step == loss for step, loss in losses)
    assert [step for step, _ in losses] == sorted({step for step, _ in losses})


def test_a_project_is_named_once_before_the_reason():
    status = LiveStatus(Listener())
    status.set(Activity.IDLE, "No work right now.", 9.0, "words")
    assert str(status.state.sentence) == "words: No work right now."
    assert (str(status.state.why), status.state.project) == ("No work right now.", "words")
    status.set(Activity.IDLE, "The worker is getting ready.")
    assert str(status.state.sentence) == str(status.state.why) == "The worker is getting ready."
