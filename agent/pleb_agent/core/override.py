"""What the user asked for: pause, or run now, until a time or until resumed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["NO_OVERRIDE", "Override", "OverrideKind"]


class OverrideKind(StrEnum):
    """What the user asked for."""

    NONE = "none"
    PAUSE = "pause"
    BOOST = "boost"
    """Run now, also while the PC is in use, on battery or outside the chosen hours."""
    FINISH = "finish"
    """Take no new work; when what is in hand is done, pause."""


class Override(msgspec.Struct, frozen=True):
    """`until`: seconds since 1970 when it ends by itself; None: when the user resumes."""

    kind: OverrideKind = OverrideKind.NONE
    until: float | None = None
    reason: str = ""
    """Of a pause that another program asked for: what that program says."""

    def is_active(self, kind: OverrideKind, now: float) -> bool:
        """Whether this is of that kind and has not ended."""
        return self.kind is kind and (self.until is None or now < self.until)


NO_OVERRIDE: Final = Override()
