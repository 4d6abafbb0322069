"""Taking the newest status out of agentd's event stream. Pure: bytes in, status out."""

from __future__ import annotations

import json
from typing import Any, Final

from pleb_agent.tray.errors import BrokenStreamError

__all__ = ["EventStream"]

_MOST_BYTES: Final = 8 * 2**20


class EventStream:
    """One connection's bytes: the head of the answer, then events (WHATWG HTML, section 9.2)."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_body = False

    def feed(self, data: bytes) -> dict[str, Any] | None:
        """Return the newest status that is complete now; older ones are passed over.

        None: nothing new is complete yet.

        Raises:
            BrokenStreamError: agentd refuses (the token is another one now), or it is not agentd.
        """
        self._rest += data
        if len(self._rest) > _MOST_BYTES:
            raise BrokenStreamError("An event of the agent is too long.")
        if not self._in_body and not self._passed_head():
            return None
        events, found, rest = self._rest.rpartition(b"\n\n")
        if not found:
            return None
        self._rest = rest
        return _status(events.rpartition(b"\n\n")[2])

    def _passed_head(self) -> bool:
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return False
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise BrokenStreamError("The agent does not let this tray watch it.")
        self._rest, self._in_body = rest, True
        return True


def _status(event: bytes) -> dict[str, Any] | None:
    """Return the status in an event; None where it carries none (a comment, to keep alive)."""
    lines = event.splitlines()
    data = b"\n".join(line[5:].lstrip() for line in lines if line.startswith(b"data:"))
    if not data:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise BrokenStreamError("An event of the agent is not understood.") from error
    return value if isinstance(value, dict) else None
