"""One connection of a client, bounded before any request is understood.

uvicorn bounds neither the size of a request's head nor the time that it may take, and it reads
on while requests wait that were sent before their answers. So a stranger could send a head of
gigabytes, a letter a minute, or a million requests in one connection. Here:

- a head and everything else that is no body (trailers, the frames of chunks) has `HEAD_BYTES`;
- a head has `HEAD_SECONDS` from its first byte, or from the connection's start;
- what is not read (a body after its answer) is taken for as long, then the connection is closed;
- an answer that is not read for `WRITE_SECONDS` is given up;
- a connection waits for the next request `IDLE_SECONDS`;
- connections are counted, in all and for each address. One that waits for a request makes room
  for a newer one; if all are busy, the newer one is refused.

How long a body may take is `api.requests.read_body`'s to say.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pleb_coordinator.api.addresses import AddressPlaces, subscriber
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.messages import RefusalBody

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

__all__ = ["IDLE_SECONDS", "BoundedConnection", "Connections"]

HEAD_BYTES: Final = 32 * 1024
"""Ours have 300 bytes; a browser may have cookies of other programs on the same host."""
HEADERS: Final = 100
HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 75
WRITE_SECONDS: Final = 300.0
"""An agent that is allowed 1 KB/s takes what the system's buffers hold in less."""
PIPELINED: Final = 8
"""Requests that were sent before the answers to earlier ones; no client of ours sends any."""


class Connections:
    """Every connection of the process, and which of them only wait for a request.

    Args:
        most: in all; they need a file each.
        most_each: of one network address.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._places = AddressPlaces(most, most_each)
        self._waiting: OrderedDict[BoundedConnection, None] = OrderedDict()
        """The one that waits longest first; and the same for each subscriber."""
        self._waiting_of: dict[str, OrderedDict[BoundedConnection, None]] = {}

    @property
    def open(self) -> int:
        """How many there are."""
        return self._places.taken

    def enter(self, owner: str) -> str:
        """Count a new connection of a `subscriber`; return why it is refused, or nothing."""
        if self._places.is_full_for(owner) and not self._drop_one(self._waiting_of.get(owner)):
            return "Your network address has too many connections: close some."
        if self._places.is_full() and not self._drop_one(self._waiting):
            return "The coordinator has too many connections: try again in a moment."
        self._places.take(owner)
        return ""

    def leave(self, connection: BoundedConnection) -> None:
        """Take back what `enter` counted."""
        self.note_busy(connection)
        self._places.give_back(connection.owner)

    def note_waiting(self, connection: BoundedConnection) -> None:
        """Note that it waits for a request: it is dropped before one that is answered."""
        self._waiting[connection] = None
        self._waiting_of.setdefault(connection.owner, OrderedDict())[connection] = None

    def note_busy(self, connection: BoundedConnection) -> None:
        """Note that it does not."""
        if connection in self._waiting:
            del self._waiting[connection]
            del self._waiting_of[connection.owner][connection]
            if not self._waiting_of[connection.owner]:
                del self._waiting_of[connection.owner]

    def _drop_one(self, waiting: OrderedDict[BoundedConnection, None] | None) -> bool:
        if not waiting:
            return False
        next(iter(waiting)).drop()
        return True


class _TooMuchError(Exception):
    """Raised inside of the parser's callbacks; uvicorn then calls `send_400_response`."""


class BoundedConnection(HttpToolsProtocol):
    """One connection: uvicorn's, with bounds."""

    def __init__(self, known: Connections, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._known = known
        self._refusal: Refusal | None = None
        self._overhead_bytes = 0
        """Of this request, but for its body."""
        self._header_bytes = 0
        """In whole lines; a line without an end is among the overhead only."""
        self._body_bytes = 0
        """Among the bytes that are being parsed."""
        self._has_place = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.owner = ""

    @property
    def is_answering(self) -> bool:
        """Whether there is a request without a whole answer."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's type says never None
        return cycle is not None and not cycle.response_complete

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.owner = subscriber(self.client[0] if self.client else "")
        if why := self._known.enter(self.owner):
            self._refuse(Refusal(RefusalCode.RATE_LIMITED, why, retry_after_seconds=10))
            return
        self._has_place = True
        self._wait_for_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        self._body_bytes = 0
        super().data_received(data)
        self._overhead_bytes += len(data) - self._body_bytes
        if self.transport.is_closing():
            return
        if self._overhead_bytes > HEAD_BYTES:
            self._refusal = _head_too_large()
            self.send_400_response("")
        elif self.is_answering:
            self._stop_waiting_for_head()
        elif self._head_timer is None:
            self._wait_for_head()

    @override
    def on_message_begin(self) -> None:
        self._overhead_bytes = self._header_bytes = 0
        if len(self.pipeline) >= PIPELINED:
            message = "Too many requests came before the answers to earlier ones: wait for them."
            self._refusal = Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=1)
            raise _TooMuchError
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if len(self.headers) > HEADERS or self._header_bytes > HEAD_BYTES:
            self._refusal = _head_too_large()
            raise _TooMuchError

    @override
    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_answering and not self.transport.is_closing():
            self._known.note_waiting(self)

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one that exceeds a bound."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.is_answering and cycle is not None and cycle.response_started:
            self.drop()
            return
        malformed = Refusal(RefusalCode.MALFORMED, "This is not a request of HTTP/1.1.")
        self._refuse(self._refusal or malformed)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.drop)

    @override
    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def drop(self) -> None:
        """Close at once, whatever was not sent yet."""
        self._leave()
        self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        too_large = refusal.code is RefusalCode.TOO_LARGE  # of a head, it has its own status
        status = 431 if too_large else refusal.http_status
        body = msgspec.json.encode(RefusalBody(code=refusal.code, message=refusal.message))
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
        self.transport.write(STATUS_LINE[status] + head + b"%d\r\n\r\n" % len(body) + body)
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._known.note_waiting(self)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.drop)

    def _stop_waiting_for_head(self) -> None:
        self._known.note_busy(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _leave(self) -> None:
        self._stop_waiting_for_head()
        self._unset_keepalive_if_required()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._has_place:
            self._has_place = False
            self._known.leave(self)


def _head_too_large() -> Refusal:
    message = (
        f"The head of the request has more than {HEAD_BYTES} bytes or {HEADERS} lines: "
        "send fewer headers or cookies."
    )
    return Refusal(RefusalCode.TOO_LARGE, message)
