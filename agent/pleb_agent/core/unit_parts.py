"""What the user sees of units: the parts of their list, and what may be done to one in hand."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Held", "UnitAct", "UnitPart"]


class Held(StrEnum):
    """What the user did to a unit that is not computed yet."""

    NO = ""
    PAUSED = "paused"
    """It waits until the user resumes it, or its lease ends."""
    HANDED_BACK = "handed_back"
    """The next turn of its project gives it back."""


class UnitAct(StrEnum):
    """What the user may do to a unit in hand."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"

    @property
    def held(self) -> Held:
        """What it makes of the unit."""
        return {
            UnitAct.PAUSE: Held.PAUSED,
            UnitAct.RESUME: Held.NO,
            UnitAct.ABORT: Held.HANDED_BACK,
        }[self]


class UnitPart(StrEnum):
    """The parts of the list; a unit is in one of them."""

    IN_HAND = "in_hand"
    """To be computed, being computed, or on its way to the coordinator."""
    WAITING = "waiting"
    """Delivered, and not judged yet."""
    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Proven wrong, or not taken."""
    UNCOUNTED = "uncounted"
    """Late, handed back, set aside, or a calibration: it counts neither for nor against this PC."""
