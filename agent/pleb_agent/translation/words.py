"""Sentences in the reader's language: gettext finds the template, `str.format` fills it.

Braces have the same names in a template and its translations. A template that a catalogue lacks is
shown in English.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from pleb_agent.core.languages import known_language
from pleb_agent.translation.catalogue import catalogue
from pleb_agent.translation.formats import FORMATS, Formats

if TYPE_CHECKING:
    import gettext
    from collections.abc import Mapping

    from pleb_agent.core.sentence import Sentence, Value

__all__ = ["Words", "choose_language", "marked", "words_for"]

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
    translations: gettext.NullTranslations

    def text(self, template: str, /, **values: Value) -> str:
        """Return the translated template, filled; values that are texts are in this language."""
        return self._formatted(self._translated(template), values)

    def plural(self, one: str, many: str, count: float, /, **values: Value) -> str:
        """Return the form of a template for this `{count}`, translated and filled.

        The language's own rule chooses the form: Polish and Russian have three. Fractions take the
        form of 2, which is right in these languages ("1.5 minutes").
        """
        whole = int(count) if float(count).is_integer() else 2
        template = self.translations.ngettext(one, many, whole)
        return self._formatted(template, values | {"count": count})

    def sentence(self, sentence: Sentence, fallback: str = "") -> str:
        """Return what the core said; `fallback` if its values do not fill its template."""
        try:
            return self._filled(sentence)
        except (KeyError, IndexError, ValueError):
            return fallback or sentence.template

    def _filled(self, sentence: Sentence) -> str:
        return self._translated(sentence.template).format_map(self._local(sentence.values))

    def _translated(self, template: str) -> str:
        """Gettext has the catalogue's header under the empty text."""
        return self.translations.gettext(template) if template else ""

    def _formatted(self, template: str, values: Mapping[str, Value]) -> str:
        if not values:
            return template
        local = self._local({name: one for name, one in values.items() if not isinstance(one, str)})
        return template.format_map({**values, **local})

    def _local(self, values: Mapping[str, Value]) -> dict[str, str | int | float]:
        return {name: self._local_value(name, value) for name, value in values.items()}

    def _local_value(self, name: str, value: Value) -> str | int | float:
        if isinstance(value, str):
            return self.formats.decimal_text(value)
        if isinstance(value, (int, float)):
            return value if name in _NAMES else self.formats.number(value)
        return self._filled(value)


@cache
def words_for(language: str) -> Words:
    """Return the words of one of the `core.languages`."""
    return Words(language, FORMATS[language], catalogue(language))


def choose_language(preferred: str, accepted: str) -> str:
    """Return the language to use.

    Args:
        preferred: the user's preference; empty: the browser decides.
        accepted: an Accept-Language header (RFC 9110 section 12.5.4), or a locale's name.
    """
    for tag in (preferred, *_ranked(accepted)):
        if language := known_language(tag):
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
