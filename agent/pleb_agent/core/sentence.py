"""A sentence for people that a page can translate: an English template and its values."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Sentence", "say"]

Value = str | int | float

_PLAIN: Final = "{text}"


class Sentence(msgspec.Struct, frozen=True):
    """`template` is the key in the catalogues; `values` fill its braces (`str.format`)."""

    template: str
    values: dict[str, Value] = {}

    def __str__(self) -> str:
        return self.template.format_map(self.values)


def say(text: str | Sentence, /, **values: Value) -> Sentence:
    """Return a sentence: of a template and its values, or of text that nobody can translate."""
    if isinstance(text, Sentence):
        return text
    if values:
        return Sentence(text, values)
    return Sentence(_PLAIN, {"text": text}) if "{" in text or "}" in text else Sentence(text)
