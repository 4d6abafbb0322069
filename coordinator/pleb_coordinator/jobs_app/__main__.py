"""`python -m pleb_coordinator.jobs_app`: the background process, which `serve` and `work` start."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_coordinator.api.job_metrics import job_lines, standing_still
from pleb_coordinator.api.metrics_server import MetricsServer
from pleb_coordinator.home.config import read_config, store_place
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import JobCounters, run_jobs
from pleb_coordinator.steps import Deps, deps_of
from pleb_coordinator.store.checkpoint import keep_log_short
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import PlebError
from pleb_system.supervisor import stop_event

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    """Build what the loops need, and run them: the first in this thread, each other in its own."""
    config = read_config(home.config_file)
    home.start_log("jobs", most_bytes=config.log_bytes, debug=options.debug)
    deps = deps_of(home, lambda: time.time() + options.clock_offset, config)  # noqa: TID251
    names = [f"{options.name}/{number}" for number in range(options.workers)]
    place = store_place(home, config)
    threads = []
    if isinstance(place, Path):
        threads.append(threading.Thread(target=keep_log_short, args=(place, stop)))
    counters = JobCounters()
    threads += [
        threading.Thread(target=_loop, args=(place, deps, stop, name, counters))
        for name in names[1:]
    ]

    def lines() -> Iterator[str]:
        c = counters
        return job_lines(options.name, dict(c.done), dict(c.seconds), c.failures, c.passed_at)

    with contextlib.ExitStack() as stack:
        if options.metrics_port:
            address = (config.metrics.host, options.metrics_port)
            fault = partial(_fault, counters)
            stack.enter_context(MetricsServer(address, lines, fault))
        _run(place, deps, stop, names[0], counters, threads)


def _fault(counters: JobCounters) -> str:
    return standing_still(counters.passed_at)


def _run(
    place: Path | str,
    deps: Deps,
    stop: threading.Event,
    name: str,
    counters: JobCounters,
    threads: list[threading.Thread],
) -> None:
    for thread in threads:
        thread.start()
    logging.getLogger(__name__).info("The background process has started")
    try:
        _loop(place, deps, stop, name, counters)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _loop(
    place: Path | str, deps: Deps, stop: threading.Event, name: str, counters: JobCounters
) -> None:
    """Run one loop on a store of its own; if it fails, the whole process ends."""
    store = Store(place)
    try:
        run_jobs(store, deps, stop, holder=name, counters=counters)
    finally:
        stop.set()
        store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pleb_coordinator.jobs_app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument("--name", default="jobs", help="unique among running background processes")
    parser.add_argument("--workers", type=int, default=1, help="loops in this process")
    parser.add_argument("--metrics-port", type=int, default=0, help="0: none")
    parser.add_argument("--debug", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
