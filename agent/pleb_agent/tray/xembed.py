"""An icon in an XEmbed tray (trayer, stalonetray, tint2, old panels).

Source: https://specifications.freedesktop.org/systemtray-spec/ and .../xembed-spec/. Such a tray
knows no menus: a click opens the page, where everything is; the middle button pauses or resumes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pleb_agent.probe.backend import CannotRead
from pleb_agent.tray.errors import NoDisplayError
from pleb_agent.tray.icons import Shade, icon_of, png_path
from pleb_agent.tray.look import NAME
from pleb_agent.tray.png import read_png
from pleb_agent.tray.x_display import STRUCTURE_NOTIFY, Event, Happening, XDisplay, open_display

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.tray.look import Command, Look

__all__ = ["OldTray", "open_old_tray"]

_REQUEST_DOCK: Final = 0
_VERSION_AND_MAPPED: Final = (0, 1)
_MIDDLE_BUTTON: Final = 2
_SIZES: Final = (48, 32, 24, 22, 16)
_FIRST_SIZE: Final = 24
_P_MIN_SIZE: Final = 1 << 4
_SIZE_HINTS: Final = (_P_MIN_SIZE, 0, 0, 0, 0, _FIRST_SIZE, _FIRST_SIZE, *(11 * [0]))
"""flags, 4 obsolete, smallest width and height, and what is not flagged (ICCCM 4.1.2.3)."""


class OldTray:
    """Docks in the tray that there is, and in each that comes later."""

    def __init__(
        self, display: XDisplay, look: Look, on_command: Callable[[Command], None]
    ) -> None:
        self._display = display
        self._look = look
        self._on_command = on_command
        self._owner = 0
        self._window = 0
        self._selection = display.atom(f"_NET_SYSTEM_TRAY_S{display.screen}")
        self._announcement = (display.atom("MANAGER"), self._selection)
        """Type and second number of the message (the first is the time)."""
        display.watch(display.root, STRUCTURE_NOTIFY)
        self._dock()

    def fileno(self) -> int:
        """Return what to wait for."""
        return self._display.fileno()

    def show(self, look: Look) -> None:
        """Show another look."""
        self._look = look
        self._paint()
        self.turn()

    def turn(self) -> None:
        """Take what has come, also what comes while we ask something and is not seen by `select`.

        Raises:
            CannotRead: the display is gone.
        """
        while events := self._display.events():
            for event in events:
                self._take(event)

    def close(self) -> None:
        """Take the icon away."""
        self._display.close()

    def _take(self, event: Event) -> None:
        match event.kind:
            case Happening.BUTTON_PRESS if event.window == self._window:
                middle = event.button == _MIDDLE_BUTTON
                self._on_command(self._look.secondary if middle else self._look.primary)
            case Happening.EXPOSE | Happening.CONFIGURE if event.window == self._window:
                self._paint()
            case Happening.DESTROY if event.window in {self._owner, self._window}:
                self._undock()
                self._dock()
            case Happening.CLIENT_MESSAGE if event.numbers[0:3:2] == self._announcement:
                self._dock()
            case _:
                pass

    def _dock(self) -> None:
        """Ask the tray's owner to take our window; without an owner, wait for one."""
        display = self._display
        owner = display.selection_owner(self._selection)
        if not owner or self._window:
            return
        self._owner, self._window = owner, display.make_window(_FIRST_SIZE)
        display.watch(owner, STRUCTURE_NOTIFY)
        display.set_name(self._window, NAME)
        display.set_numbers(self._window, "WM_NORMAL_HINTS", "WM_SIZE_HINTS", _SIZE_HINTS)
        display.set_numbers(self._window, "_XEMBED_INFO", "_XEMBED_INFO", _VERSION_AND_MAPPED)
        opcode = display.atom("_NET_SYSTEM_TRAY_OPCODE")
        display.send(owner, opcode, (0, _REQUEST_DOCK, self._window, 0, 0))

    def _undock(self) -> None:
        """Forget a tray that is gone, and the window that it took."""
        self._display.destroy(self._window)
        self._owner = self._window = 0

    def _paint(self) -> None:
        if not self._window:
            return
        room = min(self._display.size(self._window))
        size = next((size for size in _SIZES if size <= room), _SIZES[-1])
        name = icon_of(self._look.state, Shade.UNKNOWN).name
        with open(png_path(name, size), "rb") as file:  # noqa: PTH123 - pathlib takes 1 MB
            image = read_png(file.read())
        self._display.set_name(self._window, f"{NAME}: {self._look.tooltip}")
        self._display.blend(self._window, image.rgba, image.width, image.height)


def open_old_tray(look: Look, on_command: Callable[[Command], None]) -> OldTray:
    """Return an icon that docks in this display's tray.

    Raises:
        NoDisplayError: there is no display.
    """
    try:
        tray = OldTray(open_display(os.environ), look, on_command)
        tray.turn()
    except CannotRead as error:
        raise NoDisplayError("There is no X display here, so no tray for an icon.") from error
    return tray
