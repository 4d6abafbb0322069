"""A proxy with its default ceiling for bodies in front: whatever is uploaded gets through."""

from __future__ import annotations

import asyncio
import io
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from pleb_agent.client.coordinator import CoordinatorClient
from pleb_project.server.client import Address, Coordinator

CEILING = 2**20
"""nginx's client_max_body_size."""
SIZE = 5 * 2**20 + 3


@contextmanager
def proxied():
    """Yield the address of a server that takes an upload in small bodies only, and its bytes."""
    received = bytearray()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(204)

        def do_PATCH(self):
            size = int(self.headers["content-length"])
            body = self.rfile.read(size)
            if size > CEILING:
                self.answer(413)
                return
            assert int(self.headers["upload-offset"]) == len(received)
            received.extend(body)
            self.answer(204)

        def answer(self, status):
            self.send_response(status)
            self.send_header("Upload-Offset", str(len(received)))
            self.send_header("Upload-Length", str(SIZE))
            self.send_header("Upload-Complete", "?1" if len(received) == SIZE else "?0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def of_researcher(url, data):
    with Coordinator(Address(url)) as coordinator:
        coordinator.upload("0" * 48, data)


def of_agent(url, data):
    async def story():
        client = CoordinatorClient(url, None)
        try:
            await client.upload("0" * 48, io.BytesIO(data), len(data))
        finally:
            await client.close()

    asyncio.run(story())


@pytest.mark.parametrize("upload", [of_researcher, of_agent])
def test_uploads_pass_a_proxy_with_its_default_ceiling(upload):
    data = np.random.default_rng(0).bytes(SIZE)
    with proxied() as (url, received):
        upload(url, data)
        assert bytes(received) == data
