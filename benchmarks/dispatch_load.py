"""The load process of the dispatch benchmark: hosts that ask for work over kept connections.

    python -m benchmarks.dispatch_load PLAN.json

It speaks with its parent in lines of JSON: it says "warm" after its first requests, goes on
when it reads a line, and ends with what it measured. It is written for little CPU time, since
it shares the machine with the coordinator: plain sockets, and one reply in `CHECK_EVERY` fully
verified (all are decoded, and must bring exactly the unit that was asked for).
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

from benchmarks.dispatch_fleet import Group, LoadHost, hosts_of, result_of
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType, ReceiptOutcome, WorkReply
from pleb_shared.protocol.report import DeltaResult, Report
from pleb_shared.protocol.signing import peek_payload, verify_bytes
from pleb_shared.tensors.packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_shared.protocol.manifest import Manifest

CHECK_EVERY: Final = 100
"""Of these many replies one has its signature verified and is asked for once more."""
BRISK_PAUSE_SECONDS: Final = 0.2
"""Between two requests of each host that trains."""
_REPLY: Final = msgspec.json.Decoder(WorkReply)


class Plan(msgspec.Struct, frozen=True):
    """What the parent wants."""

    url: str
    online_key: str
    groups: list[Group]
    brisk: Group
    connections: int
    warm_up: int
    requests: int


class Measured(msgspec.Struct, frozen=True):
    """What the load process saw."""

    requests: int
    seconds: float
    latencies_seconds: list[float]
    cpu_seconds: float
    repeated: int
    trained: int


class Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._body_at = 0
        self._end = 0
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def _waiting(self) -> asyncio.Future[bytes] | None:
        """What the asking side waits for; it may have given up."""
        return None if self._answer is None or self._answer.done() else self._answer

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._end:
            self._read_head()
        if self._end and len(self._buffer) >= self._end and (waiting := self._waiting):
            waiting.set_result(bytes(self._buffer[self._body_at : self._end]))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if waiting := self._waiting:
            waiting.set_exception(exc or ConnectionResetError("the server hung up"))

    async def exchange(self, path: bytes, body: bytes) -> bytes:
        """Return the body of the answer, which must be 200."""
        assert self._transport is not None
        self._buffer.clear()
        self._end = 0
        self._answer = asyncio.get_running_loop().create_future()
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (path, len(body)) + body)
        return await self._answer

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise ConnectionError(bytes(self._buffer).decode())
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self._body_at = end + 4
        self._end = self._body_at + int(length)


@dataclass
class Load:
    """All hosts and what they have seen."""

    plan: Plan
    seconds: list[float] = field(default_factory=list)
    repeated: int = 0
    trained: int = 0
    left: int = 0

    async def run(
        self, count: int, hosts: Sequence[Iterator[LoadHost]], lines: Sequence[Connection]
    ) -> float:
        """Let hosts ask `count` times in all; return how long it took, in seconds."""
        self.left, self.seconds = count, []
        start = time.perf_counter()
        await asyncio.gather(*(self._ask(*pair) for pair in zip(lines, hosts, strict=True)))
        return time.perf_counter() - start

    async def _ask(self, line: Connection, hosts: Iterator[LoadHost]) -> None:
        while self.left > 0:
            self.left -= 1
            host = next(hosts)
            request = host.request(int(time.time()))  # noqa: TID251 - a real client's clock
            start = time.perf_counter()
            reply = await line.exchange(host.path, request)
            self.seconds.append(time.perf_counter() - start)
            host.in_hand.append(self._unit_in(reply, host).assignment)
            if len(self.seconds) % CHECK_EVERY == 0:
                await self._check(line, host, request, reply)

    def _unit_in(self, reply: bytes, host: LoadHost) -> Manifest:
        """Return the one manifest in a reply."""
        said = _REPLY.decode(peek_payload(reply, PayloadType.WORK_REPLY))
        if (said.host, said.in_reply_to) != (host.key.fingerprint, host.sequence):
            raise ValueError("A reply to another request.")
        if len(said.manifests) != 1 or said.manifests[0].assignment in host.in_hand:
            raise ValueError(f"Not one new unit: {said}")
        return said.manifests[0]

    async def _check(self, line: Connection, host: LoadHost, request: bytes, reply: bytes) -> None:
        """Verify the signature; the same request again must get the same reply."""
        verify_bytes(reply, PayloadType.WORK_REPLY, self.plan.online_key)
        self.repeated += 1
        if await line.exchange(host.path, request) != reply:
            raise ValueError("A repeated request got another reply.")

    async def train(self, host: LoadHost, line: Connection) -> None:
        """Ask, compute, report, again and again: what makes versions advance."""
        while True:
            await asyncio.sleep(BRISK_PAUSE_SECONDS)
            body = host.request(int(time.time()))  # noqa: TID251
            reply = await line.exchange(host.path, body)
            for manifest in _REPLY.decode(peek_payload(reply, PayloadType.WORK_REPLY)).manifests:
                delta = result_of(manifest)
                packed = pack(delta)
                report = report_of(manifest, delta, len(packed))
                body = host.request(int(time.time()), 0, [report])  # noqa: TID251
                reply = await line.exchange(host.path, body + b"\n" + packed)
                said = _REPLY.decode(peek_payload(reply, PayloadType.WORK_REPLY))
                if said.receipts[0].outcome not in {ReceiptOutcome.STORED, ReceiptOutcome.UNNEEDED}:
                    raise ValueError(said.receipts[0].message)
                self.trained += 1


def report_of(manifest: Manifest, delta: bytes, size: int) -> Report:
    """Return the report of a delta that is attached; packed it has `size` bytes."""
    return Report(
        assignment=manifest.assignment,
        nonce=manifest.nonce,
        epoch=manifest.unit.epoch,
        version=manifest.unit.version,
        result=DeltaResult(
            digest=digest_of(delta),
            size=size,
            attached=True,
            loss_first=1.0,
            loss_last=0.9,
        ),
        compute_seconds=0.1,  # more than the host has had the unit for would be suspicious
    )


async def measure(plan: Plan) -> Measured:
    """Warm up, wait for the parent, and carry out what was asked for."""
    place = urlsplit(plan.url)
    loop = asyncio.get_running_loop()

    async def connect() -> Connection:
        host, port = place.hostname or "", place.port or 0
        _, line = await loop.create_connection(Connection, host, port)
        return line

    everybody = [host for group in plan.groups for host in hosts_of(group)]
    hosts = [cycle(everybody[i :: plan.connections]) for i in range(plan.connections)]
    lines = [await connect() for _ in hosts]
    load = Load(plan)
    trainers = [
        asyncio.create_task(load.train(host, await connect())) for host in hosts_of(plan.brisk)
    ]
    gc.freeze()
    await load.run(plan.warm_up, hosts, lines)
    print(json.dumps({"event": "warm"}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    repeated, trained, cpu = load.repeated, load.trained, time.process_time()
    seconds = await load.run(plan.requests, hosts, lines)
    cpu = time.process_time() - cpu
    for trainer in trainers:
        if trainer.done():
            trainer.result()  # what it raised ends the benchmark
        trainer.cancel()
    return Measured(
        requests=len(load.seconds),
        seconds=seconds,
        latencies_seconds=load.seconds,
        cpu_seconds=cpu,
        repeated=load.repeated - repeated,
        trained=load.trained - trained,
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the fastest event loop of this system."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def main() -> int:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        measured = runner.run(measure(plan))
    print(msgspec.json.encode(measured).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
