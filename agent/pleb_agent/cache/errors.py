"""Errors of the cache.

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
    """The quota is too small for what one unit needs."""


class DiskFullError(PlebError):
    """The disk is full or cannot be written; the agent waits and tries again."""


class CorruptBlobError(PlebError):
    """Bytes do not match their digest; they were deleted."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise an `OSError` as a `DiskFullError`."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        what = "is full" if full else f"cannot be written ({error.strerror})"
        raise DiskFullError(f"The disk {what}: free some space; the agent waits.") from error
