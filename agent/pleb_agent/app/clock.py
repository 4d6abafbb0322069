"""The one place of the agent that reads the system's clock and randomness."""

from __future__ import annotations

import secrets
import time

__all__ = ["system_clock", "system_draw"]

_GENERATOR = secrets.SystemRandom()


def system_clock() -> float:
    """Return seconds since 1970."""
    return time.time()  # noqa: TID251 - the composition root hands this to everybody else


def system_draw() -> float:
    """Return a uniform random number in [0, 1)."""
    return _GENERATOR.random()
