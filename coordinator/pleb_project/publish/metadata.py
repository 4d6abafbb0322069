"""From a draft to the metadata that the root key signs. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import Delegation, ProjectMetadata, epoch_changes
from pleb_shared.protocol.signing import SigningKey, open_envelope, sign_payload

if TYPE_CHECKING:
    from pleb_shared.protocol.unit import Blob

__all__ = ["Publication", "blobs_of", "next_metadata", "opened", "sign_metadata"]


@dataclass(frozen=True)
class Publication:
    """What the draft does not know: where, by whom and for how long it is published."""

    url: str
    root_key: str
    online_key: str
    issued_at: int
    delegation_seconds: int = LIMITS.delegation_seconds
    new_epoch: bool = False


def next_metadata(
    draft: ProjectMetadata, before: ProjectMetadata | None, publication: Publication
) -> ProjectMetadata:
    """Return the metadata to sign: the draft with keys, times and the next number.

    `before` is what the coordinator serves now, None at the first publication.

    Raises:
        TrustError: the project there belongs to another root key.
        InputError: what results depend on has changed, which needs a new epoch.
    """
    if before is not None and before.root_key != publication.root_key:
        raise TrustError(
            f"The project {draft.project!r} at {publication.url} belongs to another root key: "
            "choose another name in [project], or give the --home with its key."
        )
    changes = epoch_changes(before, draft) if before and not publication.new_epoch else []
    if changes:
        raise InputError(
            f"{draft.project!r} differs from what is published in {', '.join(changes)}, on which "
            "results depend: add --new-epoch to start training again from version 0."
        )
    epoch = before.epoch + publication.new_epoch if before else 0
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
        ),
    )


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
        envelope,
        PayloadType.METADATA,
        ProjectMetadata,
        root_key,
        most_bytes=LIMITS.metadata_bytes,
    )


def blobs_of(metadata: ProjectMetadata, shards: list[Blob]) -> list[Blob]:
    """Return every blob that the project needs, each once; `shards` are those of the list."""
    named = [
        metadata.model.initial,
        metadata.training_graph,
        metadata.evaluation_graph,
        metadata.data.shards,
        *shards,
    ]
    return list({blob.digest: blob for blob in named}.values())
