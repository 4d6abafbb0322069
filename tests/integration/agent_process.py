"""An agent with the fake engine as a process of its own, killed where the test says.

`main` runs in a fork (`tests/forks.py`). At the COUNT-th time that POINT is reached the process
ends as by kill -9. POINT is the name of a journal or cache method with `:before` or `:after`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from pathlib import Path

from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.cache.part_file import PartFile
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.journal.journal import Journal
from tests.integration.agent_home import Agent
from tests.integration.fake_engine import FakeEngine

OWNERS = {
    "write_request": Journal,
    "settle_request": Journal,
    "drop_request": Journal,
    "settle": Journal,
    "finish": PartFile,
    "put": PartFile,
    "link": BlobCache,
    "work": CoordinatorClient,
    "upload_part": CoordinatorClient,
    "result_of": FakeEngine,
    "steps_before": FakeEngine,
}


def kill_at(point: str, count: int) -> None:
    """Make the COUNT-th call of a method the process's last."""
    name, _, when = point.partition(":")
    owner = OWNERS[name]
    method = getattr(owner, name)
    left = [count]

    def reached(this: str) -> None:
        if when == this:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*args, **kwargs):
        reached("before")
        value = await method(*args, **kwargs)
        reached("after")
        return value

    def called(*args, **kwargs):
        reached("before")
        value = method(*args, **kwargs)
        reached("after")
        return value

    setattr(owner, name, awaited if inspect.iscoroutinefunction(method) else called)


def main(home: str, units: str, point: str, count: str, delta_bytes: str) -> None:
    if point != "-":
        kill_at(point, int(count))
    agent = Agent(Path(home), FakeEngine(delta_bytes=int(delta_bytes)))
    asyncio.run(agent.work(units=int(units)))
    agent.journal.close()
