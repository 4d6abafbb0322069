"""Secret files: created once, readable only by their owner."""

from __future__ import annotations

import secrets
import stat
from typing import TYPE_CHECKING

from pleb_shared.errors import InputError
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import create_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SECRET_BYTES", "is_private", "make_secret_file", "read_online_key", "read_secret"]

SECRET_BYTES = 32


def make_secret_file(path: Path, content: bytes | None = None) -> bool:
    """Write 32 random bytes (or `content`), mode 600; return False if the file exists already."""
    try:
        create_private(path, secrets.token_bytes(SECRET_BYTES) if content is None else content)
    except FileExistsError:
        return False
    return True


def read_secret(path: Path) -> bytes:
    """Return the 32 bytes of a secret file.

    Raises:
        InputError: it is missing or has another length.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is missing. Restore it from a backup, or run `pleb-coordinator init`."
        raise InputError(message) from error
    if len(content) != SECRET_BYTES:
        message = f"{path} has {len(content)} bytes instead of {SECRET_BYTES}. Restore a backup."
        raise InputError(message)
    return content


def read_online_key(path: Path) -> SigningKey:
    """Return the online key.

    Raises:
        InputError: as `read_secret`.
    """
    return SigningKey.from_bytes(read_secret(path))


def is_private(path: Path) -> bool:
    """Whether only the owner may read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077
