"""What is signed next: pure rules from a draft and the metadata that is known to bytes.

What the coordinator serves is where each signing starts; what this PC remembers of earlier ones
raises it, so that agents accept the outcome also after a coordinator was restored from a backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import (
    Delegation,
    ProjectMetadata,
    epoch_changes,
    showcase_blobs,
)
from pleb_shared.protocol.roots import RootChange, change_root, root_path
from pleb_shared.protocol.signing import open_envelope, peek_payload, sign_payload

if TYPE_CHECKING:
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Blob

__all__ = [
    "Publication",
    "blobs_of",
    "is_fingerprint",
    "latest_known",
    "next_metadata",
    "opened",
    "pinned",
    "refuse_epoch_changes",
    "require_contact",
    "self_signed",
    "sign_metadata",
    "with_new_root",
    "with_numerics_of",
    "with_revoked",
]


_SHORTEST_CONTACT: Final = 3


@dataclass(frozen=True)
class Publication:
    """What the draft does not know: where, by whom and for how long it is published."""

    url: str
    root_key: str
    online_key: str
    issued_at: int
    delegation_seconds: int = LIMITS.delegation_seconds
    new_epoch: bool = False
    highest_epoch: int = 0
    """The highest one ever signed, which the coordinator may have forgotten."""


def next_metadata(
    draft: ProjectMetadata, before: ProjectMetadata | None, publication: Publication
) -> ProjectMetadata:
    """Return the metadata to sign: the draft with keys, times and the next number.

    `before` is the newest that is known, None at the first publication. The chain of root keys and
    the revoked ones are taken from it.

    Raises:
        TrustError: the project there belongs to another root key.
        InputError: what results depend on has changed, which needs a new epoch; or the coordinator
            signs with a key that was revoked.
    """
    if before is not None and before.root_key != publication.root_key:
        raise TrustError(
            f"The project {draft.project!r} at {publication.url} belongs to another root key: "
            "choose another name in [project], or give the --home with its key."
        )
    if before is not None and not publication.new_epoch:
        refuse_epoch_changes(before, draft)
    revoked = before.revoked if before else []
    if fingerprint_of(publication.online_key) in revoked:
        raise InputError(
            f"The coordinator at {publication.url} signs with an online key that was revoked: its "
            "operator must run `pleb-coordinator key rotate` first."
        )
    epoch = before.epoch if before else 0
    if before and publication.new_epoch:
        epoch = max(epoch, publication.highest_epoch) + 1
    return msgspec.structs.replace(
        draft,
        number=before.number + 1 if before else 1,
        epoch=epoch,
        issued_at=publication.issued_at,
        root_key=publication.root_key,
        delegation=Delegation(
            online_key=publication.online_key,
            expires_at=publication.issued_at
            + min(publication.delegation_seconds, LIMITS.delegation_seconds),
            may_restore=draft.delegation.may_restore,
        ),
        roots=before.roots if before else [],
        revoked=revoked,
    )


def refuse_epoch_changes(before: ProjectMetadata, draft: ProjectMetadata) -> None:
    """Refuse what only a new epoch may change.

    Raises:
        InputError: the draft differs from what is published in it.
    """
    changes = epoch_changes(before, draft)
    if changes:
        raise InputError(
            f"{draft.project!r} differs from what is published in {', '.join(changes)}, on which "
            "results depend: add --new-epoch to start training again from version 0."
        )


def require_contact(contact: str) -> None:
    """Refuse a project whose volunteers could not know who runs it.

    Raises:
        InputError: the contact is missing.
    """
    if len(contact.strip()) < _SHORTEST_CONTACT:
        raise InputError(
            "Volunteers want to know who runs a project before they join: write who you are and "
            'how to reach you into [project], such as contact = "Anna Berg, University of '
            'Example <anna@example.org>".'
        )


def with_numerics_of(before: ProjectMetadata, draft: ProjectMetadata) -> ProjectMetadata:
    """Return a draft that is not measured yet with the numerics of what is published.

    `check` may still choose them. A choice that differs is refused when it is to be signed.
    """
    numerics = before.verification.numerics
    verification = msgspec.structs.replace(draft.verification, numerics=numerics)
    return msgspec.structs.replace(draft, verification=verification)


def latest_known(
    served: ProjectMetadata, confirmed: ProjectMetadata, highest_number: int
) -> ProjectMetadata:
    """Return what the coordinator serves, raised to what was signed here already.

    A coordinator that was restored from a backup lacks later metadata, changes of keys, and
    numbers that agents have seen. What it serves is then a beginning of what it has confirmed.
    """
    follows = served.root_key in root_path(confirmed)
    grown = follows and confirmed.roots[: len(served.roots)] == served.roots
    keys = confirmed if grown else served
    is_newer = grown and confirmed.number > served.number and confirmed.epoch == served.epoch
    return msgspec.structs.replace(
        confirmed if is_newer else served,
        number=max(served.number, highest_number),
        root_key=keys.root_key,
        roots=keys.roots,
        revoked=list(dict.fromkeys([*served.revoked, *confirmed.revoked])),
    )


def with_new_root(
    metadata: ProjectMetadata, change: RootChange, before: SigningKey, after: SigningKey
) -> ProjectMetadata:
    """Return the metadata with one more change of its root key.

    Raises:
        InputError: the root key was changed as often as the protocol allows.
    """
    if len(metadata.roots) >= LIMITS.root_changes:
        raise InputError(
            f"The root key of {metadata.project} was rotated {LIMITS.root_changes} times, which is "
            "the most: publish the project under another name."
        )
    roots = [*metadata.roots, change_root(change, before, after)]
    return msgspec.structs.replace(metadata, root_key=after.public, roots=roots)


def sign_metadata(metadata: ProjectMetadata, root: SigningKey) -> bytes:
    """Return the envelope that agents will get.

    Raises:
        InputError: it exceeds the protocol's ceiling.
    """
    envelope = sign_payload(strict_json.encode(metadata), PayloadType.METADATA, root)
    if len(envelope) > LIMITS.metadata_bytes:
        raise InputError(
            f"The metadata has {len(envelope)} bytes; at most {LIMITS.metadata_bytes} are allowed: "
            "the model has too many tensors."
        )
    return envelope


def opened(envelope: bytes, root_key: str) -> ProjectMetadata:
    """Return the metadata in an envelope that `root_key` has signed."""
    return open_envelope(
        envelope, PayloadType.METADATA, ProjectMetadata, root_key, most_bytes=LIMITS.metadata_bytes
    )


def pinned(envelope: bytes, link: AttachLink) -> ProjectMetadata:
    """Return the metadata if the root key that `link` pins, or one after it, has signed it.

    Raises:
        TrustError: another key has.
    """
    metadata = self_signed(envelope)
    if link.root not in map(fingerprint_of, root_path(metadata)):
        raise TrustError(
            f"The metadata of {link.project!r} is signed by another root key than the link's: "
            "ask for the link again."
        )
    return metadata


def blobs_of(metadata: ProjectMetadata, shards: list[Blob]) -> list[Blob]:
    """Return every blob that the project needs, each once; `shards` are those of the list."""
    named = [
        metadata.model.initial,
        *([metadata.model.base.blob] if metadata.model.base else []),
        metadata.training_graph,
        *(chunk.training_graph for chunk in metadata.chunks),
        metadata.evaluation_graph,
        *showcase_blobs(metadata),
        metadata.data.shards,
        *shards,
    ]
    return list({blob.digest: blob for blob in named}.values())


def self_signed(envelope: bytes) -> ProjectMetadata:
    """Return metadata that the root key which it names has signed."""
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
    claimed = strict_json.decode(payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes)
    root_path(claimed)
    return opened(envelope, claimed.root_key)


def with_revoked(metadata: ProjectMetadata, fingerprint: str) -> ProjectMetadata:
    """Return the metadata with one more key that nobody may accept."""
    revoked = list(dict.fromkeys([*metadata.revoked, fingerprint]))
    return msgspec.structs.replace(metadata, revoked=revoked)


def is_fingerprint(text: str) -> bool:
    """Whether the text can be a key's whole fingerprint."""
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
