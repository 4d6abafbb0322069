"""What the demo found, and whether that is what it promises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pleb_shared.protocol.reasons import reason_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_shared.protocol.reasons import Reason
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Caught", "Demonstration", "Outcome", "explanation", "outcome_of"]


class Outcome(msgspec.Struct, frozen=True):
    """The demo's last line of output: exactly these keys."""

    project: str
    version: int
    test_accuracy: float
    central_accuracy: float
    target: float
    units_verified: int
    results_refused: int
    liar_refused: int
    liar_results_in_model: int
    seconds: float

    @property
    def kept_its_promise(self) -> bool:
        """Whether the target was reached, the liar caught, and nothing of it is in the model."""
        reached = self.test_accuracy >= self.target
        return reached and self.liar_refused > 0 and self.liar_results_in_model == 0


@dataclass(frozen=True)
class Caught:
    """A result of the liar's that was refused: the unit, and the coordinator's reason."""

    unit: int
    reason: Reason | None


@dataclass(frozen=True)
class Demonstration:
    """What is known when the training has ended. `contributions` counts results in the model."""

    status: ProjectStatus
    contributions: Mapping[str, int]
    central_accuracy: float
    seconds: float


def outcome_of(found: Demonstration, liar: str) -> Outcome:
    """Return the outcome; `liar` is the name of the host that lies."""
    status = found.status
    target = status.target
    return Outcome(
        project=status.project,
        version=status.version,
        test_accuracy=round(status.metrics.get("accuracy", 0.0), 4),
        central_accuracy=round(found.central_accuracy, 4),
        target=target.value if target else 0.0,
        units_verified=sum(found.contributions.values()),
        results_refused=status.counts.refused,
        liar_refused=sum(host.refused for host in status.hosts if host.name == liar),
        liar_results_in_model=found.contributions.get(liar, 0),
        seconds=round(found.seconds, 1),
    )


def explanation(caught: Caught | None, liar: str) -> str:
    """Return a sentence about how the liar was caught."""
    if caught is None:
        return f"No result of the {liar}'s was refused."
    why = f": {reason_sentence(caught.reason)}" if caught.reason else "."
    return f"The {liar}'s result of unit {caught.unit} was refused{why}"
