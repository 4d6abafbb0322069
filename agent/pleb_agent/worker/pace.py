"""How long the steps of a job take, as its progress tells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_agent.worker.job import Progress

__all__ = ["Pace"]


class Pace:
    """Of the last two `Progress` messages of one job; of the first alone, its mean so far."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self.step_seconds = math.inf
        """Of computing time; infinite while nothing is known."""

    def add(self, progress: Progress) -> None:
        """Learn from one message."""
        steps = progress.steps_done - self._steps
        if steps > 0:
            self.step_seconds = (progress.compute_seconds - self._seconds) / steps
        self._steps, self._seconds = progress.steps_done, progress.compute_seconds
