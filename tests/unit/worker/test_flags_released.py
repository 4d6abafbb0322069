"""The flag page in a process that may turn hostile: the map stays, the file is let go of."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pleb_agent.worker.channel import FlagPage, Request, State

if TYPE_CHECKING:
    from pathlib import Path


def test_a_worker_keeps_the_map_and_not_the_file(tmp_path: Path) -> None:
    """By a descriptor it could cut the file, and the agent's next look would be its end."""
    path = tmp_path / "flags"
    with FlagPage.create(path) as agent, FlagPage(path) as worker:
        agent_holds = len(descriptors_of(path))
        worker.release_file()
        assert len(descriptors_of(path)) < agent_holds
        assert descriptors_of(path) == []
        agent.request = Request.PAUSE
        worker.state = State.PAUSED
        assert (worker.request, agent.state) == (Request.PAUSE, State.PAUSED)


def descriptors_of(path: Path) -> list[str]:
    """Return this process's descriptors of the file."""
    there = path.stat()
    found = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), there):
                found.append(name)
    return found
