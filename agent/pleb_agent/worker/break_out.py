"""Closes a sandbox around itself as a worker does and tries to break out, for `worker.trial`.

`python -m pleb_agent.worker.break_out` reads a `Trial` from its input, makes each attempt, closes
the sandbox, makes each again, and prints both outcomes as JSON. Only an attempt that worked before
and fails after proves a layer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pleb_agent.worker.sandbox.attempts import (
    BOUNDS,
    OUTPUT,
    Outcome,
    Report,
    Trial,
    attempts,
    try_to,
)
from pleb_agent.worker.sandbox.confine import confine
from pleb_agent.worker.sandbox.driver import driver_of

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print the report of the trial on standard input."""
    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    folder = Path(trial.folder)
    every = attempts(folder, Path(trial.outside))
    start = _driver_to_start(trial.device) if trial.starts else lambda: ""
    before = {name: try_to(attempt) for name, attempt in every.items()}
    bounds = msgspec.structs.replace(BOUNDS, device=trial.device)
    driver = driver_of(trial.device, trial.nodes)
    layers = confine(folder, bounds, trial.layers, trial.landlock_version, driver=driver)
    after = {name: try_to(attempt) for name, attempt in every.items()}
    (folder / OUTPUT).open("r+b").write(b"still writable")
    outcomes = [Outcome(n, before[n] == "", after[n] == "", after[n]) for n in every]
    report = Report(outcomes, layers, start())
    sys.stdout.write(msgspec.json.encode(report).decode())


def _driver_to_start(name: str) -> Callable[[], str]:
    """Warm the device up; return what starts its driver later, and says why if it does not."""
    from pleb_agent.worker.devices.choice import choose_device
    from pleb_agent.worker.devices.device import DeviceUnusable

    device = choose_device(name)
    try:
        device.warm_up("native")
    except DeviceUnusable as error:
        reason = str(error)
        return lambda: reason

    def start() -> str:
        try:
            device.pin(1)
        except DeviceUnusable as error:
            return str(error)
        return ""

    return start


if __name__ == "__main__":
    main()
