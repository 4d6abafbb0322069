"""What this process can see of the session it lives in."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GraphicalSession", "Surroundings"]


class GraphicalSession(NamedTuple):
    """What logind knows. `kind`: "x11", "wayland" or "mir"; `display`: such as ":0", or ""."""

    kind: str
    display: str


class Surroundings(NamedTuple):
    """Where a session may be found. Empty strings: nowhere."""

    platform: str
    """As `sys.platform`."""
    display: str = ""
    """Of X11, such as ":0"."""
    compositor: str = ""
    """The socket of a Wayland compositor."""
    session_bus: str = ""
    system_bus: str = ""
    authority: str = ""
    """The file of X11's cookies."""
    sessions: tuple[GraphicalSession, ...] | None = None
    """The user's graphical sessions; None: there is no logind to ask."""

    @property
    def has_session(self) -> bool:
        """Whether there are signs of a session."""
        return bool(self.display or self.compositor or self.sessions)

    @property
    def has_buses(self) -> bool:
        """Whether this system tells of sessions by D-Bus."""
        return self.platform not in ("win32", "darwin")
