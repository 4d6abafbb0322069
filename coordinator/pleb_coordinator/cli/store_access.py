"""How commands reach the store, and what steps need when an operator calls them."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.keys import read_online_key, read_secret
from pleb_coordinator.steps import Deps
from pleb_coordinator.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.home.layout import Home

__all__ = ["deps_of", "now", "opened"]


@contextlib.contextmanager
def opened(home: Home) -> Iterator[SqliteStore]:
    """Open the home's store; it may be served at the same time.

    Raises:
        InputError: there is no home, or its store is of another version.
    """
    read_config(home.config_file)
    store = SqliteStore(home.store_file)
    try:
        yield store
    finally:
        store.close()


def deps_of(home: Home, offset_seconds: float = 0.0) -> Deps:
    """Return what steps need on this machine; trials move its clock."""
    return Deps(
        clock=lambda: now() + offset_seconds,
        random_bytes=secrets.token_bytes,
        secret=read_secret(home.secret_file),
        online_key=read_online_key(home.online_key_file),
        blobs=LocalBlobs(home.path),
    )


def now() -> float:
    """Return the machine's time: commands are their own composition root."""
    return time.time()  # noqa: TID251
