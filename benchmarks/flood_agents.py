"""The honest agents of the flood benchmark: they ask, compute, report, and see each receipt.

    python -m benchmarks.flood_agents PLAN.json

For every line with a number it works for so many seconds, and says in a line of JSON what it saw.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from benchmarks.dispatch_fleet import Group, LoadHost, hosts_of, result_of
from benchmarks.dispatch_load import Connection, loop_factory, report_of
from pleb_shared.protocol.messages import PayloadType, ReceiptOutcome, WorkReply
from pleb_shared.protocol.signing import open_envelope
from pleb_shared.tensors.packing import pack

if TYPE_CHECKING:
    from pleb_shared.protocol.manifest import Manifest

WAIT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0


class AgentsPlan(msgspec.Struct, frozen=True):
    """What the parent wants. The last host of the group is the strangers'."""

    url: str
    online_key: str
    group: Group
    pause_seconds: float


class AgentsSeen(msgspec.Struct, frozen=True):
    """What all agents together saw in one turn."""

    seconds: float
    units: int
    """Reported, with a receipt that says so."""
    lost: int
    """Reported, and refused."""
    failed: int
    """Requests without an answer, which were sent again."""
    latencies_seconds: list[float]
    """Of requests that were answered without waiting for work."""


@dataclass
class Agent:
    """One agent; it keeps its unit from one turn to the next."""

    host: LoadHost
    plan: AgentsPlan
    connection: Connection | None = None
    unit: Manifest | None = None
    units: int = 0
    lost: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)

    async def work_until(self, end: float) -> None:
        """Do units until the loop's clock says `end`."""
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            unit, self.unit = self.unit, None
            reports, packed = [], b""
            if unit is not None:
                await asyncio.sleep(self.plan.pause_seconds)
                delta = result_of(unit)
                packed = pack(delta)
                reports = [report_of(unit, delta, len(packed))]
            now = int(time.time())  # noqa: TID251 - a real client's clock
            envelope = self.host.request(now, 1, reports, WAIT_SECONDS)
            begun = loop.time()
            reply = await self._exchange(envelope + b"\n" + packed)
            if reply.manifests:
                self.unit = reply.manifests[0]
            if reply.manifests or reports:
                self.latencies.append(loop.time() - begun)
            for receipt in reply.receipts:
                taken = receipt.outcome in {ReceiptOutcome.STORED, ReceiptOutcome.UNNEEDED}
                self.units += taken
                self.lost += not taken

    async def _exchange(self, body: bytes) -> WorkReply:
        """Send a request, again over a new connection if it fails, as an agent does."""
        place = urlsplit(self.plan.url)
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if self.connection is None:
                        loop = asyncio.get_running_loop()
                        address = (place.hostname or "", place.port or 0)
                        _, self.connection = await loop.create_connection(Connection, *address)
                    reply = await self.connection.exchange(self.host.path, body)
                key = self.plan.online_key
                return open_envelope(reply, PayloadType.WORK_REPLY, WorkReply, key)
            except (OSError, TimeoutError) as error:
                sys.stderr.write(f"{error}\n")
                self.failed += 1
                self.connection = None
                await asyncio.sleep(0.1)


async def turn(agents: list[Agent], seconds: float) -> AgentsSeen:
    """Let all agents work for so long."""
    for agent in agents:
        agent.units = agent.lost = agent.failed = 0
        agent.latencies = []
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*(agent.work_until(start + seconds) for agent in agents))
    return AgentsSeen(
        seconds=asyncio.get_running_loop().time() - start,
        units=sum(agent.units for agent in agents),
        lost=sum(agent.lost for agent in agents),
        failed=sum(agent.failed for agent in agents),
        latencies_seconds=[value for agent in agents for value in agent.latencies],
    )


async def serve_turns(plan: AgentsPlan) -> None:
    """Work whenever the parent says so, until it closes the pipe."""
    agents = [Agent(host, plan) for host in hosts_of(plan.group)[:-1]]
    gc.freeze()
    loop = asyncio.get_running_loop()
    while asked := await loop.run_in_executor(None, sys.stdin.readline):
        seen = await turn(agents, json.loads(asked))
        print(msgspec.json.encode(seen).decode(), flush=True)


def main() -> int:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=AgentsPlan)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve_turns(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
