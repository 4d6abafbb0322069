"""Secrets of the home: made once, readable by the user alone."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_secret"]


def read_secret(path: Path, size: int) -> bytes:
    """Return the secret in the file; a missing or damaged one is replaced by a new one."""
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if len(kept) == size:
        return kept
    made = secrets.token_bytes(size)
    write_durably(path, made, private=True)
    return made
