"""`python -m pleb_coordinator.jobs_app`: the background process, which `serve` and `work` start."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import threading
import time
from pathlib import Path

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.keys import read_online_key, read_secret
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import run_jobs
from pleb_coordinator.steps import Deps
from pleb_coordinator.store.checkpoint import keep_log_short
from pleb_coordinator.store.sqlite import SqliteStore
from pleb_shared.errors import PlebError
from pleb_system.supervisor import stop_event


def main() -> int:
    """Work until told to stop."""
    options = _parser().parse_args()
    stop = stop_event()
    try:
        _work(Home(options.home), options.clock_offset, stop, debug=options.debug)
    except PlebError as error:
        print(f"pleb-coordinator work: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _work(home: Home, offset_seconds: float, stop: threading.Event, *, debug: bool) -> None:
    """Build what the loop needs, and run it."""
    config = read_config(home.config_file)
    home.start_log("jobs", most_bytes=config.log_bytes, debug=debug)
    deps = Deps(
        clock=lambda: time.time() + offset_seconds,  # noqa: TID251 - handed to everybody else
        random_bytes=secrets.token_bytes,
        secret=read_secret(home.secret_file),
        online_key=read_online_key(home.online_key_file),
        blobs=LocalBlobs(home.path),
    )
    store = SqliteStore(home.store_file)
    checkpoints = threading.Thread(target=keep_log_short, args=(home.store_file, stop))
    checkpoints.start()
    logging.getLogger(__name__).info("The background process works")
    try:
        run_jobs(store, deps, stop)
    finally:
        stop.set()
        checkpoints.join()
        store.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pleb_coordinator.jobs_app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument("--debug", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
