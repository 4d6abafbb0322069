"""What the probe reports: one JSON array a line, each the whole state.

`pleb_agent.sensors.presence` reads them. Its commands come as words, one a line: `ask` (report the
state now), `watch` (input must be reported quickly), `relax` (it need not be).
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

__all__ = ["NO_SESSION_LINE", "Line", "unreadable"]


class Line(NamedTuple):
    """`idle_seconds`, `locked` and `fullscreen` are those of a readable session."""

    kind: Literal["readable", "no_session", "unreadable"]
    method: str = ""
    """How the session is read: "X11", "GNOME", "Wayland", "Windows", "macOS"."""
    idle_seconds: float = 0.0
    locked: bool = False
    fullscreen: bool = False
    problem: str = ""
    """Of an unreadable session: one sentence."""

    def encode(self) -> bytes:
        """Return the line with its end."""
        return json.dumps(self).encode() + b"\n"


NO_SESSION_LINE = Line("no_session")


def unreadable(problem: str, method: str = "") -> Line:
    """Return the line of a session that is there, but cannot be read."""
    return Line("unreadable", method=method, problem=problem)
