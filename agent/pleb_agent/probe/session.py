"""Where the desktop session may be found that this process lives in."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DesktopSession", "LogindSession"]


class LogindSession(NamedTuple):
    """A graphical session that logind knows. `kind`: "x11", "wayland" or "mir"."""

    kind: str
    display: str
    """Such as ":0", or ""."""


class DesktopSession(NamedTuple):
    """Empty strings: there is none."""

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
    of_logind: tuple[LogindSession, ...] | None = None
    """The user's graphical sessions; None: there is no logind to ask."""

    @property
    def exists(self) -> bool:
        """Whether there are signs of a session."""
        return bool(self.display or self.compositor or self.of_logind)

    @property
    def has_buses(self) -> bool:
        """Whether this system reports on sessions by D-Bus."""
        return self.platform not in ("win32", "darwin")
