"""What the user asked for by hand: hold still, or run now, until a time or until told otherwise."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["NO_WISH", "UserWish", "WishKind"]


class WishKind(StrEnum):
    """The kinds of wishes."""

    NONE = "none"
    PAUSE = "pause"
    """Snooze."""
    BOOST = "boost"
    """Run now, also while the PC is in use, on battery or outside the chosen hours."""


class UserWish(msgspec.Struct, frozen=True):
    """`until`: seconds since 1970 when it ends by itself; None: when the user says so."""

    kind: WishKind = WishKind.NONE
    until: float | None = None

    def holds(self, kind: WishKind, now: float) -> bool:
        """Whether this is such a wish and has not ended."""
        return self.kind is kind and (self.until is None or now < self.until)


NO_WISH: Final = UserWish()
