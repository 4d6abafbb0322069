"""What this process can see of the session it lives in."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from pleb_agent.probe.backend import CannotRead, NotHere
from pleb_agent.probe.bus import Bus, session_address, system_address
from pleb_agent.probe.logind import GraphicalSession, graphical_sessions
from pleb_agent.probe.x11_place import authority_file, parse_display

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Surroundings", "look_around"]


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


def look_around(environment: Mapping[str, str], platform: str = sys.platform) -> Surroundings:
    """Return what can be seen: by the environment, and where that is silent by logind.

    A service that was started before the session (or by cron) has neither DISPLAY nor
    WAYLAND_DISPLAY; logind and the runtime folder know them.
    """
    if platform in ("win32", "darwin"):
        return Surroundings(platform)
    runtime_folder = _runtime_folder(environment)
    system_bus = system_address(environment)
    sessions = _sessions(system_bus)
    return Surroundings(
        platform,
        display=_local(environment.get("DISPLAY", "")) or _display_of(sessions or ()),
        compositor=_compositor(environment, runtime_folder, sessions or ()),
        session_bus=session_address(environment, runtime_folder),
        system_bus=system_bus,
        authority=authority_file(environment),
        sessions=sessions,
    )


def _runtime_folder(environment: Mapping[str, str]) -> str:
    """Return the folder of the session's sockets; systemd's usual one may not be there."""
    return environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"


def _sessions(system_bus: str) -> tuple[GraphicalSession, ...] | None:
    try:
        bus = Bus(system_bus)
    except CannotRead:
        return None
    try:
        return tuple(graphical_sessions(bus, os.getuid()))
    except CannotRead:
        return None
    finally:
        bus.close()


def _local(display: str) -> str:
    """Return the display, "" for one on another PC (`ssh -X`): its user sits there."""
    try:
        return parse_display(display).name if display else ""
    except NotHere:
        return ""


def _display_of(sessions: Sequence[GraphicalSession]) -> str:
    return next((each.display for each in sessions if each.kind == "x11" and each.display), "")


def _compositor(
    environment: Mapping[str, str], folder: str, sessions: Sequence[GraphicalSession]
) -> str:
    """Return the named socket; one in the folder where only the kind of session is known."""
    if named := environment.get("WAYLAND_DISPLAY"):
        return named if named.startswith("/") else f"{folder}/{named}"
    known = environment.get("XDG_SESSION_TYPE") == "wayland" or any(
        session.kind == "wayland" for session in sessions
    )
    return next(iter(_sockets(folder)), "") if known else ""


def _sockets(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.startswith("wayland-")]
            return sorted(each.path for each in found if stat.S_ISSOCK(each.stat().st_mode))
    except OSError:
        return []
