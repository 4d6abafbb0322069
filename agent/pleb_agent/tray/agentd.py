"""Asking agentd over loopback with nothing but a socket.

`http.client` alone would take 5 MB (it brings the e-mail parser), so the few lines of HTTP that
are needed stand here: one request per connection, as HTTP/1.0, so that an answer is its bytes up
to the end (RFC 9112 sections 6.3 and 9.3) and never comes in chunks.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Final, NamedTuple

from pleb_agent.program.alive import is_alive
from pleb_agent.tray.errors import NotRunningError, RefusedError

__all__ = ["Agentd", "read_place"]

_ANSWER_SECONDS: Final = 5.0
_MOST_ANSWER_BYTES: Final = 8 * 2**20


class Agentd(NamedTuple):
    """Where agentd listens, and the secret that it wants to hear."""

    port: int
    token: str

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST a wish; return the answer.

        Raises:
            NotRunningError: nobody answers.
            RefusedError: agentd refuses the wish.
        """
        try:
            status, answer = _split(self._exchange(path, body))
            value = json.loads(answer)
        except (OSError, ValueError) as error:
            raise NotRunningError("The agent does not answer: start it again.") from error
        if status != 200:
            raise RefusedError(str(value.get("message") or "The agent refused this."))
        return value if isinstance(value, dict) else {}

    def follow(self) -> socket.socket:
        """Return a connection on which the events come.

        Raises:
            OSError: nobody listens.
        """
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_SECONDS)
        try:
            connection.sendall(self._head("GET", "events"))
            connection.setblocking(False)
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, path: str, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        head = self._head("POST", path, f"Content-Length: {len(data)}\r\n")
        with socket.create_connection(("127.0.0.1", self.port), _ANSWER_SECONDS) as connection:
            connection.sendall(head + data)
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
        NotRunningError: there is no such file, or its process lives no more: whoever listens
            there now is a stranger.
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


def _split(answer: bytes) -> tuple[int, bytes]:
    """Return status and body of an answer.

    Raises:
        ValueError: it is no HTTP.
    """
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1] if b" " in head else b""), body
