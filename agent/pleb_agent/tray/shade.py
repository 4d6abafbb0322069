"""What the panel behind the icon looks like, as far as a desktop reports it.

No desktop reports its panel's colour itself. GNOME's bar, and those derived from it, are always
dark; in Xfce "dark mode" is an option of the panel; Plasma's panel follows the colour scheme.
Everywhere else the icon in colour is shown, which can be seen on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress

from pleb_agent.tray.icons import Shade

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import EventBus

__all__ = ["ShadeWatch", "shade_of"]

_ALWAYS_DARK: Final = frozenset({"GNOME", "UNITY", "PANTHEON"})
_PORTAL: Final = DBusAddress(
    "/org/freedesktop/portal/desktop",
    "org.freedesktop.portal.Desktop",
    "org.freedesktop.portal.Settings",
)
_SCHEME: Final = ("org.freedesktop.appearance", "color-scheme")
_XFCONF: Final = DBusAddress("/org/xfce/Xfconf", "org.xfce.Xfconf", "org.xfce.Xfconf")
_XFCE_PANEL: Final = ("xfce4-panel", "/panels/dark-mode")


def shade_of(desktop: str, color_scheme: int = 0, *, xfce_dark_mode: bool | None = None) -> Shade:
    """Return the panel's shade.

    Args:
        desktop: `$XDG_CURRENT_DESKTOP`, names between colons.
        color_scheme: what the settings portal says: 1 dark, 2 light, 0 no preference.
        xfce_dark_mode: the panel's option; None: not known.
    """
    names = set(desktop.upper().split(":"))
    if names & _ALWAYS_DARK:
        return Shade.DARK
    if "XFCE" in names and xfce_dark_mode:
        return Shade.DARK
    if "KDE" in names:
        return {1: Shade.DARK, 2: Shade.LIGHT}.get(color_scheme, Shade.UNKNOWN)
    return Shade.UNKNOWN


class ShadeWatch:
    """Asks the desktop for the shade, and listens for changes."""

    def __init__(self, bus: EventBus, desktop: str, on_change: Callable[[], None]) -> None:
        self._bus = bus
        self._desktop = desktop
        self._on_change = on_change
        self._scheme = 0
        self._xfce: bool | None = None
        self.shade = shade_of(desktop)

    def start(self) -> None:
        """Ask what this desktop can say; answers come through the bus."""
        names = self._desktop.upper().split(":")
        if "KDE" in names:
            self._bus.listen(_PORTAL.interface, "SettingChanged", self._on_scheme_changed)
            self._bus.call(_PORTAL, "Read", "ss", _SCHEME, self._on_scheme)
        if "XFCE" in names:
            self._bus.listen(_XFCONF.interface, "PropertyChanged", self._on_xfce_changed)
            self._bus.call(_XFCONF, "GetProperty", "ss", _XFCE_PANEL, self._on_xfce)

    def _on_scheme(self, body: tuple[Any, ...] | None) -> None:
        if body is not None:
            self._take(scheme=_plain(body[0]))

    def _on_scheme_changed(self, body: tuple[Any, ...]) -> None:
        if body[:2] == _SCHEME:
            self._take(scheme=_plain(body[2]))

    def _on_xfce(self, body: tuple[Any, ...] | None) -> None:
        if body is not None:
            self._take(xfce=_plain(body[0]))

    def _on_xfce_changed(self, body: tuple[Any, ...]) -> None:
        if body[:2] == _XFCE_PANEL:
            self._take(xfce=_plain(body[2]))

    def _take(self, scheme: Any = None, xfce: Any = None) -> None:
        self._scheme = scheme if isinstance(scheme, int) else self._scheme
        self._xfce = xfce if isinstance(xfce, bool) else self._xfce
        shade = shade_of(self._desktop, self._scheme, xfce_dark_mode=self._xfce)
        if shade is not self.shade:
            self.shade = shade
            self._on_change()


def _plain(value: Any) -> Any:
    """Return the value inside of its variants; the portal's `Read` answers with two of them."""
    while isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    return value
