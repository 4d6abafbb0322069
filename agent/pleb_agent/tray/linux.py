"""The tray on Linux: one loop that sleeps until the bus, agentd or an old tray says something.

Where no panel shows items of the bus, an XEmbed tray is looked for; where there is none either, the
loop waits until one comes. A launcher entry opens the page meanwhile.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.probe.backend import CannotRead
from pleb_agent.tray.bus import BusGoneError
from pleb_agent.tray.bus_tray import BusTray
from pleb_agent.tray.errors import NoDisplayError
from pleb_agent.tray.follower import AgentEndedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.tray.bus import SessionBus
    from pleb_agent.tray.look import Command, Look
    from pleb_agent.tray.tray import Tray
    from pleb_agent.tray.xembed import OldTray

__all__ = ["LinuxTray"]

OLD_TRAY_AFTER_SECONDS: Final = 3.0
"""A panel that is only being started, or restarted, gets so long before the old way is tried."""


class LinuxTray:
    """Shows one tray wherever this desktop shows such things."""

    def __init__(
        self,
        tray: Tray,
        bus: SessionBus | None,
        desktop: str,
        clock: Callable[[], float],
        open_old_tray: Callable[[Look, Callable[[Command], None]], OldTray],
    ) -> None:
        """`bus` None: this session has none; `open_old_tray` may raise NoDisplayError."""
        self._tray = tray
        self._clock = clock
        self._open_old_tray = open_old_tray
        self._old_tray: OldTray | None = None
        self._bus = bus
        self._bus_tray = BusTray(bus, tray.look, desktop, tray.obey) if bus else None
        self._old_tray_at: float | None = clock() + (OLD_TRAY_AFTER_SECONDS if bus else 0)

    def run(self) -> None:
        """Show the tray until the agent is stopped on purpose, or the session ends."""
        self._tray.on_look = self._show
        try:
            if self._bus_tray is not None:
                self._bus_tray.on_host = self._host_changed
                self._bus_tray.start()
            while not self._tray.ended:
                self._turn()
        except (BusGoneError, AgentEndedError):
            pass
        finally:
            self._close()

    def _turn(self) -> None:
        """Sleep until something happens; do what it asks for."""
        ready = select.select(self._waited_for(), [], [], self._seconds_left())[0]
        if self._bus is not None and self._bus.connection in ready:
            self._bus.turn()
        if self._old_tray is not None and self._old_tray in ready:
            self._with_old_tray(self._old_tray.turn)
        self._tray.follower.turn()
        if self._old_tray_at is not None and self._clock() >= self._old_tray_at:
            self._old_tray_at = None
            self._try_old_tray()

    def _waited_for(self) -> list[Any]:
        bus = self._bus.connection if self._bus is not None else None
        return [w for w in (bus, self._tray.follower.connection, self._old_tray) if w is not None]

    def _seconds_left(self) -> float | None:
        """Return how long may be slept; None: until something happens."""
        times = [t for t in (self._tray.follower.wake_at, self._old_tray_at) if t is not None]
        return max(0.0, min(times) - self._clock()) if times else None

    def _show(self, look: Look) -> None:
        if self._bus_tray is not None:
            self._bus_tray.show(look)
        if self._old_tray is not None:
            old_tray = self._old_tray
            self._with_old_tray(lambda: old_tray.show(look))

    def _with_old_tray(self, act: Callable[[], None]) -> None:
        """Do something with the old tray's icon; a display that is gone takes it along.

        Raises:
            BusGoneError: there is no bus either.
        """
        try:
            act()
        except CannotRead as error:
            self._old_tray = None
            if self._bus is None:
                raise BusGoneError from error

    def _host_changed(self) -> None:
        """The bus has a host: the old tray's icon goes. It has none: try the old one soon."""
        if self._bus_tray is not None and self._bus_tray.has_host:
            self._old_tray_at = None
            if self._old_tray is not None:
                self._old_tray.close()
                self._old_tray = None
        else:
            self._old_tray_at = self._clock() + OLD_TRAY_AFTER_SECONDS

    def _try_old_tray(self) -> None:
        try:
            self._old_tray = self._open_old_tray(self._tray.look, self._tray.obey)
        except NoDisplayError:
            if self._bus is None:
                raise  # nothing could ever be shown

    def _close(self) -> None:
        self._tray.follower.close()
        if self._old_tray is not None:
            self._old_tray.close()
        if self._bus is not None:
            self._bus.close()
