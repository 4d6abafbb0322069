"""Linux and its relatives: where the session is, and the sources other than the backend.

A service that was started before the session (or by cron) has neither DISPLAY nor
WAYLAND_DISPLAY; logind and the runtime folder know them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pleb_agent.dbus.bus import Bus, open_bus, session_address, system_address
from pleb_agent.dbus.stream import ServiceError, ServiceMissing
from pleb_agent.probe.bus_sources import (
    LogindSeat,
    ScreenInhibit,
    ScreenSaverLock,
    SessionChanges,
    graphical_sessions,
)
from pleb_agent.probe.session import DesktopSession, LogindSession
from pleb_agent.probe.x11_place import authority_file, parse_display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pleb_agent.probe.backend import Source

__all__ = ["find_linux_session", "open_session_changes", "open_sources"]


def find_linux_session(environment: Mapping[str, str], platform: str) -> DesktopSession:
    """Return the session, by the environment and, where that does not say, by logind."""
    # systemd's usual folder; it may not be there
    runtime_folder = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    system_bus = system_address(environment)
    of_logind: tuple[LogindSession, ...] | None
    try:
        with open_bus(system_bus) as bus:
            of_logind = graphical_sessions(bus, os.getuid())
    except ServiceError:
        of_logind = None
    displays = [each.display for each in of_logind or () if each.kind == "x11" and each.display]
    return DesktopSession(
        platform,
        display=_local(environment.get("DISPLAY", "")) or next(iter(displays), ""),
        compositor=_compositor(environment, runtime_folder, of_logind or ()),
        session_bus=session_address(environment, runtime_folder),
        system_bus=system_bus,
        authority=authority_file(environment),
        of_logind=of_logind,
    )


def open_sources(session: DesktopSession) -> list[Source]:
    """Return the sources of locks, other users and full screens; none of them is needed."""
    wanted: list[tuple[Callable[[Bus], Source], str]] = [
        (LogindSeat, session.system_bus),
        (ScreenSaverLock, session.session_bus),
    ]
    if not session.display or session.compositor:
        wanted.append((ScreenInhibit, session.session_bus))
    return [source for kind, address in wanted for source in _opened(kind, address)]


def open_session_changes(session: DesktopSession) -> list[Source]:
    """Return what wakes the probe when sessions come and go, where there is a logind."""
    return [] if session.of_logind is None else _opened(SessionChanges, session.system_bus)


def _opened(kind: Callable[[Bus], Source], address: str) -> list[Source]:
    """Return one such source; none where it cannot be opened."""
    try:
        bus = open_bus(address)
    except ServiceError:
        return []
    try:
        return [kind(bus)]
    except ServiceError:
        bus.close()
        return []


def _local(display: str) -> str:
    """Return the display, "" for one on another PC (`ssh -X`): its user sits there."""
    try:
        return parse_display(display).name if display else ""
    except ServiceMissing:
        return ""


def _compositor(
    environment: Mapping[str, str], folder: str, of_logind: tuple[LogindSession, ...]
) -> str:
    """Return the named socket; one in the folder where only the kind of session is known."""
    if named := environment.get("WAYLAND_DISPLAY"):
        return named if named.startswith("/") else f"{folder}/{named}"
    kinds = {environment.get("XDG_SESSION_TYPE"), *(session.kind for session in of_logind)}
    if "wayland" not in kinds:
        return ""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.startswith("wayland-")]
            sockets = sorted(each.path for each in found if stat.S_ISSOCK(each.stat().st_mode))
    except OSError:
        return ""
    return next(iter(sockets), "")
