"""The tray's sentences in the user's language."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.tray.look import Translate

__all__ = ["language_of", "preferred_language", "session_language", "words_in"]

_VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""In the order in which gettext asks them."""


def preferred_language(home: str) -> str:
    """Return the language that the user chose on the page; empty: the session's."""
    try:
        with open(os.path.join(home, "preferences.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            return str(json.load(file).get("language") or "")
    except (OSError, ValueError, AttributeError):
        return ""  # agentd tells the user what is wrong with the file


def language_of(preferred: str, environment: Mapping[str, str]) -> str:
    """Return the two letters of the language to speak: the preferred one or the session's."""
    told = (environment.get(name, "") for name in _VARIABLES)
    name = preferred or next((value for value in told if value), "en")
    letters = name.split(":")[0].replace("_", "-").split("-")[0].split(".")[0].lower()
    return letters if letters.isalpha() and letters.isascii() else "en"


def session_language(environment: Mapping[str, str]) -> str:
    """Return the session's language, also where the environment does not tell it."""
    told = ""
    if sys.platform != "linux":
        from pleb_agent.tray.system_language import system_language

        told = system_language()
    return language_of(told, environment)


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
