"""How many units this process still wants: endless, a number (`--units N`), or none (finishing)."""

from __future__ import annotations

__all__ = ["UnitBudget"]


class UnitBudget:
    """Counts units. `most` None: without end."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.finished = 0
        self.finishing = False
        """Take no new units; end when nothing is in hand."""

    def wants_more(self, under_way: int) -> bool:
        """Whether to ask for another unit while so many are computed, but not yet taken."""
        if self.finishing:
            return False
        return self.most is None or self.finished + under_way < self.most

    @property
    def is_reached(self) -> bool:
        """Whether the wished number is finished."""
        return self.most is not None and self.finished >= self.most
