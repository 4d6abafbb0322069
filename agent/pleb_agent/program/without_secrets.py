"""Taking secrets out of texts that are shown to strangers."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["without_secrets"]

_PASSWORD: Final = re.compile(r"(?<=://)[^/\s\"'@]+:[^/\s\"'@]+(?=@)")
_LONG_SECRET: Final = re.compile(
    r"((?:account|token|invite|reader|code|secret|password|authorization)[\"']?\s*[=: ]\s*[\"']?"
    r"(?:Bearer )?)([A-Za-z0-9_+/=.-]{8,})",
    re.IGNORECASE,
)


def without_secrets(text: str, home_folder: str) -> str:
    """Return the text without passwords, tokens, account keys and the user's folder."""
    text = _PASSWORD.sub("***", text)
    text = _LONG_SECRET.sub(r"\1***", text)
    return text.replace(home_folder, "~") if len(home_folder) > 1 else text
