"""A server of releases on loopback: paths are files, or addresses to redirect to."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Releases(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes | str] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Releases

    def do_GET(self) -> None:
        found = self.server.files.get(self.path)
        if isinstance(found, str):
            self.send_response(302)
            self.send_header("location", found)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(404 if found is None else 200)
        self.send_header("content-length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_releases() -> Iterator[Releases]:
    server = Releases()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
