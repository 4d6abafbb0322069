"""Linux and its relatives: where sessions are, and what tells of locks, films and others.

A service that was started before the session (or by cron) has neither DISPLAY nor
WAYLAND_DISPLAY; logind and the runtime folder know them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pleb_agent.probe.backend import CannotRead, NotHere
from pleb_agent.probe.bus import Bus, session_address, system_address
from pleb_agent.probe.films import ScreenKeptOn
from pleb_agent.probe.lock import ScreenSaverLock
from pleb_agent.probe.logind import SessionNews, graphical_sessions
from pleb_agent.probe.seat import LogindSeat
from pleb_agent.probe.surroundings import GraphicalSession, Surroundings
from pleb_agent.probe.x11_place import authority_file, parse_display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pleb_agent.probe.backend import Source

__all__ = ["look_around_linux", "other_sources", "session_news"]


def look_around_linux(environment: Mapping[str, str], platform: str) -> Surroundings:
    """Return what can be seen: by the environment, and where that is silent by logind."""
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


def other_sources(around: Surroundings) -> list[Source]:
    """Return what tells of locks, films and others; none of it is needed."""
    wanted: list[tuple[Callable[[Bus], Source], str]] = [
        (LogindSeat, around.system_bus),
        (ScreenSaverLock, around.session_bus),
    ]
    if not around.display or around.compositor:
        wanted.append((ScreenKeptOn, around.session_bus))
    return [source for kind, address in wanted for source in _opened(kind, address)]


def session_news(around: Surroundings) -> list[Source]:
    """Return what wakes us when sessions come and go, where there is a logind."""
    if around.sessions is None:
        return []
    return _opened(SessionNews, around.system_bus)


def _opened(kind: Callable[[Bus], Source], address: str) -> list[Source]:
    """Return one such source; none where it cannot be."""
    try:
        bus = Bus(address)
    except CannotRead:
        return []
    try:
        return [kind(bus)]
    except CannotRead:
        bus.close()
        return []


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
