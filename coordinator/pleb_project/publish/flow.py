"""Publishing and renewing: sign, send, upload what is missing, send again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pleb_project.publish.metadata import (
    Publication,
    blobs_of,
    next_metadata,
    opened,
    sign_metadata,
)
from pleb_project.publish.root_key import load_root_key, make_root_key
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import ProjectRecord
from pleb_shared.errors import PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import AttachLink
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import PayloadType, PublishReply, PublishRequest
from pleb_shared.protocol.project import ProjectMetadata, ShardList
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home

__all__ = ["Publisher"]


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
        root = self._root_key(draft.project, first=before is None)
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

    def _root_key(self, project: str, *, first: bool) -> SigningKey:
        file = self.home.root_key_file(project)
        if not first or file.exists():
            return load_root_key(file)
        self.say(f"Made the root key {file}: keep a copy in a safe place.")
        return make_root_key(file)

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
            reply = self._ask(request, metadata.delegation.online_key, root)
            if not reply.missing:
                return
            if {slot.digest for slot in reply.missing} <= uploaded:
                raise PlebError("The coordinator lacks blobs that were uploaded: check its log.")
            self._upload(reply, blobs)
            uploaded |= {slot.digest for slot in reply.missing}

    def _ask(self, request: PublishRequest, online_key: str, root: SigningKey) -> PublishReply:
        signed = sign_payload(strict_json.encode(request), PayloadType.PUBLISH, root)
        answer = self.coordinator.publish(signed)
        reply = open_envelope(answer, PayloadType.PUBLISH_REPLY, PublishReply, online_key)
        if reply.project != request.project:
            raise TrustError("The coordinator answered for another project: try again.")
        return reply

    def _upload(self, reply: PublishReply, blobs: BlobFolder) -> None:
        size = sum(blobs.path(slot.digest).stat().st_size for slot in reply.missing)
        self.say(f"Uploading {len(reply.missing)} blobs, {size / 1e6:.3g} MB")
        for slot in reply.missing:
            self.coordinator.upload(slot.upload, blobs.get(slot.digest))

    def _served(self, project: str) -> ProjectMetadata | None:
        """Return the metadata that the coordinator serves, checked with the key that it names."""
        try:
            envelope = self.coordinator.metadata(project)
        except Refusal as error:
            if error.code is RefusalCode.UNKNOWN_PROJECT:
                return None
            raise
        payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
        return opened(envelope, msgspec.json.decode(payload, type=ProjectMetadata).root_key)

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
