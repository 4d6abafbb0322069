"""The agent's small programs as real processes, for each system's own tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.fake_agentd import FakeAgentd, status_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lower_priority", "probe_line", "show_tray"]

SECONDS = 60

LOWER = """
import json
from pleb_agent.worker.priority import give_way, system_ways
print(json.dumps(give_way(system_ways())))
"""


def probe_line() -> list[Any]:
    """Return the first line of a real probe, which must end with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pleb_agent.probe.main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line: list[Any] = json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return line


def lower_priority() -> dict[str, str]:
    """Return what happened to each way of lowering the priority, in a process of its own."""
    command = [sys.executable, "-c", LOWER]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=SECONDS)
    outcome: dict[str, str] = json.loads(done.stdout)
    return outcome


def show_tray(home: Path) -> int:
    """Run the tray until agentd is stopped on purpose; return its exit code."""
    agentd = FakeAgentd(home)
    command = [sys.executable, "-m", "pleb_agent.tray.main", "--home", str(home)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + SECONDS
        while not agentd.watchers:
            assert process.poll() is None, "the tray has ended"
            assert time.monotonic() < deadline, "the tray does not follow agentd"
            time.sleep(0.05)
        for state in ("paused", "problem", "working"):
            agentd.change(status_of(state))
            time.sleep(1.1)  # the tray takes at most one status a second
        agentd.change(status_of("stopped", running=False))
        return process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()
        agentd.stop()
