"""The tray's sentences in the user's language."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.tray.look import Translate

__all__ = ["language_of", "preferred_language", "session_language", "system_language", "words_in"]

_VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""In gettext's order."""


def preferred_language(home: str) -> str:
    """Return the language that the user chose on the page; empty: the session's."""
    try:
        with open(os.path.join(home, "preferences.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            return str(json.load(file).get("language") or "")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""  # agentd reports what is wrong with the file


def language_of(preferred: str, environment: Mapping[str, str]) -> str:
    """Return the two letters of the preferred language, or of the session's."""
    found = (environment[name] for name in _VARIABLES if environment.get(name))
    name = preferred or next(found, "en")
    letters = name.split(":")[0].replace("_", "-").split("-")[0].split(".")[0].lower()
    return letters if letters.isalpha() and letters.isascii() else "en"


def session_language(environment: Mapping[str, str]) -> str:
    """Return the session's language; Windows and macOS do not have it in the environment."""
    return language_of("" if sys.platform == "linux" else system_language(), environment)


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


def words_in(language: str) -> Translate:
    """Return the function that translates and fills a template; what is missing stays English."""
    translated: dict[str, str] = {}
    if language != "en":
        from pleb_agent.translation.catalogue import messages

        translated = messages(language)

    def say(template: str, /, **values: str | float) -> str:
        found = translated.get(template, template)
        return found.format_map(values) if values else found

    return say
