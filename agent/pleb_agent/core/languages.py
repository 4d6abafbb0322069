"""The languages that people can choose."""

from __future__ import annotations

from typing import Final

__all__ = ["LANGUAGES", "direction_of", "known_language"]

LANGUAGES: Final[dict[str, str]] = {"en": "English", "de": "Deutsch", "pl": "Polski"}
"""Tag and own name."""


_RIGHT_TO_LEFT: Final = frozenset({"ar", "fa", "he", "ur"})
"""Of languages that a catalogue may be made for."""


def direction_of(language: str) -> str:
    """Return in which direction a language is written: `ltr` or `rtl`, as HTML says it."""
    return "rtl" if language in _RIGHT_TO_LEFT else "ltr"


def known_language(tag: str) -> str | None:
    """Return the language among ours of a tag or a locale's name (`de-AT`, `de_AT.UTF-8`)."""
    language = tag.replace("_", "-").split("-")[0].lower()
    return language if language in LANGUAGES else None
