"""Where the server listens: its socket, its address for others, and the file that tells it."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.home.config import read_config
from pleb_shared.errors import InputError
from pleb_system.processes import is_alive

if TYPE_CHECKING:
    from pleb_coordinator.home.layout import Home

__all__ = [
    "Listening",
    "link_base",
    "open_socket",
    "reachable_host",
    "running_server",
]

_BIND_SECONDS: Final = 10.0
"""How long a port may be held by the children of a server that was killed."""
_BACKLOG: Final = 2048
_DOCUMENTATION_ADDRESS: Final = ("192.0.2.1", 9)
"""TEST-NET-1 (RFC 5737): a datagram socket that is connected there sends nothing."""


class Listening(msgspec.Struct, frozen=True):
    """What `serve` writes down for the other commands."""

    url: str
    certificate: str | None
    pid: int


def open_socket(host: str, port: int, *, patient: bool = False) -> socket.socket:
    """Return a listening socket; children inherit it, so a restart of theirs loses no caller.

    `patient`: a server was killed here, whose children may hold the port for a moment more.

    Raises:
        InputError: the address is not this machine's, or somebody else listens there.
    """
    end = time.monotonic() + (_BIND_SECONDS if patient else 0)
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                message = f"{host}:{port} cannot be listened on ({error.strerror or error})."
                raise InputError(f"{message} Give another --host or --port.") from error
            if time.monotonic() >= end:
                message = f"Port {port} is in use: give another --port, or 0 for any free one."
                raise InputError(message) from error
            time.sleep(0.1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    found.set_inheritable(True)
    return found


def reachable_host(host: str) -> str:
    """Return the address under which others reach a server that listens on `host`."""
    if host not in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def link_base(home: Home) -> LinkBase:
    """Return the address in attach links: of the running server, else as configured."""
    config = read_config(home.config_file)
    found = running_server(home)
    if found is not None:
        return LinkBase(found.url, found.certificate)
    scheme = "https" if config.tls == "self-signed" else "http"
    return LinkBase(config.url or f"{scheme}://{reachable_host(config.host)}:{config.port}")


def running_server(home: Home) -> Listening | None:
    """Return where the home is served, or None where it is not."""
    try:
        found = msgspec.json.decode(home.listening_file.read_bytes(), type=Listening)
    except (OSError, msgspec.DecodeError):
        return None
    return found if is_alive(found.pid, of_any_user=True) else None
