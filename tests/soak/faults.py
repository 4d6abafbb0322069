"""`python -m tests.soak.faults [--kills 400] [--seed N]`: everything that can fail, many times.

On files and on PostgreSQL with a bucket: kill -9 of each process, a full disk (as root), an hour's
jump of the clock, a database that crashes, a bucket that fails, is slow and lies, and all the time
a network that loses, doubles, delays and replays requests. `tests/system` has a few of each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import pytest

from tests.system.faults import EVENTS, under_fire

if TYPE_CHECKING:
    from collections.abc import Callable

RESTART_SECONDS: Final = 5.0
"""However often a process is killed, requests are answered again so soon. What a database itself
takes after a crash is not ours, nor what other programs take of the processors."""


def main() -> None:
    """Let things happen on one store after the other; print what did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.faults")
    parser.add_argument("--kills", type=int, default=400, help="of processes, on each store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=sorted(EVENTS), action="append")
    options = parser.parse_args()
    for store in options.store or sorted(EVENTS):
        began = time.monotonic()
        full_disks = store == "sqlite" and os.geteuid() == 0
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            fire = under_fire(
                Path(folder),
                patch,
                store=store,
                seed=options.seed,
                kills=options.kills,
                full_disks=full_disks,
            )
        found = {
            "store": store,
            "seed": options.seed,
            "happened": fire.done,
            "versions": fire.versions,
            "longest_restart_seconds": _by_event(fire.restarts, max),
            "median_restart_seconds": _by_event(fire.restarts, median),
            "longest_undisturbed_seconds": _by_event(fire.undisturbed, max),
            "median_undisturbed_seconds": _by_event(fire.undisturbed, median),
            "longest_pause_seconds": fire.pause_seconds,
            "longest_database_start_seconds": round(max(fire.database_seconds, default=0.0), 1),
            "seconds": round(time.monotonic() - began),
        }
        print(json.dumps(found), flush=True)
        longest = max(max(each) for each in fire.undisturbed.values())
        assert longest <= RESTART_SECONDS, f"a restart took {longest:.1f} s of a free machine's"
        assert fire.pause_seconds <= RESTART_SECONDS, "serve paused before a start"


def _by_event(
    seconds: dict[str, list[float]], chosen: Callable[[list[float]], float]
) -> dict[str, float]:
    return {name: round(chosen(each), 1) for name, each in seconds.items() if each}


if __name__ == "__main__":
    main()
