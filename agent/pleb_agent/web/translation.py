"""Sentences in the reader's language. English is in the code; `locales/XX.json` has the others.

A catalogue maps an English template to a translated one; braces are filled by `str.format` and
have the same names on both sides. Two templates, for one and for several, are a plural. A
template that a catalogue lacks is shown in English. This module needs the standard library alone:
the tray uses it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.web.formats import FORMATS, Formats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.core.sentence import Sentence, Value

__all__ = ["LANGUAGES", "Words", "catalogue", "choose_language", "marked", "words_for"]

_LOCALES: Final = Path(__file__).parent / "locales"
LANGUAGES: Final[dict[str, str]] = {"en": "English", "de": "Deutsch"}
"""Tag and own name."""
_NAMES: Final = frozenset({"unit", "version", "planned"})
"""Numbers that name something, and are not grouped."""
_MOST_TAGS: Final = 20


def marked(text: str) -> str:
    """Return the text; it is in the catalogues, and translated where it is shown."""
    return text


@dataclass(frozen=True)
class Words:
    """One language's sentences and formats."""

    language: str
    formats: Formats
    messages: dict[str, str] = field(default_factory=dict, repr=False)

    def text(self, template: str, /, **values: Value) -> str:
        """Return the translated template, filled; values that are texts are in this language."""
        found = self.messages.get(template, template)
        if not values:
            return found
        local = self._local({name: one for name, one in values.items() if not isinstance(one, str)})
        return found.format_map(values | local)

    def several(self, one: str, many: str, count: float, /, **values: Value) -> str:
        """Return the template for this `{count}`, translated and filled."""
        return self.text(one if count == 1 else many, **(values | {"count": count}))

    def sentence(self, sentence: Sentence, fallback: str = "") -> str:
        """Return what the core said; `fallback` if its values do not fill its template."""
        try:
            return self._filled(sentence)
        except (KeyError, IndexError, ValueError):
            return fallback or sentence.template

    def _filled(self, sentence: Sentence) -> str:
        template = self.messages.get(sentence.template, sentence.template)
        return template.format_map(self._local(sentence.values))

    def _local(self, values: Mapping[str, Value]) -> dict[str, str | int | float]:
        return {name: self._local_value(name, value) for name, value in values.items()}

    def _local_value(self, name: str, value: Value) -> str | int | float:
        if isinstance(value, str):
            return self.formats.decimal_text(value)
        if isinstance(value, (int, float)):
            return value if name in _NAMES else self.formats.number(value)
        return self._filled(value)


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return a language's templates by the English ones; English itself needs none."""
    if language == "en":
        return {}
    data = json.loads((_LOCALES / f"{language}.json").read_text(encoding="utf-8"))
    return {str(key): str(value) for key, value in data.items()}


@cache
def words_for(language: str) -> Words:
    """Return a known language's words."""
    return Words(language, FORMATS[language], catalogue(language))


def choose_language(preferred: str, accepted: str) -> str:
    """Return the language to use.

    Args:
        preferred: the user's preference; empty: the browser decides.
        accepted: an Accept-Language header (RFC 9110 section 12.5.4), or a locale's name.
    """
    for tag in (preferred, *_ranked(accepted)):
        language = tag.replace("_", "-").split("-")[0].lower()
        if language in LANGUAGES:
            return language
    return "en"


def _ranked(accepted: str) -> list[str]:
    """Return the tags of an Accept-Language header, the best first."""
    ranked: list[tuple[float, str]] = []
    for item in accepted.split(",")[:_MOST_TAGS]:
        tag, _, weight = item.strip().partition(";q=")
        try:
            ranked.append((float(weight or 1), tag))
        except ValueError:
            continue
    return [tag for weight, tag in sorted(ranked, key=lambda pair: -pair[0]) if weight > 0]
