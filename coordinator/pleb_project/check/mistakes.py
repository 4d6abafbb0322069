"""What an error in a researcher's code means, and what to write instead: one sentence.

`meanings` has a table of patterns over torch's own messages. Errors that are not in it are shown in
their own words, with the line, which is the second-best sentence.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_project.check.meanings import sentence
from pleb_shared.errors import GraphError, PlebError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["explained", "is_own", "own_line", "shown_line"]


def explained(error: Exception, what: str, folder: Path) -> PlebError:
    """Return one sentence for an error in the researcher's code, with the line in their folder.

    Args:
        error: anything that was raised while `what` ran.
        what: such as `loss()`.
        folder: the project's.
    """
    if isinstance(error, PlebError):
        return error
    place = own_line(error, folder)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own_words = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    said = (sentence(error) or own_words).rstrip(".")
    return GraphError(f"{what} cannot be used{place}: {said}.")


def own_line(error: BaseException, folder: Path) -> str:
    """Return ` (file, line 9: code)` of the error's innermost frame in `folder`; empty: none."""
    for one in _chain(error):
        frames = traceback.extract_tb(one.__traceback__)
        own = [frame for frame in frames if is_own(frame.filename, folder)]
        if own:
            return shown_line(own[-1])
    return ""


def is_own(file: str, folder: Path) -> bool:
    """Whether a file is the researcher's: in the folder, but of no package that is installed.

    Code that was made of a text, such as a dataclass's or an operator's, has a name like <string>.
    """
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    return path.is_relative_to(folder.resolve()) and "site-packages" not in path.parts


def shown_line(frame: traceback.FrameSummary, more: str = "") -> str:
    """Return ` (file, line 9: code)`; `more` goes before the closing bracket."""
    return f" ({frame.filename}, line {frame.lineno}: {(frame.line or '').strip()}{more})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
