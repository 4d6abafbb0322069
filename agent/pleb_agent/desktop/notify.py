"""Showing a notification: by D-Bus on Linux, osascript on macOS, PowerShell on Windows.

Nothing is lost where it cannot be shown: the page's history has it too.
Source: freedesktop.org Desktop Notifications Specification 1.2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.desktop.markup import in_markup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Notifier", "notifier"]

_SECONDS: Final = 5.0


class Notifier(Protocol):
    """Shows notifications."""

    def show(self, title: str, body: str) -> None:
        """Show one. Blocks for some seconds at most.

        Raises:
            OSError: this system shows no notifications.
        """


def notifier() -> Notifier:
    """Return the notifier of the system that this runs on."""
    if sys.platform == "win32":
        return WindowsNotifier()
    if sys.platform == "darwin":
        return MacNotifier()
    return DBusNotifier()


class DBusNotifier:
    """Linux and the BSDs."""

    def show(self, title: str, body: str) -> None:
        """Show one."""
        from jeepney import DBusAddress

        from pleb_agent.dbus.bus import open_bus, session_address
        from pleb_agent.dbus.stream import ServiceError

        server = DBusAddress(
            "/org/freedesktop/Notifications",
            bus_name="org.freedesktop.Notifications",
            interface="org.freedesktop.Notifications",
        )
        hints = {"desktop-entry": ("s", "pleb-agent"), "urgency": ("y", 0)}
        text = in_markup(body)
        values: tuple[Any, ...] = ("Pleb-Cluster", 0, "pleb-agent", title, text, [], hints, -1)
        try:
            with open_bus(
                session_address(os.environ), timeout_seconds=_SECONDS, start_services=True
            ) as bus:
                bus.call(server, "Notify", "susssasa{sv}i", values)
        except ServiceError as error:
            raise OSError(f"no notification server answers ({error})") from error


class MacNotifier:
    """macOS. Texts go in as arguments, never as code."""

    _SCRIPT: Final = (
        "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
    )

    def show(self, title: str, body: str) -> None:
        """Show one."""
        _run(["osascript", "-e", self._SCRIPT, title, body], {})


class WindowsNotifier:
    """Windows 10 and later. Texts go in through the environment, never as code."""

    _SCRIPT: Final = """
$ErrorActionPreference = 'Stop'
[Windows.UI.Notifications.ToastNotificationManager,Windows.UI.Notifications,ContentType=WindowsRuntime] > $null
$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02
$toast = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)
$texts = $toast.GetElementsByTagName('text')
$said = ConvertFrom-Json $env:PLEB_NOTIFICATION
$texts.Item(0).AppendChild($toast.CreateTextNode($said[0])) > $null
$texts.Item(1).AppendChild($toast.CreateTextNode($said[1])) > $null
$shown = [Windows.UI.Notifications.ToastNotification]::new($toast)
[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier('Pleb-Cluster').Show($shown)
"""  # noqa: E501 - PowerShell's names are long

    def show(self, title: str, body: str) -> None:
        """Show one."""
        command = ["powershell", "-NoProfile", "-NonInteractive", "-Command", self._SCRIPT]
        _run(command, {"PLEB_NOTIFICATION": json.dumps([title, body])})


def _run(command: list[str], more: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=_SECONDS, env=os.environ | more
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]} shows no notification ({error})") from error
