"""The strangers of the flood benchmark: each sends one bad request after the other.

    python -m benchmarks.flood_strangers PLAN.json

For every line with a number it floods for so many seconds, and says in a line of JSON what it
saw. Requests begin at a steady rate, whether or not earlier ones were answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from benchmarks.dispatch_fleet import AGENT, Group, LoadHost, hosts_of, secret
from benchmarks.dispatch_load import loop_factory
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import SigningKey, peek_payload, sign_payload

HOLD_SECONDS: Final = 15.0
"""How long the slow and the silent stay; the coordinator drops them sooner."""
MOST_UNDER_WAY: Final = 5_000
_FILES: Final = 8_192


class StrangersPlan(msgspec.Struct, frozen=True):
    """What the parent wants. The strangers have the last host of the group."""

    url: str
    online_key: str
    group: Group
    per_second: float


class StrangersSeen(msgspec.Struct, frozen=True):
    """What they saw in one turn."""

    seconds: float
    sent: int
    answers: dict[str, int]
    """By status; "closed": without an answer."""
    taken: int
    """Answered with success: none should be."""
    cpu_seconds: float


def bad_requests(plan: StrangersPlan) -> dict[str, bytes]:
    """Return what is sent, by its kind; signed newly, so that none is merely too old."""
    host = hosts_of(plan.group)[-1]
    now = int(time.time())  # noqa: TID251 - a real client's clock
    old, _, envelope = (host.request(now, 0) for _ in range(3))
    payload = peek_payload(envelope, PayloadType.WORK)
    thief = SigningKey.from_bytes(secret(-5))
    forged = sign_payload(payload, PayloadType.WORK, thief)
    forged = forged.replace(thief.fingerprint.encode(), host.key.fingerprint.encode())
    nobody = LoadHost(plan.group.project, SigningKey.from_bytes(secret(-6)), [])
    weak = strict_json.encode(
        {
            "protocols": [1],
            "project": plan.group.project,
            "host_key": "00" * 32,
            "account_key": "01" + "00" * 31,
            "agent": AGENT,
            "issued_at": now,
            "expires_at": now + 60,
        }
    )
    enrol = sign_payload(weak, PayloadType.ENROL, thief)
    work = host.path
    long_head = b"".join(b"X-%d: %b\r\n" % (n, b"y" * 1000) for n in range(60))
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n" % work
    return {
        "garbage": os.urandom(512),
        "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "no JSON": _post(work, b'{"payload": "x' + os.urandom(300)),
        "quotes and brackets": _post(work, b"[" * 17 + b'"' + b'\\"' * 60_000),
        "bad signature": _post(work, forged),
        "replay": _post(work, old),
        "unknown host": _post(work, nobody.request(now)),
        "unknown project": _post(b"/projects/nothing/work", envelope),
        "weak key": _post(b"/projects/%b/enrol" % plan.group.project.encode(), enrol),
        "large head": b"GET / HTTP/1.1\r\nHost: x\r\n" + long_head + b"\r\n",
        "large body": head + b"Content-Length: 3000000\r\n\r\n" + bytes(20_000),
        "requests before answers": b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
        "slow head": head,
        "slow body": head + b"Content-Length: 1000\r\n\r\n",
        "silence": b"",
    }


def _post(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body


class Strangers:
    """All of them."""

    def __init__(self, plan: StrangersPlan) -> None:
        place = urlsplit(plan.url)
        self._address = place.hostname or "", place.port or 0
        self._plan = plan
        self._bad: dict[str, bytes] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self.answers: Counter[str] = Counter()

    async def introduce(self) -> None:
        """Send the one good request of theirs: the one that is replayed comes before it."""
        host = hosts_of(self._plan.group)[-1]
        now = int(time.time())  # noqa: TID251
        _, good = (host.request(now, 0) for _ in range(2))
        assert await self._talk(_post(host.path, good), drip=False) == "200"

    async def flood(self, seconds: float) -> StrangersSeen:
        """Begin bad requests at the plan's rate, for so long."""
        self.answers.clear()
        self._bad = bad_requests(self._plan)
        kinds = cycle(self._bad)
        loop = asyncio.get_running_loop()
        start, cpu, sent = loop.time(), time.process_time(), 0
        while (now := loop.time()) < start + seconds:
            while sent < (now - start) * self._plan.per_second:
                sent += 1
                if len(self._under_way) < MOST_UNDER_WAY:
                    task = loop.create_task(self._send(next(kinds)))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(0.005)
        return StrangersSeen(
            seconds=loop.time() - start,
            sent=sent,
            answers=dict(self.answers),
            taken=self.answers["200"],
            cpu_seconds=time.process_time() - cpu,
        )

    async def _send(self, kind: str) -> None:
        drip = kind.startswith(("slow", "silence"))
        self.answers[await self._talk(self._bad[kind], drip=drip)] += 1

    async def _talk(self, sent: bytes, *, drip: bool) -> str:
        """Send it on a connection of its own; return the status of the answer, or "closed"."""
        got, writer = b"", None
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(HOLD_SECONDS):
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(sent)
                while drip and sent and not got and not reader.at_eof():
                    with contextlib.suppress(TimeoutError):
                        got = await asyncio.wait_for(reader.read(4096), timeout=1.0)
                    if not writer.is_closing():
                        writer.write(b"x")
                got = got or await reader.read(4096)
        if writer is not None:
            writer.transport.abort()
        return got[9:12].decode("latin-1") or "closed"


async def serve_turns(plan: StrangersPlan) -> None:
    """Flood whenever the parent says so, until it closes the pipe."""
    strangers = Strangers(plan)
    await strangers.introduce()
    gc.freeze()
    loop = asyncio.get_running_loop()
    while asked := await loop.run_in_executor(None, sys.stdin.readline):
        seen = await strangers.flood(json.loads(asked))
        print(msgspec.json.encode(seen).decode(), flush=True)


def main() -> int:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=StrangersPlan)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve_turns(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
