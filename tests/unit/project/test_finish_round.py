"""Before a project moves, its open round is finished, and what is left of it is waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from pleb_project.publish.move import finish_round
from pleb_shared.protocol.status import Counts, ProjectStatus, RoundStatus

if TYPE_CHECKING:
    from pleb_project.publish.publisher import Publisher


@dataclass
class Old:
    """A coordinator whose project answers `(round open, in flight, undecided)` by the second."""

    answers: list[tuple[bool, int, int]]
    opened_at: float = 1000.0
    now: float = 1000.0
    said: list[str] = field(default_factory=list)
    activity: str = ""

    @property
    def coordinator(self):
        return SimpleNamespace(status=self.status)

    def status(self, project):
        is_open, in_flight, undecided = self.answers[0]
        self.answers = self.answers[1:] or self.answers
        return msgspec.json.encode(
            ProjectStatus(
                project=project,
                state="active",
                round=RoundStatus(units=4, opened_at=self.opened_at) if is_open else None,
                counts=Counts(in_flight=in_flight, undecided=undecided),
            )
        )

    def set_activity(self, project, activity, note):
        self.activity = activity

    def say(self, line):
        self.said.append(line)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def finish(self):
        finish_round(cast("Publisher", self), "tiny", "It moves.", self.sleep)
        return self.now


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ([(False, 0, 0)], 0),
        ([(True, 2, 0), (True, 1, 0), (False, 0, 0)], 2),
        ([(True, 0, 0), (False, 1, 0), (False, 0, 0)], 2),
        ([(False, 0, 1), (False, 1, 1), (False, 0, 1), (False, 0, 0)], 3),
    ],
    ids=["nothing open", "an open round", "a straggler", "a result that is compared first"],
)
def test_what_is_open_is_waited_for(answers, seconds):
    old = Old(answers)
    assert old.finish() == 1000 + seconds
    assert old.activity == "finishing"
    assert old.said


@pytest.mark.parametrize(
    ("opened_at", "seconds"), [(1000.0, 60), (700.0, 301)], ids=["short", "long"]
)
def test_a_pc_that_is_off_holds_nothing_up_for_longer_than_a_round(opened_at, seconds):
    old = Old([(True, 1, 0), (False, 1, 0)], opened_at=opened_at)
    assert old.finish() == 1001 + seconds
