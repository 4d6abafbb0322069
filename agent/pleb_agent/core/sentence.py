"""A sentence for people that a page can translate: an English template and its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_shared.protocol.reasons import reason_template

if TYPE_CHECKING:
    from pleb_shared.protocol.reasons import Reason

__all__ = ["Sentence", "Value", "say", "say_reason"]

_PLAIN: Final = "{text}"


class Sentence(msgspec.Struct, frozen=True):
    """`template` is the key in the catalogues; `values` fill its braces (`str.format`).

    A value that is a sentence itself is translated too; a text is shown as it is.
    """

    template: str
    values: dict[str, str | int | float | Sentence] = {}

    def __str__(self) -> str:
        return self.template.format_map(self.values)


Value = str | int | float | Sentence


def say(text: str | Sentence, /, **values: Value) -> Sentence:
    """Return a sentence: of a template and its values, or of a text that is shown as it is."""
    if isinstance(text, Sentence):
        return text
    if values:
        return Sentence(text, dict(values))
    return Sentence(_PLAIN, {"text": text}) if "{" in text or "}" in text else Sentence(text)


def say_reason(reason: Reason | None) -> Sentence:
    """Return a coordinator's reason as a sentence."""
    if reason is None:
        return say("The coordinator gave no reason.")
    template, values = reason_template(reason)
    return Sentence(template, dict(values))
