"""The counters of `/metrics`, in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RequestCounters"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""Upper ends of the histogram's buckets, in seconds."""


class RequestCounters:
    """Counts since the process started; labels come from small, closed sets."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.units_issued = 0
        self.reports = 0
        self.commits = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.body_bytes_held = 0
        """Of bodies that are still being received."""
        self.waiters = 0
        self._seconds = [0] * (len(_BUCKETS) + 1)
        self._seconds_sum = 0.0

    def served(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.requests[route, status] += 1
        self._seconds[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds_sum += seconds

    def text(self, gauges: dict[str, float]) -> str:
        """Return everything as text, `gauges` (name to value) included."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: dict[str, float]) -> Iterator[str]:
        yield "# TYPE pleb_requests_total counter"
        for (route, status), count in sorted(self.requests.items()):
            yield f'pleb_requests_total{{route="{route}",status="{status}"}} {count}'
        yield "# TYPE pleb_refusals_total counter"
        for code, count in sorted(self.refusals.items()):
            yield f'pleb_refusals_total{{code="{code}"}} {count}'
        for name, value in (
            ("units_issued", self.units_issued),
            ("reports", self.reports),
            ("bytes_sent", self.bytes_sent),
            ("bytes_received", self.bytes_received),
        ):
            yield f"# TYPE pleb_{name}_total counter"
            yield f"pleb_{name}_total {value}"
        yield "# TYPE pleb_request_seconds histogram"
        total = 0
        for end, count in zip((*_BUCKETS, "+Inf"), self._seconds, strict=True):
            total += count
            yield f'pleb_request_seconds_bucket{{le="{end}"}} {total}'
        yield f"pleb_request_seconds_sum {self._seconds_sum:.6f}"
        yield f"pleb_request_seconds_count {total}"
        for name, gauge in gauges.items():
            yield f"# TYPE pleb_{name} gauge"
            yield f"pleb_{name} {gauge:g}"
