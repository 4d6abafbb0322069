"""The tray's sentences in the user's language.

The page's catalogues (`web/locales/XX.json`: English template -> translated one) have the sentences
that agentd says, `tray/locales/XX.json` has the menu's. Both are read only if the language is
not English, which is in the code.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.tray.look import Translate

__all__ = ["language_of", "preferred_language", "session_language", "words_in"]

_HERE: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes 1 MB
_FOLDERS: Final = (
    os.path.join(os.path.dirname(_HERE), "web", "locales"),  # noqa: PTH118, PTH120
    os.path.join(_HERE, "locales"),  # noqa: PTH118
)
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


def words_in(language: str, folders: tuple[str, ...] = _FOLDERS) -> Translate:
    """Return the function that says a template in this language; what it lacks, in English."""
    messages: dict[str, str] = {}
    if language != "en":
        for folder in folders:
            messages |= _catalogue(os.path.join(folder, f"{language}.json"))  # noqa: PTH118

    def say(template: str, /, **values: str | float) -> str:
        found = messages.get(template, template)
        return found.format_map(values) if values else found

    return say


def _catalogue(path: str) -> dict[str, str]:
    """Return a catalogue; an empty one where nobody has translated yet."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes 1 MB
            return {str(key): str(value) for key, value in json.load(file).items()}
    except FileNotFoundError:
        return {}
