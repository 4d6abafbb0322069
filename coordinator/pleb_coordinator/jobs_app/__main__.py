"""`python -m pleb_coordinator.jobs_app`: the background process, which `serve` and `work` start."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_coordinator.admin.access import store_at
from pleb_coordinator.api.job_metrics import job_lines, standing_still
from pleb_coordinator.api.metrics_server import MetricsServer
from pleb_coordinator.home.config import read_config, store_place
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import JobCounters, run_jobs
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.checkpoint import keep_log_short
from pleb_shared.errors import PlebError
from pleb_system.ready import ReadySignal, add_ready_option
from pleb_system.supervisor import stop_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_coordinator.steps import Deps

_log = logging.getLogger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT."""
    options = _parser().parse_args()
    stop = stop_event()
    try:
        _work(Home(options.home), options, stop)
    except PlebError as error:
        print(f"pleb-coordinator work: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _work(home: Home, options: argparse.Namespace, stop: threading.Event) -> None:
    """Build what the loops need, and run them."""
    config = read_config(home.config_file)
    home.start_log("jobs", most_bytes=config.log_bytes, debug=options.debug)
    deps = deps_of(home, lambda: time.time() + options.clock_offset, config)  # noqa: TID251
    loops = _Loops(store_place(home, config), deps, stop, ReadySignal(options.ready_to))

    def lines() -> Iterator[str]:
        c = loops.counters
        return job_lines(options.name, dict(c.done), dict(c.seconds), c.failures, c.passed_at)

    with contextlib.ExitStack() as stack:
        if options.metrics_port:
            address = (config.metrics.host, options.metrics_port)
            stack.enter_context(MetricsServer(address, lines, loops.fault))
        loops.run([f"{options.name}/{number}" for number in range(options.workers)])


@dataclass
class _Loops:
    """The loops of this process; if one fails, all end."""

    place: Path | str
    deps: Deps
    stop: threading.Event
    ready: ReadySignal
    counters: JobCounters = field(default_factory=JobCounters)
    _is_ready: bool = False

    def run(self, names: Sequence[str]) -> None:
        """Run a loop for each name: the first in this thread, each other in its own."""
        threads = [threading.Thread(target=self._loop, args=(name, _nothing)) for name in names[1:]]
        if isinstance(self.place, Path):
            threads.append(threading.Thread(target=keep_log_short, args=(self.place, self.stop)))
        for thread in threads:
            thread.start()
        _log.info("The background process has started")
        try:
            self._loop(names[0], self._passed)
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def fault(self) -> str:
        """Return why nothing is done; empty: something is."""
        return standing_still(self.counters.passed_at)

    def _loop(self, name: str, passed: Callable[[], None]) -> None:
        """Run one loop on a store of its own."""
        try:
            with closing(store_at(self.place, _log.warning, self.stop)) as store:
                run_jobs(
                    store, self.deps, self.stop, holder=name, counters=self.counters, passed=passed
                )
        finally:
            self.stop.set()

    def _passed(self) -> None:
        """Say that this process is ready, once: it has got through what was due."""
        if not self._is_ready:
            self._is_ready = True
            _log.info("The background process is ready")
            self.ready.say()


def _nothing() -> None:
    """Only the first loop says that the process is ready."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pleb_coordinator.jobs_app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument("--name", default="jobs", help="unique among running background processes")
    parser.add_argument("--workers", type=int, default=1, help="loops in this process")
    parser.add_argument("--metrics-port", type=int, default=0, help="0: none")
    parser.add_argument("--debug", action="store_true")
    add_ready_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
