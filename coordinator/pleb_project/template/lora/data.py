"""Windows of tokens of a text, for the tokenizer of the model in base/."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 32
HERE = Path(__file__).parent


def text() -> str:
    """Return what the model shall learn: put your own here, such as a file's text."""
    return "\n\n".join(topics[name] for name in sorted(topics))[:200_000]


def tokens() -> list[int]:
    """Return the text's tokens; bytes where the model has no tokenizer."""
    file = HERE / "base" / "tokenizer.json"
    if not file.exists():
        return list(text().encode())
    from tokenizers import Tokenizer  # type: ignore[import-not-found,unused-ignore]

    found: list[int] = Tokenizer.from_file(str(file)).encode(text()).ids
    return found


def examples() -> Iterator[dict[str, Any]]:
    """Yield `x` int64 [WINDOW] and `y`, the tokens that follow each."""
    found = np.array(tokens(), np.int64)
    for start in range(0, len(found) - WINDOW - 1, WINDOW):
        window = found[start : start + WINDOW + 1]
        yield {"x": window[:-1], "y": window[1:]}
