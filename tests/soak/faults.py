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

import pytest

from tests.system.faults import EVENTS, under_fire


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
            "longest_restart_seconds": round(max(fire.restarts), 1),
            "median_restart_seconds": round(sorted(fire.restarts)[len(fire.restarts) // 2], 1),
            "seconds": round(time.monotonic() - began),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
