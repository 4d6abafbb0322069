"""How commands reach a home: its store, its running server, and the address in links."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.home.config import read_config, store_place
from pleb_coordinator.store.engine import StoreAwayError
from pleb_coordinator.store.transaction import Store
from pleb_system.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = [
    "Listening",
    "link_base",
    "now",
    "open_store",
    "opened",
    "reachable_host",
    "running_server",
    "store_at",
]

_DOCUMENTATION_ADDRESS: Final = ("192.0.2.1", 9)
"""TEST-NET-1 (RFC 5737): a datagram socket that is connected there sends nothing."""


_DATABASE_SECONDS: Final = 60.0
"""How long a database may take to start: after a power cut it and this machine start together."""
_RETRY_SECONDS: Final = 0.2


@contextlib.contextmanager
def opened(home: Home, progress: Callable[[str], None] | None = None) -> Iterator[Store]:
    """Open the home's store for a while, as `open_store`."""
    store = open_store(home, progress)
    try:
        yield store
    finally:
        store.close()


def open_store(
    home: Home,
    progress: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> Store:
    """Open the home's store; it may be served at the same time. As `store_at`."""
    return store_at(store_place(home), progress, stop)


def store_at(
    place: Path | str,
    progress: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> Store:
    """Open the store at `place`.

    Args:
        place: a file, or the address of a database.
        progress: is told, once, if a database is not up yet, for which a minute is waited; None:
            it must be up now.
        stop: ends the waiting.

    Raises:
        InputError: there is no home, or its store is of another version.
        StoreAwayError: the database cannot be reached.
    """
    stop = stop or threading.Event()
    end, told = time.monotonic() + _DATABASE_SECONDS, False
    while True:
        try:
            return Store(place)
        except StoreAwayError as error:
            if progress is None or stop.is_set() or time.monotonic() >= end:
                raise
            if not told:
                progress(f"Waiting up to {_DATABASE_SECONDS:.0f} s. {error}")
                told = True
            stop.wait(_RETRY_SECONDS)


def now() -> float:
    """Return the machine's time: a command is its own composition root."""
    return time.time()  # noqa: TID251


class Listening(msgspec.Struct, frozen=True):
    """What `serve` saves for the other commands."""

    url: str
    certificate: str | None
    pid: int


def link_base(home: Home) -> LinkBase:
    """Return the address in attach links: the running server's, else the configured one."""
    config = read_config(home.config_file)
    found = running_server(home)
    if found is not None:
        return LinkBase(found.url, found.certificate)
    scheme = "https" if config.tls == "self-signed" else "http"
    return LinkBase(config.url or f"{scheme}://{reachable_host(config.host)}:{config.port}")


def running_server(home: Home) -> Listening | None:
    """Return where the home's server listens; None if it is not running."""
    try:
        found = msgspec.json.decode(home.listening_file.read_bytes(), type=Listening)
    except (OSError, msgspec.DecodeError):
        return None
    return found if is_alive(found.pid, of_any_user=True) else None


def reachable_host(host: str) -> str:
    """Return the address at which others reach a server that listens on `host`."""
    if host not in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
