"""Secrets of the home: made once, readable by the user alone."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

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
    beside = path.with_name(path.name + ".part")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(made)
    beside.replace(path)
    return made
