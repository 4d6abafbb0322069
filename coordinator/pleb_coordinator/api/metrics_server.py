"""Answers Prometheus on a port of its own, from a thread of any process of the coordinator.

It is for the operator's network alone: nothing of it is served to volunteers.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Final

import psutil
from typing_extensions import override

from pleb_coordinator.api.metrics_text import family
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["MetricsServer", "process_lines"]

_CLIENT_SECONDS: Final = 5.0
"""One at a time is answered, so none may take longer to ask."""
_SECONDS_TO_END: Final = 0.2
_PROCESS: Final = psutil.Process()


class MetricsServer:
    """Serves `/metrics`, `/health` and `/ready` between `with`'s beginning and its end.

    Args:
        place: the address and port to listen on; port 0: any free one.
        lines: returns the lines of `/metrics`; called in the server's thread.
        fault: returns why the process cannot do its work, or an empty text.

    Raises:
        InputError: the address cannot be listened on.
    """

    def __init__(
        self,
        place: tuple[str, int],
        lines: Callable[[], Iterator[str]],
        fault: Callable[[], str] = lambda: "",
    ) -> None:
        try:
            self._server = HTTPServer(place, _handler(lines, fault))
        except (OSError, OverflowError) as error:
            message = (
                f"Metrics cannot be served at {place[0]}:{place[1]} ({error}): choose another "
                "`[metrics]` host or port in coordinator.toml."
            )
            raise InputError(message) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_SECONDS_TO_END,), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def process_lines(process: str) -> Iterator[str]:
    """Yield what every process says of itself."""
    labels = {"process": process}
    memory, times = _PROCESS.memory_info(), _PROCESS.cpu_times()
    for name, kind, help_text, value in (
        ("pleb_process_resident_bytes", "gauge", "Memory in use.", memory.rss),
        (
            "pleb_process_cpu_seconds_total",
            "counter",
            "Processor time.",
            times.user + times.system,
        ),
        ("pleb_process_start_seconds", "gauge", "When it began.", _PROCESS.create_time()),
    ):
        yield from family(name, kind, help_text, [(labels, value)])


def _handler(
    lines: Callable[[], Iterator[str]], fault: Callable[[], str]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_SECONDS
        server_version = "pleb-coordinator"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    try:
                        self._answer(HTTPStatus.OK, "\n".join(lines()))
                    except (PlebError, OSError, LookupError) as error:
                        self._answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
                case "/health":
                    self._answer(HTTPStatus.OK, "ok")
                case "/ready":
                    found = fault()
                    status = HTTPStatus.SERVICE_UNAVAILABLE if found else HTTPStatus.OK
                    self._answer(status, found or "ready")
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, "/metrics, /health or /ready")

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a scrape every few seconds is no news."""

    return Handler
