"""A coordinator that serves blobs alone, by the product's own handlers, and counts their bytes.

    python -m benchmarks.peers_server HOME ADDRESS PORT [KEY]

ADDRESS `::` is IPv4, too. With the KEY of its hosts it names those that share to each other. HOME
has blobs as a coordinator keeps them. A line on stdin is answered by the bytes that were sent of
each blob since the last one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from pleb_agent.program.clock import system_clock
from pleb_coordinator.api.blob_files import blob, parts
from pleb_coordinator.api.blob_keys import BlobKeys
from pleb_coordinator.api.counters import RequestCounters
from pleb_coordinator.api.peers import Peers
from pleb_coordinator.api.requests import address_of
from pleb_coordinator.api.routes import route
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import LeafCache
from pleb_coordinator.core.peers import choose
from pleb_shared.protocol.peers import Sharing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from pleb_coordinator.api.context import Api


class _Shares(msgspec.Struct):
    host: int
    sharing: Sharing | None


async def _main(home: Path, address: str, port: int, key: str) -> None:
    blobs = LocalBlobs(home)
    context = SimpleNamespace(
        deps=SimpleNamespace(blobs=blobs),
        counters=RequestCounters(),
        leaves=LeafCache(blobs),
        blob_keys=BlobKeys(blobs),
    )
    api = cast("Api", context)

    async def sink(request: Request) -> Response:
        async for _ in request.stream():
            pass
        return Response()

    peers = Peers(system_clock)

    async def share(request: Request) -> Response:
        said = msgspec.json.decode(await request.body(), type=_Shares)
        place = ("p", said.host, address_of(request), said.sharing)
        named = peers.near(*place)
        peers.seen(*place, [key])
        found = choose(named.candidates, {one.host: () for one in named.candidates}, [])
        return Response(msgspec.json.encode({"peers": found, "reached": named.reached}))

    routes = [
        Route("/share", share, methods=["POST"]),
        Route("/sink", sink, methods=["POST"]),
        route(api, "GET", "/blobs/{digest}", blob),
        route(api, "GET", "/parts/{digest}", parts),
    ]
    app, sent = Starlette(routes=routes), Counter[str]()

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and "/blobs/" in scope["path"]:
                sent[scope["path"].rpartition("/")[2]] += len(message.get("body", b""))

        await app(scope, receive, counted)

    config = uvicorn.Config(counting, log_level="error", lifespan="off", timeout_keep_alive=75)
    server = uvicorn.Server(config)
    both = ":" in address
    family = socket.AF_INET6 if both else socket.AF_INET
    listening = socket.create_server((address, port), family=family, dualstack_ipv6=both)
    serving = asyncio.create_task(server.serve([listening]))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    _say(ready=True)
    while await lines.readline():
        _say(sent=dict(sent))
        sent.clear()
    server.should_exit = True
    await serving


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    folder, listens, at, *known_by = sys.argv[1:]
    asyncio.run(_main(Path(folder), listens, int(at), *(known_by or [""])))
