"""The error of a project file: the sentence, the place, the line itself with a caret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_project.definition.places import Place

__all__ = ["DefinitionError"]


class DefinitionError(InputError):
    """A project file is wrong at `place`; `sentence` says what to write instead."""

    def __init__(self, file: Path, text: str, place: Place, sentence: str) -> None:
        self.file, self.place, self.sentence = file, place, sentence
        super().__init__(f"{file}:{place.line}:{place.column}: {sentence}\n{_snippet(text, place)}")


def _snippet(text: str, place: Place) -> str:
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    margin = f"{place.line:>4} | "
    carets = "^" * max(1, min(place.length, len(line) - place.column + 1))
    below = f"{' ' * (len(margin) - 2)}| {' ' * (place.column - 1)}"
    return f"{margin}{line.expandtabs(1)}\n{below}{carets}"
