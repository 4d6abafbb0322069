"""The languages that people can choose."""

from __future__ import annotations

from typing import Final

__all__ = ["LANGUAGES", "known_language"]

LANGUAGES: Final[dict[str, str]] = {"en": "English", "de": "Deutsch"}
"""Tag and own name."""


def known_language(tag: str) -> str | None:
    """Return the language among ours of a tag or a locale's name (`de-AT`, `de_AT.UTF-8`)."""
    language = tag.replace("_", "-").split("-")[0].lower()
    return language if language in LANGUAGES else None
