"""Publishing and renewing: sign with the root key, send, upload what is missing, send again.

The root key is made once, readable only by its owner, and never overwritten.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import ProjectRecord
from pleb_shared.errors import InputError, PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import AttachLink
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import PayloadType, PublishReply, PublishRequest
from pleb_shared.protocol.project import Delegation, ProjectMetadata, ShardList, epoch_changes
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import Blob
from pleb_system.durable import create_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home

__all__ = [
    "Publication",
    "Publisher",
    "blobs_of",
    "load_root_key",
    "make_root_key",
    "named_root_key",
    "next_metadata",
    "opened",
    "sign_metadata",
]

_HEADER: Final = "pleb-cluster root key (Ed25519, keep secret): "


@dataclass(frozen=True)
class Publisher:
    """Publishes to one coordinator from one home.

    `clock` returns seconds since 1970; `say` gets progress as sentences.
    """

    coordinator: Coordinator
    home: Home
    clock: Callable[[], float]
    say: Callable[[str], None]

    def publish(
        self,
        draft: ProjectMetadata,
        blobs: BlobFolder,
        *,
        invite: str | None = None,
        new_epoch: bool = False,
    ) -> ProjectRecord:
        """Sign the draft, upload it with all its blobs, and return how to attach to it.

        The root key is made at the first publication.

        Raises:
            PlebError: refused, unreachable, another's project; the message says what to do.
        """
        before = self._served(draft.project)
        key_file = self.home.root_key_file(draft.project)
        if before is None and not key_file.exists():
            make_root_key(key_file)
            self.say(f"Made the root key {key_file}: keep a copy in a safe place.")
        root = load_root_key(key_file)
        metadata = next_metadata(draft, before, self._publication(root, new_epoch=new_epoch))
        shards = strict_json.decode(
            blobs.get(metadata.data.shards.digest), ShardList, most_bytes=LIMITS.shard_list_bytes
        )
        files = [Blob(digest=s.digest, size=s.size) for s in [*shards.train, *shards.holdout]]
        self._send(metadata, blobs_of(metadata, files), blobs, root, invite)
        return self._remember(root, draft.project)

    def renew(self, project: str) -> ProjectRecord:
        """Delegate to the coordinator's online key for another 30 days; nothing else changes.

        Raises:
            PlebError: as `publish`.
        """
        root = load_root_key(self.home.root_key_file(project))
        before = opened(self.coordinator.metadata(project), root.public)
        metadata = next_metadata(before, before, self._publication(root))
        self._send(metadata, [], BlobFolder(self.home.build_folder(project)), root, None)
        return self._remember(root, project)

    def _send(
        self,
        metadata: ProjectMetadata,
        wanted: list[Blob],
        blobs: BlobFolder,
        root: SigningKey,
        invite: str | None,
    ) -> None:
        """Send the metadata, and upload until no blob is missing there."""
        envelope = sign_metadata(metadata, root).decode()
        uploaded: set[str] = set()
        while True:
            now = int(self.clock())
            request = PublishRequest(
                protocols=list(PROTOCOLS),
                project=metadata.project,
                invite=invite,
                metadata=envelope,
                blobs=wanted,
                issued_at=now,
                expires_at=now + LIMITS.request_lifetime_seconds,
            )
            signed = sign_payload(strict_json.encode(request), PayloadType.PUBLISH, root)
            answer = self.coordinator.publish(signed)
            online_key = metadata.delegation.online_key
            reply = open_envelope(answer, PayloadType.PUBLISH_REPLY, PublishReply, online_key)
            if reply.project != metadata.project:
                raise TrustError("The coordinator answered for another project: try again.")
            if not reply.missing:
                return
            if {slot.digest for slot in reply.missing} <= uploaded:
                raise PlebError("The coordinator lacks blobs that were uploaded: check its log.")
            size = sum(blobs.path(slot.digest).stat().st_size for slot in reply.missing)
            self.say(f"Uploading {len(reply.missing)} blobs, {size / 1e6:.3g} MB")
            for slot in reply.missing:
                self.coordinator.upload(slot.upload, blobs.get(slot.digest))
            uploaded |= {slot.digest for slot in reply.missing}

    def _served(self, project: str) -> ProjectMetadata | None:
        """Return the metadata that the coordinator serves, checked with the key that it names."""
        try:
            envelope = self.coordinator.metadata(project)
        except Refusal as error:
            if error.code is RefusalCode.UNKNOWN_PROJECT:
                return None
            raise
        return opened(envelope, named_root_key(envelope))

    def _publication(self, root: SigningKey, *, new_epoch: bool = False) -> Publication:
        return Publication(
            url=self.coordinator.address.url,
            root_key=root.public,
            online_key=self.coordinator.info().online_key,
            issued_at=int(self.clock()),
            new_epoch=new_epoch,
        )

    def _remember(self, root: SigningKey, project: str) -> ProjectRecord:
        address = self.coordinator.address
        link = AttachLink(address.url, project, root.fingerprint, address.certificate)
        record = ProjectRecord(project, str(link))
        self.home.remember(record)
        return record


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
        envelope, PayloadType.METADATA, ProjectMetadata, root_key, most_bytes=LIMITS.metadata_bytes
    )


def named_root_key(envelope: bytes) -> str:
    """Return the root key that metadata names, before its signature is checked."""
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
    return msgspec.json.decode(payload, type=ProjectMetadata).root_key


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


def load_root_key(file: Path) -> SigningKey:
    """Return the key in `file`.

    Raises:
        InputError: it is missing, damaged, or others can read it.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise InputError(
            f"The root key {file} is missing: give the --home that the project was published "
            "from, or copy the key there."
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"Others can read {file}: run `chmod 600 {file}`.")
    try:
        return SigningKey.from_bytes(bytes.fromhex(text.removeprefix(_HEADER).strip()))
    except ValueError as error:
        raise InputError(f"{file} is damaged: restore it from your backup.") from error


def make_root_key(file: Path) -> SigningKey:
    """Make a key in `file`, which must not exist, with mode 600, and return it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey.generate()
    create_private(file, f"{_HEADER}{key.to_bytes().hex()}\n".encode("ascii"))
    return key
