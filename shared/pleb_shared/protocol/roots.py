"""The chain of root keys: each hands the project over to the next, and both sign that (TUF 5.3).

Metadata carries the whole chain, so a client that pinned any earlier root can follow it to the one
that signed the metadata, however many changes it has missed (docs/protocol.md 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import KeyHex, ProjectName, fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import Count, Struct

if TYPE_CHECKING:
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.signing import SigningKey

__all__ = ["RootChange", "change_root", "key_fault", "root_path"]


class RootChange(Struct, frozen=True):
    """A root key hands the project over to another; signed by both."""

    protocol: int
    project: ProjectName
    number: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.root_changes)]
    """1 for the project's first change, then one more each time."""
    before: KeyHex
    after: KeyHex
    issued_at: Count


def change_root(change: RootChange, before: SigningKey, after: SigningKey) -> str:
    """Return the change's envelope, signed by both keys, as metadata carries it."""
    return sign_payload(strict_json.encode(change), PayloadType.ROOT_CHANGE, before, after).decode()


def root_path(metadata: ProjectMetadata) -> tuple[str, ...]:
    """Return the project's root keys, the first one first and `metadata.root_key` last.

    The signature on the metadata itself is checked by the caller, with the last key.

    Raises:
        Refusal: `malformed` or `bad_signature`: the changes do not lead to `root_key`, one of them
            is not signed by both of its keys, or a key comes twice.
    """
    path: list[str] = []
    for number, text in enumerate(metadata.roots, 1):
        data = text.encode()
        payload = peek_payload(data, PayloadType.ROOT_CHANGE)
        claimed = strict_json.decode(payload, RootChange, most_bytes=LIMITS.message_bytes)
        change = open_envelope(
            data, PayloadType.ROOT_CHANGE, RootChange, claimed.before, claimed.after
        )
        path = path or [change.before]
        if (change.project, change.number, change.before) != (metadata.project, number, path[-1]):
            message = f"Root change {number} of {metadata.project} does not continue the chain."
            raise Refusal(RefusalCode.MALFORMED, message)
        path.append(change.after)
    path = path or [metadata.root_key]
    if path[-1] != metadata.root_key or len(set(path)) != len(path):
        message = f"The root changes of {metadata.project} do not lead to its root key."
        raise Refusal(RefusalCode.MALFORMED, message)
    return tuple(path)


def key_fault(metadata: ProjectMetadata) -> str:
    """Return which key in use the metadata itself revokes; empty if none."""
    if fingerprint_of(metadata.root_key) in metadata.revoked:
        return "its root key is revoked"
    if fingerprint_of(metadata.delegation.online_key) in metadata.revoked:
        return "it delegates to an online key that is revoked"
    return ""
