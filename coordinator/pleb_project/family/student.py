"""A student that learns what the members of an ensemble predict on the average.

`pleb-project distill` writes this file beside the members' own code, their weights into `members/`,
and `averaged.py`, which averages them. As the model of a project it is published and trained like
any other: the members are frozen, so they are its base, which PCs fetch once, and versions and
deltas hold the student alone. In an exported version its weights begin with `student.`.

Change it as you like: the student may be another model than the members.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import model as members
import torch
from averaged import load
from torch import nn
from torch.nn.functional import kl_div, log_softmax, mse_loss

HERE = Path(__file__).parent
AVERAGE = "outputs"
"""What is averaged, as [ensemble] has it."""
SCORES = True
"""Whether models return scores [..., classes]; else values, whose squared distance counts."""
OWN_SHARE = 0.0
"""How much of the loss is that of the data, as members learnt by; the rest is the distance."""


class Heard:
    """What the teacher and the student have said last."""

    distance: torch.Tensor | float = 0.0


class Lesson(nn.Module):
    """Returns what the student does, and measures how far that is from what the teacher does."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self.heard = Heard()

    def train(self, mode: bool = True) -> Lesson:
        """Let the student train; the teacher never does."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the student's output."""
        found, wanted = self.student(*args, **kwargs), self.teacher(*args, **kwargs)
        self.heard.distance = distance(found, wanted)
        return found


def distance(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence of scores, or the mean squared difference."""
    if not SCORES:
        return mse_loss(found, wanted)
    ours, theirs = log_softmax(found.flatten(0, -2), -1), log_softmax(wanted.flatten(0, -2), -1)
    return kl_div(ours, theirs, reduction="batchmean", log_target=True)


def model(**arguments: Any) -> Lesson:
    """Return an untrained student with its teacher."""
    teacher = load(HERE / "members", lambda: members.model(**arguments), AVERAGE)
    return Lesson(members.model(**arguments), teacher)


def loss(model: Lesson, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return how far the student is from the teacher."""
    own = members.loss(model, batch)
    mixed: torch.Tensor = OWN_SHARE * own + (1 - OWN_SHARE) * model.heard.distance
    return mixed


def evaluate(model: Lesson, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the metrics of the student alone."""
    found: dict[str, Any] = members.evaluate(model.student, batch)
    return found


def showcase(model: Lesson, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what the student says or sees, for a project with [showcase]."""
    first = next(iter(batch.values()))
    function = getattr(members, "showcase", None)
    shown: torch.Tensor = function(model.student, batch) if function else model.student(first)
    return shown
