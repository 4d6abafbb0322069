"""The coordinator's HTTP application on the small world of `steps_world`, without a socket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.home.config import CoordinatorConfig
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.web_app.app import WebApp, build_app
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import (
    EnrolReply,
    EnrolRequest,
    PayloadType,
    WorkReply,
    WorkRequest,
)
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.signing import open_envelope, sign_payload
from pleb_shared.tensors.packing import pack
from tests.integration.steps_world import Volunteer, World, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.report import Report

URL = "http://coordinator.test:7532"


@dataclass
class HttpWorld:
    """A client of the application, with the world behind it."""

    world: World
    web: WebApp
    client: httpx.AsyncClient

    async def work(
        self, host: Volunteer, reports: list[Report] | None = None, **changes: Any
    ) -> WorkReply:
        """Send a work request and return the verified reply; deltas go along as `attached`."""
        attached = changes.pop("attached", b"")
        request = self.request(host, reports or [], **changes)
        return self.opened(await self.post(host, request, attached), request)

    def request(self, host: Volunteer, reports: list[Report], **changes: Any) -> WorkRequest:
        units = changes.pop("units", 1)
        request = self.world.request(host, units, reports)
        return msgspec.structs.replace(request, **changes)

    async def post(
        self, host: Volunteer, request: WorkRequest, attached: bytes = b""
    ) -> httpx.Response:
        envelope = self.signed(host, request)
        return await self.client.post("/projects/tiny/work", content=envelope + b"\n" + attached)

    def signed(self, host: Volunteer, request: WorkRequest) -> bytes:
        sent = self.world.as_sent(request)
        return sign_payload(strict_json.encode(sent), PayloadType.WORK, host.key)

    def opened(self, answer: httpx.Response, request: WorkRequest) -> WorkReply:
        assert answer.status_code == 200, answer.text
        online = self.world.online.public
        reply = open_envelope(answer.content, PayloadType.WORK_REPLY, WorkReply, online)
        assert (reply.host, reply.in_reply_to) == (request.host, request.sequence)
        return msgspec.structs.replace(
            reply,
            manifests=self.world.by_row(reply.manifests),
            receipts=self.world.by_row(reply.receipts),
            verdicts=self.world.by_row(reply.verdicts),
        )

    async def enrol(self, host: Volunteer, **changes: Any) -> EnrolReply:
        request = EnrolRequest(
            protocols=[1],
            project="tiny",
            host_key=host.key.public,
            account_key=host.account_key.public,
            display_name=host.name,
            agent="test",
            issued_at=int(self.world.clock.now),
            expires_at=int(self.world.clock.now) + 60,
        )
        request = msgspec.structs.replace(request, **changes)
        body = sign_payload(
            strict_json.encode(request), PayloadType.ENROL, host.key, host.account_key
        )
        answer = await self.client.post("/projects/tiny/enrol", content=body)
        assert answer.status_code == 200, answer.text
        online = self.world.online.public
        return open_envelope(answer.content, PayloadType.ENROL_REPLY, EnrolReply, online)

    def result(self, host: Volunteer, manifest: Manifest, **changes: Any) -> tuple[Report, bytes]:
        """Return the report of a unit, and its packed delta."""
        delta = self.world.train(host, manifest)
        packed = pack(delta)
        result = DeltaResult(
            digest=digest_of(delta),
            size=len(packed),
            attached=True,
            loss_first=2.0,
            loss_last=1.0,
        )
        host.held = [held for held in host.held if held.assignment != manifest.assignment]
        return report(manifest, msgspec.structs.replace(result, **changes)), packed


@asynccontextmanager
async def http_world(
    tmp_path: Path,
    *,
    client: tuple[str, int] = ("203.0.113.7", 4242),
    config: CoordinatorConfig | None = None,
    url: str = URL,
    kind: type[World] = World,
    **options: Any,
) -> AsyncIterator[HttpWorld]:
    """Run the application in this event loop, for requests from the address `client`."""
    world = kind(tmp_path, **options)
    home = Home(tmp_path)
    for folder in home.folders:
        folder.mkdir(exist_ok=True)
    make_secret_file(home.secret_file, world.deps.secret)
    make_secret_file(home.online_key_file, world.online.to_bytes())
    web = build_app(home, config or CoordinatorConfig(), LinkBase(url), world.clock)
    transport = httpx.ASGITransport(web.app, client=client)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=URL) as found:
            yield HttpWorld(world, web, found)
    finally:
        web.close()
        world.store.close()


async def soon(check: Any, *, seconds: float = 5.0) -> None:
    """Wait until `check()` is true; fail when the time is over."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is checked sets no event
            await asyncio.sleep(0.01)
