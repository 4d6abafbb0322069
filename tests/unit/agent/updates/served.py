"""A repository as an operator publishes it, on a web server that can break off and lie."""

from __future__ import annotations

import json
import tarfile
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import TYPE_CHECKING

from installers.build.repository import Publisher
from pleb_agent.program.installed import Installation, InstallKind, platform_tag, python_tag
from pleb_agent.updates.repository import Source
from tests.quiet_server import QuietServer

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """Serves a folder on loopback; remembers what was asked and how much was sent."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.break_after: list[int] = []
        """The next answers of targets end after so many bytes."""
        self.ignores_range = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, request):
        asked_range = request.headers.get("range", "")
        self.asked.append((request.path, asked_range))
        path = self.folder / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        size = path.stat().st_size
        start = 0 if self.ignores_range else int(asked_range[6:-1] or 0)
        request.send_response(206 if start else 200)
        if start:
            request.send_header("content-range", f"bytes {start}-{size - 1}/{size}")
        request.send_header("content-length", str(size - start))
        request.end_headers()
        length = size - start
        if "/targets/" in request.path and self.break_after:
            length = min(length, self.break_after.pop(0))
            request.close_connection = True
        with path.open("rb") as file:
            file.seek(start)
            while part := file.read(min(length, 2**20)):
                request.wfile.write(part)
                length -= len(part)
                self.sent += len(part) if "/targets/" in request.path else 0


class World:
    """An operator and an agent that was built for the operator's repository."""

    def __init__(self, folder: Path, server: Server, days_ago: float = 0):
        self.folder = folder
        self.server = server
        self.repository = server.folder
        self.publisher(days_ago=days_ago).init()
        self.root = (self.repository / "metadata" / "root.json").read_bytes()

    def publisher(self, *, days_ago: float = 0, keys: str = "keys") -> Publisher:
        now = datetime.now(UTC) - timedelta(days=days_ago)
        return Publisher(self.repository, self.folder / keys, now)

    def installation(self, kind=InstallKind.DEB, version="0.1.0", folder=None) -> Installation:
        return Installation(kind, version, folder, self.server.url, self.root)

    def source(self, name: str = "agent") -> Source:
        return Source(self.installation(), self.folder / name)

    def publish(
        self, facts: dict[str, object], files: dict[str, bytes], *, name="", **more
    ) -> Path:
        """Pack `files`, publish them; return where the server has the archive."""
        name = name or "-".join(str(facts[key]) for key in ("what", *facts) if key != "files")[:60]
        archive = self.folder / f"{name}.tar.gz"
        size = make_tar(archive, files)
        facts = {"unpacked_bytes": size, "files": len(files) + 9} | facts
        (self.folder / f"{archive.name}.json").write_text(json.dumps(facts))
        (path,) = self.publisher(**more).add([archive])
        (served,) = (self.repository / "targets" / path).parent.glob(f"*.{archive.name}")
        return served


def runtime_facts(kind="cpu", torch="2.13.0", **changes) -> dict[str, object]:
    facts = {"what": "runtime", "kind": kind, "python": python_tag(), "torch": torch}
    return facts | {"platform": platform_tag()} | changes


def agent_facts(version: str, **changes) -> dict[str, object]:
    return {"what": "agent", "version": version, "platform": platform_tag()} | changes


def make_tar(archive: Path, files: dict[str, bytes]) -> int:
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o755 if name.endswith("pleb-agent") else 0o644
            tar.addfile(member, BytesIO(data))
    return max(1, sum(map(len, files.values())))


@contextmanager
def a_world(folder: Path, *, days_ago: float = 0):
    with Server(folder / "repository") as server:
        yield World(folder, server, days_ago)
