"""S3 servers that the tests start themselves, and a proxy that spoils the answers of one.

moto's has the most of S3, but asks nobody who they are. nanio keeps objects as files, verifies
every signature, and knows no more than the requests that clients need.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pleb_coordinator.blobs.s3 import S3Blobs
from tests.postgres import free_port
from tests.quiet_server import QuietServer

KEYS: Final[Mapping[str, Any]] = {"access_key_id": "pleb", "secret_access_key": "secret"}
if TYPE_CHECKING:
    from collections.abc import Mapping

_buckets = count()
_PROGRAM: Final = """
import sys
from moto.server import ThreadedMotoServer
ThreadedMotoServer("127.0.0.1", int(sys.argv[1])).start()
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass
class S3Server:
    """A running server."""

    endpoint: str
    folder: Path | None = None
    """Where a bucket is a folder, of a server that wants a signature for making one."""

    def new_bucket(self) -> str:
        """Return the name of an empty bucket."""
        name = f"bucket-{os.getpid()}-{next(_buckets)}"
        if self.folder is not None:
            (self.folder / name).mkdir()
            return name
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request).close()
        return name

    def new_blobs(self) -> S3Blobs:
        """Return a blob store in a bucket of its own."""
        url = f"s3://{self.new_bucket()}/some/where"
        return S3Blobs(url, endpoint=self.endpoint, region="us-east-1", **KEYS)


@functools.cache
def shared_s3() -> S3Server:
    """Return moto's server of this process of tests; it stops with the process."""
    port = free_port()
    process = _started([sys.executable, "-c", _PROGRAM, str(port)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline(), "moto is missing: make setup"
    _await(process, port)
    return S3Server(f"http://127.0.0.1:{port}")


@functools.cache
def shared_nanio() -> S3Server:
    """Return nanio's server of this process of tests; it stops with the process."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="pleb-nanio-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = ["serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    process = _started([sys.executable, "-m", "nanio", *words])
    _await(process, port)
    return S3Server(f"http://127.0.0.1:{port}", folder)


def _started(command: list[str], stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a server that ends with this process."""
    environment = {
        "PYTHONPATH": str(Path(sys.prefix) / "s3-server"),
        "NANIO_ACCESS_KEY": KEYS["access_key_id"],
        "NANIO_SECRET_KEY": KEYS["secret_access_key"],
    }
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.kill()
        process.wait()

    atexit.register(stop)
    return process


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        assert process.poll() is None, "a server of the tests has ended: make setup"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("A server of the tests does not answer.")


@dataclass
class Fault:
    """What the proxy does to the next requests of these methods."""

    times: int
    methods: tuple[str, ...] = ("GET", "PUT", "HEAD", "DELETE", "POST")
    status: int = 0
    """Answered instead of the server's; 0: its own."""
    delay_seconds: float = 0.0
    spoil: bool = False
    """Change the body's first byte."""
    spoil_sent: bool = False
    """Change the first byte of what is sent to it."""
    cut: bool = False
    """Close the connection without an answer."""
    only_bodies: bool = False
    """Leave listings as they are."""
    after: bool = False
    """Do what was asked, and fail only then."""


@dataclass
class FaultyProxy:
    """Passes requests to a server, and does what `faults` says to some."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    keep_host: bool = False
    """Show the server the name that the client asked for, which a signature covers."""
    requests: int = 0
    received: int = 0
    """Bytes of bodies."""
    spoiled: int = 0

    def __enter__(self) -> Self:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                proxy._answer(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any  # noqa: N815

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.only_bodies and "list-type" in path:
                continue
            if fault.times and method in fault.methods:
                fault.times -= 1
                self.spoiled += 1
                return fault
        return None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        self.received += len(body)
        fault = self._fault(handler.command, handler.path)
        if fault is not None:
            time.sleep(fault.delay_seconds)
        if fault is not None and fault.cut:
            handler.close_connection = True
            return
        if fault is not None and fault.spoil_sent and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        headers: dict[str, str] = {}
        status, content = fault.status if fault else 0, b""
        if not status or (fault and fault.after):
            found, headers, content = self._pass_on(handler, body)
            status = status or found
        if fault is not None and fault.status:
            headers, content = {}, b"<Error><Code>SlowDown</Code></Error>"
        if fault is not None and fault.spoil and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        handler.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                handler.send_header(name, value)
        length = headers.get("Content-Length") if handler.command == "HEAD" else None
        handler.send_header("Content-Length", length or str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def _pass_on(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        left_out = {"connection"} if self.keep_host else {"connection", "host"}
        kept = {n: v for n, v in handler.headers.items() if n.lower() not in left_out}
        kept.setdefault("Content-Type", "application/octet-stream")  # else urllib's: a form
        request = urllib.request.Request(
            self.target + handler.path, body or None, kept, method=handler.command
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()
