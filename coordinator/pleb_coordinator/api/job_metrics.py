"""What a background process says of itself, for `/metrics` and `/ready`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from pleb_coordinator.api.metrics_server import process_lines
from pleb_coordinator.api.metrics_text import family

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

__all__ = ["job_lines", "standing_still"]

_LONG_SECONDS: Final = 900.0
"""A version of a large model takes minutes, and a loop looks for work only between two pieces."""


def job_lines(
    name: str,
    done: Mapping[str, int],
    seconds: Mapping[str, float],
    failures: Counter[str],
    passed_at: float,
) -> Iterator[str]:
    """Yield the lines of the background process of that name."""
    yield from process_lines("background")
    for metric, help_text, values in (
        ("pleb_jobs_total", "Pieces of work that were done.", done),
        ("pleb_job_seconds_total", "Time that they took.", seconds),
    ):
        samples = [({"worker": name, "job": job}, float(n)) for job, n in sorted(values.items())]
        yield from family(metric, "counter", help_text, samples)
    found = [({"worker": name, "project": key}, float(n)) for key, n in sorted(failures.items())]
    yield from family("pleb_job_failures_total", "counter", "Jobs that failed.", found)
    age = [({"worker": name}, monotonic() - passed_at)] if passed_at else []
    yield from family("pleb_jobs_pass_age_seconds", "gauge", "Since it last looked.", age)


def standing_still(passed_at: float) -> str:
    """Return why the process seems not to work; empty: it does."""
    if not passed_at:
        return "It has not looked for work yet."
    age = monotonic() - passed_at
    return f"It has not looked for work for {age:.0f} s." if age > _LONG_SECONDS else ""
