"""`python -m tests.soak.backups [COUNT]`: backups under write load, all of them restored.

Each must verify, be followed by an agent that has seen everything, recompute, and go on. 200 of
them (the default) take some minutes of CPU time; CI makes a few in `tests/integration`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.test_backups import Operator, back_up_under_load_and_restore_all


def main(count: int) -> None:
    """Make and restore that many; print what it took."""
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="pleb-backups-") as folder:
        operator = Operator(Path(folder), versions=100_000)
        back_up_under_load_and_restore_all(operator, count)
        version = operator.world.project.version
        operator.world.store.close()
    found = {
        "backups": count,
        "restored": count,
        "last_version": version,
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(time.process_time() - cpu),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
