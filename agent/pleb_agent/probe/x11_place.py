"""Where an X server listens, and the cookie that it asks for.

Sources: X(7), "DISPLAY NAMES"; Xau's `Xauth.h` for the file's format (big-endian).
"""

from __future__ import annotations

import re
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.dbus.stream import ServiceMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["NO_COOKIE", "Cookie", "Place", "authority_file", "find_cookie", "parse_display"]

_LOCAL: Final = re.compile(r"(?:unix)?(?:/)?:(\d+)(?:\.\d+)?")
_COOKIE_KIND: Final = "MIT-MAGIC-COOKIE-1"
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535
_LARGEST_FILE_BYTES: Final = 1 << 20


class Place(NamedTuple):
    """A display on this PC."""

    name: str
    number: int

    @property
    def addresses(self) -> tuple[str, str]:
        """The Unix sockets that it may listen on, an abstract one first."""
        path = f"/tmp/.X11-unix/X{self.number}"  # noqa: S108 - fixed by the protocol
        return f"\0{path}", path


class Cookie(NamedTuple):
    """A method of authorisation and its secret."""

    name: str
    data: bytes


NO_COOKIE: Final = Cookie("", b"")


def parse_display(name: str) -> Place:
    """Return the display of this name.

    Raises:
        ServiceMissing: it is on another PC (`ssh -X`), where the mouse and the keyboard are too.
    """
    match = _LOCAL.fullmatch(name)
    if match is None:
        raise ServiceMissing(f"The display {name} is not on this PC.")
    return Place(name, int(match[1]))


def authority_file(environment: Mapping[str, str]) -> str:
    """Return where the cookies are."""
    if named := environment.get("XAUTHORITY"):
        return named
    return f"{environment.get('HOME', '')}/.Xauthority"


def find_cookie(file: str, place: Place, host: str | None = None) -> Cookie:
    """Return the display's cookie, or `NO_COOKIE`: servers may accept us by our user id."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - pathlib is a megabyte of memory
            data = opened.read(_LARGEST_FILE_BYTES)
    except OSError:
        return NO_COOKIE
    local = (host or socket.gethostname()).encode()
    for family, address, number, name, secret in _entries(data):
        ours = family == _FAMILY_WILD or (family == _FAMILY_LOCAL and address == local)
        if ours and number in (b"", str(place.number).encode()) and name == _COOKIE_KIND.encode():
            return Cookie(_COOKIE_KIND, secret)
    return NO_COOKIE


def _entries(data: bytes) -> Iterator[tuple[int, bytes, bytes, bytes, bytes]]:
    """Yield (family, address, number, name, secret); an incomplete last entry is left out."""
    at = 0
    while at + 2 <= len(data):
        family = struct.unpack_from(">H", data, at)[0]
        at += 2
        fields = []
        for _ in range(4):
            if at + 2 > len(data):
                return
            size = struct.unpack_from(">H", data, at)[0]
            fields.append(data[at + 2 : at + 2 + size])
            at += 2 + size
        if at > len(data):
            return
        yield (family, fields[0], fields[1], fields[2], fields[3])
