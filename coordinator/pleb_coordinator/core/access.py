"""Who reads a private project: what its readers are known by, and what everybody else hears.

A reader's text is `PROJECT.KIND` + NAME + `.` + MAC: it names who reads, and an HMAC by the
coordinator's secret proves that this coordinator gave it out. Nothing is kept of it; whether its
owner may read still is looked up each time.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project

__all__ = ["Reader", "ReaderKind", "is_private", "read_reader", "unknown_project", "write_reader"]

_MAC_DIGITS: Final = 48
_READER: Final = re.compile(r"([a-z0-9-]{1,40})\.([hro])([0-9a-f]{1,64})\.([0-9a-f]{48})")


class ReaderKind(StrEnum):
    """Who reads."""

    HOST = "h"
    """A member's PC; its name is its fingerprint."""
    ROOT = "r"
    """Who has a root key of the project; its name is the key's fingerprint."""
    OPERATOR = "o"
    """Somebody at the operator's page; its name is the second in which it ends, in hexadecimal."""


@dataclass(frozen=True)
class Reader:
    """Who a text was given to; whether they may still read is another question."""

    project: str
    kind: ReaderKind
    name: str


def write_reader(secret: bytes, reader: Reader) -> str:
    """Return the text by which the coordinator knows a reader again: it is a secret."""
    told = f"{reader.project}.{reader.kind}{reader.name}"
    return f"{told}.{_mac(secret, told)}"


def read_reader(secret: bytes, text: str) -> Reader | None:
    """Return whom the text was given to; None: nobody."""
    found = _READER.fullmatch(text)
    if found is None:
        return None
    project, kind, name, mac = found.groups()
    if not hmac.compare_digest(mac, _mac(secret, f"{project}.{kind}{name}")):
        return None
    return Reader(project, ReaderKind(kind), name)


def _mac(secret: bytes, told: str) -> str:
    return hmac.digest(secret, f"pleb reader\n{told}".encode(), "sha256").hex()[:_MAC_DIGITS]


def is_private(project: Project) -> bool:
    """Whether only members and the operator may read anything of the project."""
    return project.metadata.access == "invited"


def unknown_project(name: str) -> Refusal:
    """Return the answer about a project that does not exist, or not for who asks: one for both."""
    message = (
        f"There is no project {name!r} here that you may read: check the link. If it is a private "
        "one, you need an invite that is still good: ask who invited you for a new one."
    )
    return Refusal(RefusalCode.UNKNOWN_PROJECT, message)
