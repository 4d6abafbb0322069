"""Asking agentd over loopback, and following its events, with nothing but a socket.

`http.client` alone would take 5 MB (it brings the e-mail parser), so the few lines of HTTP that
are needed are here: one request per connection, as HTTP/1.0, so that an answer is its bytes up
to the end (RFC 9112 sections 6.3 and 9.3) and never comes in chunks.

PlebError
├── NotRunningError      no agentd answers in this home
├── RefusedError         agentd refuses; the sentence is its own
└── BrokenStreamError    what came is not agentd's event stream
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Final, NamedTuple

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode
from pleb_system.processes import is_alive

__all__ = [
    "Agentd",
    "BrokenStreamError",
    "EventStream",
    "NotRunningError",
    "RefusedError",
    "read_place",
]

_ANSWER_SECONDS: Final = 5.0
_MOST_ANSWER_BYTES: Final = 8 * 2**20
_MOST_EVENT_BYTES: Final = 8 * 2**20


class NotRunningError(PlebError):
    """No agentd answers in this home: start it."""

    exit_code = ExitCode.NOT_RUNNING


class RefusedError(PlebError):
    """agentd refuses; the sentence is its own."""


class BrokenStreamError(PlebError):
    """What came is not agentd's event stream: connect again."""


class Agentd(NamedTuple):
    """Where agentd listens, and the secret that it asks for."""

    port: int
    token: str

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST a request; return the answer.

        Raises:
            NotRunningError: nothing answers.
            RefusedError: agentd refuses the request.
        """
        data = json.dumps(body).encode()
        request = self._head("POST", path, f"Content-Length: {len(data)}\r\n") + data
        try:
            head, _, answer = self._exchange(request).partition(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1] if b" " in head else b"")
            value = json.loads(answer)
        except (OSError, ValueError) as error:
            raise NotRunningError("The agent does not answer: start it again.") from error
        if status != 200:
            raise RefusedError(str(value.get("message") or "The agent refused this."))
        return value if isinstance(value, dict) else {}

    def follow(self) -> socket.socket:
        """Return a connection on which the events come.

        Raises:
            OSError: nothing listens.
        """
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_SECONDS)
        try:
            connection.sendall(self._head("GET", "events"))
            connection.setblocking(False)
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), _ANSWER_SECONDS) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
                if len(answer) > _MOST_ANSWER_BYTES:
                    raise OSError("The answer is too long.")
        return answer

    def _head(self, method: str, path: str, more: str = "") -> bytes:
        return (
            f"{method} /api/{path} HTTP/1.0\r\n"
            f"Host: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\n{more}\r\n"
        ).encode()


def read_place(home: str) -> Agentd:
    """Return the agentd that `HOME/agentd.json` names; whether it answers is another question.

    Raises:
        NotRunningError: there is no such file, or its process is dead: another program may listen
            there now.
    """
    try:
        with open(os.path.join(home, "agentd.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - pathlib takes 1 MB
            place = json.load(file)
        agentd, pid = Agentd(int(place["port"]), str(place["token"])), int(place["pid"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotRunningError("The agent is not running.") from error
    if not is_alive(pid):
        raise NotRunningError("The agent is not running.")
    return agentd


class EventStream:
    """One connection's bytes: the head of the answer, then events (WHATWG HTML, section 9.2)."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_body = False

    def feed(self, data: bytes) -> dict[str, Any] | None:
        """Return the newest status that is complete now; older ones are dropped.

        None: nothing new is complete yet.

        Raises:
            BrokenStreamError: agentd refuses (the token has changed), or it is not agentd.
        """
        self._rest += data
        if len(self._rest) > _MOST_EVENT_BYTES:
            raise BrokenStreamError("An event of the agent is too long.")
        if not self._in_body:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return None
            if head.split(b" ", 2)[1:2] != [b"200"]:
                raise BrokenStreamError("The agent does not let this tray watch it.")
            self._rest, self._in_body = rest, True
        events, found, rest = self._rest.rpartition(b"\n\n")
        if not found:
            return None
        self._rest = rest
        return _status(events.rpartition(b"\n\n")[2])


def _status(event: bytes) -> dict[str, Any] | None:
    """Return the status in an event; None where it carries none (a comment, to keep alive)."""
    lines = event.splitlines()
    data = b"\n".join(line[5:].lstrip() for line in lines if line.startswith(b"data:"))
    if not data:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise BrokenStreamError("An event of the agent is invalid.") from error
    return value if isinstance(value, dict) else None
