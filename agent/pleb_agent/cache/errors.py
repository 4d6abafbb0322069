"""What can go wrong with the cache.

PlebError
CacheFullError, DiskFullError, CorruptBlobError
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CacheFullError", "CorruptBlobError", "DiskFullError", "disk_errors"]


class CacheFullError(PlebError):
    """The quota does not suffice for what one unit needs."""


class DiskFullError(PlebError):
    """The disk is full or cannot be written; the agent waits and looks again."""


class CorruptBlobError(PlebError):
    """Downloaded bytes are not what the digest says; they were thrown away."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what a disk says into our error."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        what = "is full" if full else f"cannot be written ({error.strerror})"
        raise DiskFullError(f"The disk {what}: free some room; the agent waits.") from error
