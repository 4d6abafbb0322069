"""Text of strangers on a terminal: names, reasons, titles and error messages come from afar."""

from __future__ import annotations

__all__ = ["shown", "shown_line"]


def shown(text: str) -> str:
    r"""Return `text` with everything that a terminal would obey spelled out, as in \x1b[2J.

    That is control characters, the escapes that they begin, and signs that turn the direction
    of writing; line breaks and tabs stay.
    """
    return "\n".join(map(shown_line, text.split("\n")))


def shown_line(text: str) -> str:
    """As `shown`, for what has to stay on one line: line breaks are spelled out too."""
    return text if text.isprintable() else "".join(map(_shown_character, text))


def _shown_character(character: str) -> str:
    if character.isprintable() or character == "\t":
        return character
    return character.encode("unicode_escape").decode("ascii")
