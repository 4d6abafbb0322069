"""Numbers and times in words for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["ago", "count", "moment", "number", "operations", "percent", "short_digest"]

_STEPS: Final = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"))
_SMALL_STEPS: Final = ((1e6, "M"), (1e3, "k"))
_SPANS: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def ago(then: float, now: float) -> str:
    """Return how long ago `then` was: "3 minutes ago"."""
    seconds = now - then
    if then <= 0:
        return "never"
    if seconds < 5:
        return "just now"
    size, name = next((span for span in _SPANS if seconds >= span[0]), _SPANS[-1])
    whole = int(seconds // size)
    return f"{whole} {name}{'' if whole == 1 else 's'} ago"


def moment(then: float) -> str:
    """Return a time as ISO 8601, for machines and as a tooltip."""
    return datetime.fromtimestamp(then, UTC).isoformat(timespec="seconds")


def operations(flops: float) -> str:
    """Return credit: "3.4 TFLOP"."""
    for size, prefix in (*_STEPS, *_SMALL_STEPS):
        if flops >= size:
            return f"{flops / size:.3g} {prefix}FLOP"
    return f"{flops:.0f} FLOP"


def count(value: int) -> str:
    """Return a large number shortened: "435 k"."""
    if value < 10_000:
        return f"{value:,}"
    for size, suffix in ((1e9, "G"), *_SMALL_STEPS):
        if value >= size:
            return f"{value / size:.3g} {suffix}"
    return str(value)


def number(value: float | None) -> str:
    """Return a loss or a metric with four significant digits; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as whole percent."""
    return f"{100 * max(0.0, min(1.0, share)):.0f} %"


def short_digest(digest: str) -> str:
    """Return the beginning of a digest, enough to tell two apart."""
    return digest[:10]
