"""A small agentd for the tray's tests: it serves `/api/events` and accepts requests, on loopback.

It keeps what the tray relies on: the token is required, events come with a status at once and
after each change, requests are answered with the status that follows from them, and an end or a
crash closes the streams. It can also refuse.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FakeAgentd", "status_of"]

TOKEN = "a-token-of-this-test"


def status_of(activity: str = "working", override: str = "none", **more: Any) -> dict[str, Any]:
    """Return a status with the fields of `control.views.StatusView` that faces read."""
    sentence = f"The agent is {activity}."
    return {
        "running": True,
        "activity": activity,
        "sentence": sentence,
        "message": {"text": sentence, "template": sentence, "values": {}},
        "override": {"kind": override, "until": None},
        "unit": None,
        "units_finished": 0,
    } | more


class FakeAgentd:
    """Serves until `stop`; `requests` has (name, body) of each request that came."""

    def __init__(self, home: Path, status: dict[str, Any] | None = None) -> None:
        self.status = status or status_of()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.refusal = ""
        """Not empty: the sentence with which every request is refused."""
        self.events_sent = 0
        self._streams: list[queue.SimpleQueue[bytes | None]] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        place = {"pid": os.getpid(), "port": self._server.server_port, "token": TOKEN}
        (home / "agentd.json").write_text(json.dumps(place), "utf-8")

    @property
    def watchers(self) -> int:
        """How many event streams are open."""
        return len(self._streams)

    def change(self, status: dict[str, Any]) -> None:
        """Take another status and tell it."""
        self.status = status
        for stream in list(self._streams):
            stream.put(self._event())

    def stop(self) -> None:
        """Close every stream and every connection, as a process does that ends or is killed."""
        for stream in list(self._streams):
            stream.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def open_stream(self) -> queue.SimpleQueue[bytes | None]:
        stream: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream.put(self._event())
        self._streams.append(stream)
        return stream

    def close_stream(self, stream: queue.SimpleQueue[bytes | None]) -> None:
        self._streams.remove(stream)

    def take(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the answer to a request."""
        self.requests.append((name, body))
        if self.refusal:
            return 400, {"message": self.refusal, "exit_code": 1}
        if name == "page":
            return 200, {"url": f"http://127.0.0.1:{self._server.server_port}/open?code=once"}
        followed = {
            "pause": status_of("paused", "pause"),
            "boost": status_of("working", "boost"),
            "resume": status_of(),
            "stop": status_of("stopped", running=False),
        }
        self.change(followed[name])
        return 200, self.status

    def _event(self) -> bytes:
        return b"data: " + json.dumps(self.status).encode() + b"\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, agentd: FakeAgentd) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.agentd = agentd


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if not self._is_admitted() or self.path != "/api/events":
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        stream = self.server.agentd.open_stream()
        try:
            while (event := stream.get()) is not None:
                self.wfile.write(event)
                self.server.agentd.events_sent += 1
        except OSError:
            pass  # the tray has gone
        finally:
            self.server.agentd.close_stream(stream)

    def do_POST(self) -> None:
        if not self._is_admitted():
            self.send_error(403)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        code, answer = self.server.agentd.take(self.path.removeprefix("/api/"), body)
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass

    def _is_admitted(self) -> bool:
        port = self.server.server_port
        return (
            self.headers["Authorization"] == f"Bearer {TOKEN}"
            and self.headers["Host"] == f"127.0.0.1:{port}"
        )
