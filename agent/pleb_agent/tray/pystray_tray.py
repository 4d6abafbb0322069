"""The tray on Windows and macOS, through pystray.

The system's event loop keeps the main thread, as macOS demands; a second thread follows agentd.
Its looks are shown by the main thread on macOS (`call_on_main_thread`); on Windows the
calls that pystray makes may come from any thread.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.tray.follower import AgentEndedError
from pleb_agent.tray.icons import Shade, icon_of, png_path
from pleb_agent.tray.look import NAME, PROGRESS, Command, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.tray.look import Look, State
    from pleb_agent.tray.tray import Tray

__all__ = ["FollowerThread", "SystemIcon", "menu_lines", "run"]

_SIZE: Final = 48
_LONGEST_TOOLTIP: Final = 127
"""What Windows shows (NOTIFYICONDATAW.szTip, 128 with the final null)."""


class SystemIcon(Protocol):
    """The icon of a system, or a fake."""

    def show(self, look: Look) -> None:
        """Show another look; may be called by any thread."""

    def end(self) -> None:
        """Take the icon away and end the event loop; may be called by any thread."""


class FollowerThread(threading.Thread):
    """Follows agentd and carries out clicks, both in this thread, so that nothing is locked."""

    def __init__(self, tray: Tray, icon: SystemIcon) -> None:
        super().__init__(name="follower", daemon=True)
        self._tray = tray
        self._icon = icon
        self._clicks: list[Command] = []
        # Sockets, since `select` on Windows knows nothing else.
        self._wake_read, self._wake_write = socket.socketpair()

    def click(self, command: Command) -> None:
        """Let the thread carry out a command; may be called by any thread.

        After the end it does nothing: the icon is about to go.
        """
        self._clicks.append(command)
        with suppress(OSError):
            self._wake_write.send(b"!")

    def run(self) -> None:
        """Work until the agent is stopped on purpose."""
        self._tray.on_look = self._icon.show
        follower = self._tray.follower
        try:
            while not self._tray.ended:
                if follower.wait(self._wake_read):
                    self._wake_read.recv(64)
                while self._clicks:
                    self._tray.carry_out(self._clicks.pop(0))
                follower.turn()
        except AgentEndedError:
            pass
        finally:
            follower.close()
            self._wake_read.close()
            self._wake_write.close()
            self._icon.end()


def menu_lines(menu: tuple[Entry, ...]) -> list[Entry]:
    """Return the entries that are visible now; no separator is first, last or doubled.

    The progress is left to the tooltip: pystray can only rebuild a menu, which would close an
    open one each second.
    """
    found: list[Entry] = []
    for entry in menu:
        if not entry.visible or entry.number == PROGRESS:
            continue
        if entry.separator and (not found or found[-1].separator):
            continue
        found.append(entry)
    return found[:-1] if found and found[-1].separator else found


def tooltip_of(look: Look) -> str:
    """Return the tooltip, as long as Windows shows it."""
    text = f"{NAME}: {look.tooltip}" + (f"\n{look.progress}" if look.progress else "")
    return text if len(text) <= _LONGEST_TOOLTIP else f"{text[: _LONGEST_TOOLTIP - 1]}…"


def run(tray: Tray) -> None:
    """Show the tray; must be called by the main thread."""
    icon = _PystrayIcon(tray.look)
    icon.run(FollowerThread(tray, icon))


class _PystrayIcon:
    def __init__(self, look: Look) -> None:
        import pystray

        self._pystray = pystray
        self._click: Callable[[Command], None] = lambda _: None  # nothing follows agentd yet
        self._look = look
        menu = self._menu(look.menu, look.primary)
        self._icon = pystray.Icon("pleb-agent", _image(look.state), tooltip_of(look), menu)

    def run(self, follower: FollowerThread) -> None:
        """Begin to follow as soon as the icon is there; return when it is gone."""
        self._click = follower.click

        def ready(icon: Any) -> None:
            call_on_main_thread(lambda: setattr(icon, "visible", True))
            follower.start()

        if sys.platform == "darwin":
            # An accessory (NSApplicationActivationPolicyAccessory) is not in the Dock, also when
            # it runs outside of our bundle.
            import AppKit

            AppKit.NSApplication.sharedApplication().setActivationPolicy_(1)
        self._icon.run(ready)

    def show(self, look: Look) -> None:
        call_on_main_thread(lambda: self._show(look))

    def end(self) -> None:
        call_on_main_thread(self._icon.stop)

    def _show(self, look: Look) -> None:
        before, self._look = self._look, look
        if before.state is not look.state:
            self._icon.icon = _image(look.state)
        self._icon.title = tooltip_of(look)
        if menu_lines(before.menu) != menu_lines(look.menu):
            self._icon.menu = self._menu(look.menu, look.primary)

    def _menu(self, menu: tuple[Entry, ...], primary: Command | None) -> Any:
        return self._pystray.Menu(*(self._line(entry, primary) for entry in menu_lines(menu)))

    def _line(self, entry: Entry, primary: Command | None) -> Any:
        if entry.separator:
            return self._pystray.Menu.SEPARATOR
        if entry.children:
            return self._pystray.MenuItem(entry.label, self._menu(entry.children, None))

        def choose(_icon: Any, _item: Any) -> None:
            if entry.command is not None:
                self._click(entry.command)

        return self._pystray.MenuItem(
            entry.label,
            choose,
            default=entry.command is not None and entry.command is primary,
            enabled=entry.enabled,
        )


def call_on_main_thread(act: Callable[[], None]) -> None:
    """Let the main thread do this, where the system demands it."""
    if sys.platform == "darwin":
        from PyObjCTools import AppHelper

        AppHelper.callAfter(act)
    else:
        act()


def _image(state: State) -> Any:
    from PIL import Image

    with Image.open(png_path(icon_of(state, _shade()).name, _SIZE)) as file:
        return file.copy()


def _shade() -> Shade:
    """Return what the bar looks like: Windows reports it; macOS's follows the wallpaper."""
    if sys.platform == "win32":
        import winreg

        path = r"Software\Microsoft\Windows\CurrentVersion\Themes\Personalize"
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
                light = winreg.QueryValueEx(key, "SystemUsesLightTheme")[0]
        except OSError:  # Windows before 10 1903 has no such setting
            return Shade.UNKNOWN
        return Shade.LIGHT if light else Shade.DARK
    return Shade.UNKNOWN
