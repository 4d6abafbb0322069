"""Wayland: the compositor signals when a seat becomes idle and when it is used again.

Two protocols do that: `ext_idle_notifier_v1` (whose second version can ignore programs that keep
the screen on) and KDE's older `org_kde_kwin_idle`. wlroots' `zwlr_foreign_toplevel_manager_v1`
reports full screens. Opcodes are from `ext-idle-notify-v1.xml`, `idle.xml` of plasma-wayland-
protocols and `wlr-foreign-toplevel-management-unstable-v1.xml`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pleb_agent.dbus.stream import ServiceError
from pleb_agent.probe.backend import QUIET_SECONDS
from pleb_agent.probe.wayland_wire import Message, WaylandConnection, read_words

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WaylandBackend"]

_NOTIFIER: Final = "ext_idle_notifier_v1"
_GET_NOTIFICATION, _GET_INPUT_NOTIFICATION = 1, 2
_KWIN_IDLE: Final = "org_kde_kwin_idle"
_GET_TIMEOUT: Final = 0
_IDLED, _RESUMED = 0, 1
"""The same numbers in both protocols."""

_TOPLEVELS: Final = "zwlr_foreign_toplevel_manager_v1"
_NEW_TOPLEVEL, _STATE, _CLOSED, _DESTROY = 0, 4, 6, 7
_FIRST_SERVER_ID: Final = 0xFF000000
_ACTIVATED, _FULLSCREEN = 2, 3


class WaylandBackend:
    """Watches one compositor. Until the first idle time the PC counts as in use.

    Raises:
        ServiceError: the compositor offers neither protocol, or has no seat.
        ServiceLost: it is gone.
    """

    method: Final = "Wayland"
    locked = False
    in_use = False

    def __init__(self, connection: WaylandConnection, clock: Callable[[], float]) -> None:
        self._wayland = connection
        self._clock = clock
        self._idle_since: dict[int, float | None] = dict.fromkeys(self._request_notifications())
        self._filling: set[int] = set()
        if windows := connection.offered(_TOPLEVELS):  # it reports the windows' states
            connection.bind(windows[0], 2)

    @property
    def fullscreen(self) -> bool:
        """Whether the active window fills its screen, where the compositor reports it."""
        return bool(self._filling)

    def fileno(self) -> int:
        """Return the connection, readable when a seat becomes idle or active."""
        return self._wayland.fileno()

    def close(self) -> None:
        """Leave the compositor."""
        self._wayland.close()

    def arm(self) -> None:
        """Do nothing: the compositor always signals."""

    def idle_seconds(self) -> float:
        """Return how long the least idle seat has been idle; 0 while one is in use."""
        return min(
            0.0 if since is None else self._clock() - since for since in self._idle_since.values()
        )

    def take(self) -> None:
        """Take in the compositor's events."""
        while events := self._wayland.events():
            for event in events:
                self._handle(event)

    def _handle(self, event: Message) -> None:
        if event.target in self._idle_since:
            idled = event.opcode == _IDLED
            self._idle_since[event.target] = self._clock() - QUIET_SECONDS if idled else None
        elif event.target < _FIRST_SERVER_ID:
            return  # no window's
        elif event.opcode == _STATE:
            fills = {_ACTIVATED, _FULLSCREEN} <= set(read_words(event.body))
            (self._filling.add if fills else self._filling.discard)(event.target)
        elif event.opcode == _CLOSED:
            self._filling.discard(event.target)
            self._wayland.send(event.target, _DESTROY)

    def _request_notifications(self) -> list[int]:
        """Return one notification's object for each seat."""
        seats = [self._wayland.bind(seat, 1) for seat in self._wayland.offered("wl_seat")]
        if not seats:
            raise ServiceError("The Wayland compositor has no seat with a mouse or keyboard.")
        milliseconds = int(QUIET_SECONDS * 1000)
        if notifiers := self._wayland.offered(_NOTIFIER):
            opcode = _GET_INPUT_NOTIFICATION if notifiers[0].version >= 2 else _GET_NOTIFICATION
            source = self._wayland.bind(notifiers[0], 2)
            return [self._request(source, opcode, (milliseconds, seat)) for seat in seats]
        if idles := self._wayland.offered(_KWIN_IDLE):
            source = self._wayland.bind(idles[0], 1)
            return [self._request(source, _GET_TIMEOUT, (seat, milliseconds)) for seat in seats]
        raise ServiceError("This Wayland compositor does not report whether the PC is in use.")

    def _request(self, source: int, opcode: int, arguments: tuple[int, int]) -> int:
        number = self._wayland.new_id()
        self._wayland.send(source, opcode, struct.pack("=III", number, *arguments))
        return number
