"""Text of strangers before people's eyes: names, reasons, titles and error messages come from afar.

On a terminal and on a page alike, a letter that cannot be seen or that turns the direction of
writing makes one name look like another. Every face passes its text through here, in one place
each: `Output` and the logs' formatters, and the `finalize` of both pages' templates.
"""

from __future__ import annotations

from typing import Final

__all__ = ["shown", "shown_line"]

_SELECTORS: Final = ((0x180B, 0x180F), (0xFE00, 0xFE0D), (0xE0100, 0xE01EF))
_BLANK: Final = frozenset(
    [*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"]
    + [chr(n) for first, last in _SELECTORS for n in range(first, last + 1)]
)
"""Printable to Python, and yet nothing is seen: fillers, joiners, and all selectors of a letter's
variant (Unicode's Default_Ignorable_Code_Point) but the two by which an emoji is drawn."""
_SPACES: Final = "\t\u00a0\u202f\u3000"
"""As wide as they look, and some languages need them: no-break spaces and the wide one."""


def shown(text: str) -> str:
    r"""Return `text` with everything that commands or deceives spelled out, as in \x1b[2J.

    That is control characters, the escapes that they begin, signs that turn the direction of
    writing, and letters without a shape; line breaks and tabs stay.
    """
    return "\n".join(map(shown_line, text.split("\n")))


def shown_line(text: str) -> str:
    """As `shown`, for what has to stay on one line: line breaks are spelled out too."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown_character, text))


def _shown_character(character: str) -> str:
    if character in _SPACES or (character.isprintable() and character not in _BLANK):
        return character
    return character.encode("unicode_escape").decode("ascii")
