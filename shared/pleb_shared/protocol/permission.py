"""How long the researcher's permission (the delegation to the online key) still lasts."""

from __future__ import annotations

from typing import Final

__all__ = ["WARNING_SECONDS", "ends_soon", "is_due"]

WARNING_SECONDS: Final = 10 * 24 * 3600
"""So long before the end every face says it."""
_DUE_SECONDS: Final = 20 * 24 * 3600
"""With less left than this, automatic renewal renews: a PC may be off for ten days after that
before anybody is warned."""


def ends_soon(ends_at: float, now: float) -> bool:
    """Whether it is time to warn; also once the permission has ended. `ends_at` 0: not known."""
    return ends_at > 0 and ends_at - now < WARNING_SECONDS


def is_due(ends_at: float, now: float) -> bool:
    """Whether automatic renewal should renew now."""
    return ends_at - now < _DUE_SECONDS
