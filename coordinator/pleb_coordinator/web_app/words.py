"""Numbers, times and progress in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Target
    from pleb_shared.protocol.status import ProjectStatus

__all__ = [
    "Progress",
    "ago",
    "class_values",
    "count",
    "moment",
    "number",
    "operations",
    "percent",
    "progress_of",
    "short_digest",
    "size",
]

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


def size(found: float) -> str:
    """Return a size in bytes: "74.7 GB"."""
    unit, name = (1e9, "GB") if found >= 1e9 else (1e6, "MB")
    return f"{found / unit:,.1f} {name}"


def number(value: float | None) -> str:
    """Return a loss or a metric with four significant digits; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as whole percent."""
    return f"{100 * max(0.0, min(1.0, share)):.0f} %"


def short_digest(digest: str) -> str:
    """Return the beginning of a digest: enough to distinguish two."""
    return digest[:10]


@dataclass(frozen=True)
class Progress:
    """How far a project is: by its target if it has one, otherwise by its versions."""

    share: float
    """Of the planned versions, 0 to 1."""
    aim: str
    """The target in short; empty: there is none."""
    sentence: str
    target_reached: bool


def class_values(status: ProjectStatus, name: str) -> list[list[float]]:
    """Return the metrics `name[i]` as one row, or `name[i,j]` as a matrix; [] without any."""
    found = {
        tuple(map(int, key.removeprefix(f"{name}[").removesuffix("]").split(","))): value
        for key, value in status.metrics.items()
        if re.fullmatch(rf"{name}\[\d+(,\d+)?\]", key)
    }
    rows: dict[int, list[float]] = {}
    for place, value in sorted(found.items()):
        rows.setdefault(place[0] if len(place) == 2 else 0, []).append(value)
    return list(rows.values())


def progress_of(status: ProjectStatus) -> Progress:
    """Return how far the project is."""
    share = status.version / max(1, status.versions_planned)
    target = status.target
    if target is None:
        said = f"{percent(share)} of the planned versions are done."
        return Progress(share, "", said, target_reached=False)
    aim = f"{target.metric} {'≥' if target.direction == 'at_least' else '≤'} {number(target.value)}"
    if status.target_reached_at_version is not None:
        said = f"Target reached at version {status.target_reached_at_version}: {aim}."
        return Progress(share, aim, said, target_reached=True)
    said = f"Target: {aim}. {_now(status, target)}"
    return Progress(share, aim, said, target_reached=False)


def _now(status: ProjectStatus, target: Target) -> str:
    value = status.metrics.get(target.metric)
    if value is None:
        return "Not evaluated yet."
    return f"Now {number(value)} (version {status.metrics_version})."
