"""The user's language where the environment does not name it: on Windows and macOS."""

from __future__ import annotations

import sys

__all__ = ["system_language"]


def system_language() -> str:
    """Return a tag such as `de_DE`; empty where the system does not report it."""
    if sys.platform == "win32":
        import ctypes
        import locale

        number = ctypes.windll.kernel32.GetUserDefaultUILanguage()
        return locale.windows_locale.get(number, "")
    if sys.platform == "darwin":
        import subprocess

        command = ["defaults", "read", "-g", "AppleLocale"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return asked.stdout.strip()
    return ""
