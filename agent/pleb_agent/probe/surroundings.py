"""What this process can see of the session it lives in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GraphicalSession", "Surroundings", "look_around"]


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


def look_around(environment: Mapping[str, str], platform: str = sys.platform) -> Surroundings:
    """Return what can be seen from here."""
    around = Surroundings(platform)
    if not around.has_buses:
        return around
    from pleb_agent.probe.linux import look_around_linux  # jeepney is installed on Linux only

    return look_around_linux(environment, platform)
