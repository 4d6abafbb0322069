"""The messages of admins: logging in once with a code, then commands signed by their key."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pleb_shared.protocol.ids import KeyHex
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.messages import Protocols, Short, Token
from pleb_shared.protocol.unit import Count, Struct

__all__ = ["AdminLogin", "AdminRequest", "AdminWelcome", "Argument"]

Argument = str | int | float | bool | Annotated[list[Short], msgspec.Meta(max_length=32)] | None


class AdminLogin(Struct, frozen=True):
    """Gives an admin's code for the right to sign with `key`, which signs this, too."""

    protocols: Protocols
    code: Token
    key: KeyHex
    issued_at: Count
    expires_at: Count

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        check_public_key(self.key)


class AdminWelcome(Struct, frozen=True):
    """The unsigned answer to it: whose the key is now, and what it may do."""

    name: str
    role: str


class AdminRequest(Struct, frozen=True):
    """A command; signed by the admin's key. `sequence` grows with every one of the admin's."""

    protocols: Protocols
    admin: Short
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    command: Short
    """In words, for example `host ban`."""
    arguments: Annotated[dict[Short, Argument], msgspec.Meta(max_length=32)]
    issued_at: Count
    expires_at: Count
