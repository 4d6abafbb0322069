"""What is known of the panel's colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.tray.icons import Shade
from pleb_agent.tray.linux import ShadeWatch, shade_of

if TYPE_CHECKING:
    from jeepney import DBusAddress


@pytest.mark.parametrize(
    ("desktop", "scheme", "xfce", "shade"),
    [
        ("", 0, None, Shade.UNKNOWN),
        ("", 1, True, Shade.UNKNOWN),
        ("ubuntu:GNOME", 2, None, Shade.DARK),
        ("Unity", 0, None, Shade.DARK),
        ("Pantheon", 0, None, Shade.DARK),
        ("XFCE", 0, True, Shade.DARK),
        ("XFCE", 0, False, Shade.UNKNOWN),
        ("XFCE", 1, None, Shade.UNKNOWN),
        ("KDE", 0, None, Shade.UNKNOWN),
        ("KDE", 1, None, Shade.DARK),
        ("KDE", 2, None, Shade.LIGHT),
        ("MATE", 1, None, Shade.UNKNOWN),
        ("sway", 1, None, Shade.UNKNOWN),
    ],
)
def test_shade(desktop: str, scheme: int, xfce: bool | None, shade: Shade) -> None:
    assert shade_of(desktop, scheme, xfce_dark_mode=xfce) is shade


class Desktop:
    """The calls of a bus that a shade watch makes, answered by the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reply: Any = None
        self.signal: Any = None

    def call(self, address: DBusAddress, member: str, *parts: Any) -> None:
        self.asked.append(f"{address.bus_name} {member}")
        self.reply = parts[-1]

    def listen(self, interface: str, member: str, on_signal: Any) -> None:
        self.signal = on_signal


def watch(name: str) -> tuple[Desktop, ShadeWatch, list[Shade]]:
    desktop, changes = Desktop(), list[Shade]()
    found = ShadeWatch(desktop, name, lambda: changes.append(found.shade))  # type: ignore[arg-type]
    found.start()
    return desktop, found, changes


def test_plasma_reports_its_scheme_and_each_change() -> None:
    desktop, found, changes = watch("KDE")

    desktop.reply((("v", ("u", 1)),))
    desktop.signal(("org.freedesktop.appearance", "color-scheme", ("u", 2)))
    desktop.signal(("org.freedesktop.appearance", "color-scheme", ("u", 2)))
    desktop.signal(("org.kde.kdeglobals", "color-scheme", ("u", 1)))

    assert changes == [Shade.DARK, Shade.LIGHT]
    assert found.shade is Shade.LIGHT


def test_xfce_reports_its_panels_option() -> None:
    desktop, _, changes = watch("XFCE")

    desktop.reply((("b", True),))
    desktop.signal(("xfce4-panel", "/panels/dark-mode", ("b", False)))
    desktop.signal(("xfwm4", "/panels/dark-mode", ("b", True)))

    assert changes == [Shade.DARK, Shade.UNKNOWN]


@pytest.mark.parametrize("name", ["KDE", "XFCE"])
def test_a_desktop_that_does_not_answer_changes_nothing(name: str) -> None:
    desktop, found, changes = watch(name)
    desktop.reply(None)

    assert changes == []
    assert found.shade is Shade.UNKNOWN


def test_a_desktop_without_such_a_setting_is_not_asked() -> None:
    desktop, _, _ = watch("GNOME:GNOME-Classic")
    assert desktop.asked == []
