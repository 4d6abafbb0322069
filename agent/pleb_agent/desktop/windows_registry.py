"""The current user's registry through `winreg`; imported on Windows alone."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["UserRegistry"]

if sys.platform == "win32":
    import winreg

    class UserRegistry:
        """Implements `windows_entries.Registry`."""

        def get(self, key: str, name: str) -> str | None:
            """Return a text value, or None if it is not there."""
            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, key) as opened:
                    return str(winreg.QueryValueEx(opened, name)[0])
            except FileNotFoundError:
                return None

        def set(self, key: str, name: str, value: str) -> None:
            """Write a text value, making the key."""
            with winreg.CreateKey(winreg.HKEY_CURRENT_USER, key) as opened:
                winreg.SetValueEx(opened, name, 0, winreg.REG_SZ, value)

        def delete_value(self, key: str, name: str) -> None:
            """Delete a value that may be missing."""
            with (
                suppress(FileNotFoundError),
                winreg.OpenKey(winreg.HKEY_CURRENT_USER, key, 0, winreg.KEY_SET_VALUE) as opened,
            ):
                winreg.DeleteValue(opened, name)

        def delete_tree(self, key: str) -> None:
            """Delete a key that may be missing, with all below it."""
            with suppress(FileNotFoundError):
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, key) as opened:
                    below = [
                        winreg.EnumKey(opened, number)
                        for number in range(winreg.QueryInfoKey(opened)[0])
                    ]
                for name in below:
                    self.delete_tree(key + "\\" + name)
                winreg.DeleteKey(winreg.HKEY_CURRENT_USER, key)
