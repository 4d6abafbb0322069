"""The agents of the traffic soak: hundreds of PCs in one process, over the real protocol.

Each uses what the agent uses to ask and to be answered (`CoordinatorClient`, `TrustedProject`), and
keeps what it has fetched, so that like an agent it gets each blob once. Instead of training it
waits, and makes a delta from the unit's seed, so that honest ones agree to the bit.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import numpy as np

from benchmarks.dispatch_fleet import LoadHost
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.core.trust import Memory, TrustedProject
from pleb_agent.loop.attach import enrol_request
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import ReceiptOutcome
from pleb_shared.protocol.project import ShardList
from pleb_shared.protocol.report import DeltaResult, Report
from pleb_shared.protocol.sealing import Box
from pleb_shared.protocol.signing import SigningKey
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.packing import pack
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.messages import WorkReply
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import Blob, Unit
    from pleb_shared.tensors.layout import Tensors

Answer = TypeVar("Answer")

MOST_WAIT_SECONDS: Final = 25.0
"""How long an agent lets a request for work wait."""
UPLOADED: Final = 1 / 8
"""Part of the results that are uploaded, as large ones are; the others go with the report."""
LEAVES: Final = 1 / 200
"""Part of the units with which a PC goes away for ever. A new one takes its place."""
REPEATS: Final = 1 / 100
"""Part of the requests that are sent twice, as if the answer had been lost."""
VISIT_SECONDS: Final = 2.0
"""Between two looks of somebody at the project's pages."""


class WrongAnswerError(Exception):
    """The coordinator said something that it must not say."""


@dataclass
class Fleet:
    """What all agents share, and what they have seen together."""

    url: str
    project: str
    root: str
    """Fingerprint of the project's root key, as in its attach link."""
    unit_seconds: float
    """How long a unit takes the median PC."""
    generator: np.random.Generator
    counts: Counter[str] = field(default_factory=Counter)
    accepted: dict[int, int] = field(default_factory=dict)
    """Versions of the accepted results, by the numbers by which hosts know the assignments."""
    packed_bytes: int = 0
    """Of the largest result of a training unit."""
    is_ending: bool = False

    def chance(self, part: float) -> bool:
        """Whether something happens that does to this part of all."""
        return bool(self.generator.random() < part)

    async def place(self, number: int, invite: str, *, leaves: bool) -> None:
        """Be one PC, which joins with an invite, and if it `leaves`, newcomers in its place."""
        await asyncio.sleep(self.generator.uniform(0, self.unit_seconds))
        agent = Agent(self, f"agent {number}", invite, leaves=leaves)
        while not self.is_ending:
            try:
                await agent.live()
            finally:
                await agent.client.close()
            agent = Agent(self, f"agent {number}", None, leaves=True)


class Agent:
    """One PC."""

    def __init__(self, fleet: Fleet, name: str, invite: str | None, *, leaves: bool) -> None:
        self.fleet, self.name, self.invite, self.leaves = fleet, name, invite, leaves
        self.host = LoadHost(fleet.project, SigningKey.generate(), [])
        fingerprint = self.host.key.fingerprint
        self.trust = TrustedProject(fleet.project, fleet.root, fingerprint, Memory())
        self.client = CoordinatorClient(fleet.url)
        self.slowness = float(fleet.generator.lognormal(sigma=0.3))
        self.cached: set[str] = set()
        self.shards: ShardList | None = None
        self.spent: set[str] = set()

    async def live(self) -> None:
        """Join and do units, until the fleet ends or this PC goes away for ever."""
        await self._join()
        unit: Manifest | None = None
        while unit is not None or not self.fleet.is_ending:
            if unit is None:
                unit = await self._asked()
                continue
            await self._fetch(unit)
            seconds = self._seconds(unit.unit)
            await asyncio.sleep(seconds)
            if self.leaves and self.fleet.chance(LEAVES):
                self.fleet.counts["left"] += 1
                return
            unit = await self._reported(unit, seconds)

    async def _join(self) -> None:
        """Pin the root and enrol, in an account of its own."""
        envelope = await self._patient(lambda: self.client.metadata(self.fleet.project))
        self.trust.update_metadata(envelope, now())
        request = enrol_request(
            self.fleet.project,
            self.host.key,
            SigningKey.generate(),
            now(),
            invite=self.invite,
            name=self.name,
            seal_to=Box().public,
        )
        answer = await self._patient(lambda: self.client.enrol(self.fleet.project, request))
        self.host.sequence = self.trust.enrol_reply(answer, now()).sequence
        self.fleet.counts["joined"] += 1

    async def _asked(self) -> Manifest | None:
        """Ask for a unit and wait for it; None: there is none now."""
        wait = min(MOST_WAIT_SECONDS, self.fleet.unit_seconds)
        reply = await self._exchange(1, [], b"", wait)
        if reply.manifests:
            return reply.manifests[0]
        rest = reply.no_work.retry_after_seconds if reply.no_work else 0.0
        await asyncio.sleep(min(rest, self.fleet.unit_seconds))
        return None

    async def _reported(self, manifest: Manifest, seconds: float) -> Manifest | None:
        """Report a unit, and upload its result or send it along; return the next unit."""
        fleet, delta = self.fleet, result_of(self.trust.metadata, manifest.unit)
        packed, attached = pack(delta), not fleet.chance(UPLOADED)
        report = report_of(manifest, delta, len(packed), attached=attached, seconds=seconds)
        self.host.in_hand.remove(manifest.assignment)
        self.spent.add(manifest.nonce)
        units = 0 if fleet.is_ending else 1
        reply = await self._exchange(units, [report], packed if attached else b"", 0)
        receipt = reply.receipts[0]
        if receipt.outcome is ReceiptOutcome.REFUSED:
            raise WrongAnswerError(f"An honest result was refused: {receipt.message}")
        if receipt.upload is not None:
            token, file = receipt.upload, io.BytesIO(packed)
            await self._patient(lambda: self.client.upload(token, file, len(packed)))
            fleet.counts["uploads"] += 1
        if receipt.outcome is not ReceiptOutcome.UNNEEDED:
            fleet.counts["results"] += 1
            if manifest.unit.kind is UnitKind.TRAIN:
                fleet.packed_bytes = max(fleet.packed_bytes, len(packed))
                fleet.accepted[manifest.assignment] = manifest.unit.version
        else:
            fleet.counts["unneeded"] += 1
        return reply.manifests[0] if reply.manifests else None

    async def _exchange(
        self, units: int, reports: Sequence[Report], attached: bytes, wait_seconds: float
    ) -> WorkReply:
        """Send a work request and return its verified reply."""
        body = self.host.request(int(now()), units, reports, wait_seconds)
        body += b"\n" + attached if attached else b""

        def send() -> Awaitable[bytes]:
            return self.client.work(self.fleet.project, body, wait_seconds=wait_seconds)

        answer = await self._patient(send)
        if self.fleet.chance(REPEATS) and await self._patient(send) != answer:
            raise WrongAnswerError("A repeated request got another reply.")
        reply = self.trust.work_reply(
            answer,
            now(),
            sequence=self.host.sequence,
            reported=[report.assignment for report in reports],
            most_units=units,
            is_spent=self.spent.__contains__,
        )
        self.host.in_hand += [manifest.assignment for manifest in reply.manifests]
        return reply

    async def _fetch(self, manifest: Manifest) -> None:
        """Fetch what the unit needs and is not in the cache."""
        metadata, unit, source = self.trust.metadata, manifest.unit, manifest.version
        if self.shards is None:
            listed = await self._blob(metadata.data.shards)
            self.shards = strict_json.decode(listed, ShardList, most_bytes=len(listed))
        train = self.shards.train
        chosen = [train[(unit.shards.first + i) % len(train)] for i in range(unit.shards.count)]
        blobs = [metadata.training_graph, source.snapshot, *source.differences]
        for blob in [*blobs, *(shard.blob for shard in chosen)]:
            if blob.digest not in self.cached:
                await self._blob(blob)

    async def _blob(self, blob: Blob) -> bytes:
        async def read() -> bytes:
            parts = self.client.read(f"/blobs/{blob.digest}", 0, blob.size, blob.size)
            return b"".join([part async for part in parts])

        data = await self._patient(read)
        if digest_of(data) != blob.digest:
            raise WrongAnswerError(f"Blob {blob.digest[:12]} came with other bytes.")
        self.cached.add(blob.digest)
        self.fleet.counts["blobs"] += 1
        return data

    async def _patient(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to a request, which is sent again if the connection breaks."""
        while True:
            self.fleet.counts["requests"] += 1
            try:
                return await ask()
            except NetworkError:
                self.fleet.counts["broken"] += 1
                await asyncio.sleep(1.0)

    def _seconds(self, unit: Unit) -> float:
        """Return how long a unit takes this PC."""
        whole = self.trust.metadata.training.local_steps
        return self.fleet.unit_seconds * self.slowness * unit.local_steps / whole


def result_of(metadata: ProjectMetadata, unit: Unit) -> bytes:
    """Return the encoded delta that every honest PC finds for a unit."""
    generator = np.random.default_rng(unit.seed)
    delta: Tensors = {
        spec.name: 1e-3 * generator.standard_normal(spec.shape, np.float32)
        for spec in metadata.model.parameters
    }
    return delta_format(metadata, unit).encode(delta)


def report_of(
    manifest: Manifest, delta: bytes, size: int, *, attached: bool, seconds: float
) -> Report:
    """Return the report of a delta; packed it has `size` bytes."""
    result = DeltaResult(
        digest=digest_of(delta), size=size, attached=attached, loss_first=1.0, loss_last=0.9
    )
    unit = manifest.unit
    return Report(
        assignment=manifest.assignment,
        nonce=manifest.nonce,
        epoch=unit.epoch,
        version=unit.version,
        result=result,
        compute_seconds=seconds,
    )


async def visit(fleet: Fleet) -> None:
    """Look at the project's pages now and then, as a browser does: with what it has already."""
    pages = ("", "/status", "/live", "/log-head", "/badge.svg", "/model.safetensors")
    seen: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60) as browser:
        while not fleet.is_ending:
            for page in pages:
                headers = {"if-none-match": seen[page]} if page in seen else {}
                path = f"/projects/{fleet.project}{page}"
                answer = await browser.get(path, headers=headers, follow_redirects=True)
                fleet.counts["visits"] += 1
                fleet.counts["unchanged"] += answer.status_code == 304
                if answer.status_code >= 500:
                    raise WrongAnswerError(f"{path}: {answer.status_code} {answer.text[:200]}")
                if "etag" in answer.headers:
                    seen[page] = answer.headers["etag"]
            await asyncio.sleep(VISIT_SECONDS)


async def follow(fleet: Fleet) -> None:
    """Listen to the project's event stream, as an open browser does; reconnect now and then."""
    path = f"/projects/{fleet.project}/events"
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60) as browser:
        while not fleet.is_ending:
            with suppress(TimeoutError):
                async with (
                    asyncio.timeout(fleet.unit_seconds),
                    browser.stream("GET", path) as events,
                ):
                    async for _ in events.aiter_lines():
                        fleet.counts["event_lines"] += 1


def now() -> float:
    """Return the time of a PC whose clock is right."""
    return time.time()
