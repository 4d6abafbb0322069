"""Signing with a root key: what is in force before, signing, sending, remembering."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.keys.key_file import read_key
from pleb_project.publish.root_keys import RootKeys
from pleb_project.publish.rules import (
    Publication,
    latest_known,
    next_metadata,
    self_signed,
    sign_metadata,
    with_new_root,
    with_revoked,
)
from pleb_project.publish.send import NOTHING, Sender
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import ProjectRecord
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.ids import AttachLink, fingerprint_of
from pleb_shared.protocol.limits import PROTOCOLS
from pleb_shared.protocol.roots import RootChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.keys.passphrase import Passphrases
    from pleb_project.publish.send import Brought
    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Blob

__all__ = ["Signer"]

_KEPT_ONLINE_KEYS: Final = 32


@dataclass(frozen=True)
class Signer:
    """Signs metadata for one coordinator from one home; the arguments are `Publisher`'s."""

    coordinator: Coordinator
    home: Home
    clock: Callable[[], float]
    say: Callable[[str], None]
    passphrases: Passphrases

    @cached_property
    def keys(self) -> RootKeys:
        """The root keys of this home."""
        return RootKeys(self.home, self.coordinator.address.url, self.passphrases, self.say)

    def sender(self, root: SigningKey) -> Sender:
        """Return what sends statements of this root key."""
        return Sender(self.coordinator, root, self.clock, self.say)

    def hand_over(self, project: str, before: ProjectMetadata, *, revoke: bool) -> ProjectRecord:
        """Replace the root key by the next one, or finish doing so."""
        old = self.keys.root(project, before)
        new = self.keys.next_root(project)
        change = RootChange(
            protocol=PROTOCOLS[0],
            project=project,
            number=len(before.roots) + 1,
            before=old.public,
            after=new.public,
            issued_at=int(self.clock()),
        )
        draft = with_new_root(before, change, old, new)
        if revoke:
            draft = with_revoked(draft, old.fingerprint)
        metadata = next_metadata(draft, draft, self.publication(new, draft))
        record = self.put(metadata, new, [], self.no_blobs(project), None)
        self.keys.promote(project)
        return record

    def finish_rotation(self, project: str, before: ProjectMetadata) -> bool:
        """Finish a rotation that was begun: the coordinator may have shown its outcome to agents.

        Returns whether there was one.
        """
        if not self.home.next_root_key_file(project).exists():
            return False
        self.hand_over(project, before, revoke=False)
        return True

    # -- where each signing starts ----------------------------------------------------------

    def before(self, project: str, *, new_epoch: bool) -> ProjectMetadata | None:
        """Return the newest metadata that the coordinator or this PC knows; None: there is none.

        A rotation that the coordinator has confirmed, but whose end was not heard of, ends here.

        Raises:
            InputError: the coordinator is in an epoch before one that agents have seen.
        """
        reading = self.home.reading(project)
        if reading is not None:
            self.coordinator.read_with(reading)
        try:
            envelope = self.coordinator.metadata(project)
        except Refusal as error:
            if error.code is RefusalCode.UNKNOWN_PROJECT:
                return None
            raise
        served = self_signed(envelope)
        record = self.home.record(project)
        confirmed = served
        if record is not None and record.metadata:
            confirmed = self_signed(record.metadata.encode())
        next_file = self.home.next_root_key_file(project)
        if next_file.exists():
            begun = read_key(next_file).public
            if begun == served.root_key:
                record, confirmed = self._remember(served, envelope), served
            if begun == confirmed.root_key:
                self.keys.promote(project)
        if record is None:
            return served
        if confirmed.epoch > served.epoch and not new_epoch:
            raise InputError(
                f"The coordinator is in epoch {served.epoch} of {project}, before epoch "
                f"{confirmed.epoch}, which agents have seen: it was restored from an older backup. "
                "Publish with --new-epoch to go on."
            )
        return latest_known(served, confirmed, record.number)

    def published(self, project: str) -> ProjectMetadata:
        """Return what is published, after finishing a rotation that was begun."""
        before = self.before(project, new_epoch=False)
        if before is not None and self.finish_rotation(project, before):
            before = self.before(project, new_epoch=False)
        if before is None:
            raise self.not_published(project)
        return before

    def not_published(self, project: str) -> InputError:
        """Return the error of a project that the coordinator does not have."""
        return InputError(f"{project} is not published at {self.coordinator.address.url}.")

    # -- signing and sending ----------------------------------------------------------------

    def renew_as(self, project: str, draft: ProjectMetadata) -> ProjectRecord:
        """Sign metadata whose blobs the coordinator has."""
        root = self.keys.root(project, draft)
        metadata = next_metadata(draft, draft, self.publication(root, draft))
        return self.put(metadata, root, [], self.no_blobs(project), None)

    def no_blobs(self, project: str) -> BlobFolder:
        """Return where the blobs would be, of which none is sent."""
        return BlobFolder(self.home.build_folder(project))

    def publication(
        self, root: SigningKey, draft: ProjectMetadata, new_epoch: bool = False
    ) -> Publication:
        """Return the keys, the time and the epoch of what is signed now."""
        record = self.home.record(draft.project)
        return Publication(
            url=self.coordinator.address.url,
            root_key=root.public,
            online_key=self.coordinator.info().online_key,
            issued_at=int(self.clock()),
            new_epoch=new_epoch,
            highest_epoch=record.epoch if record else 0,
        )

    def put(
        self,
        metadata: ProjectMetadata,
        root: SigningKey,
        wanted: list[Blob],
        blobs: BlobFolder,
        invite: str | None,
        brought: Brought = NOTHING,
    ) -> ProjectRecord:
        """Put signed metadata in force at the coordinator, and remember it.

        `brought`: what comes along from another coordinator.
        """
        envelope = sign_metadata(metadata, root)
        record = self.home.record(metadata.project)
        if record is not None:
            # First: a number that may have been seen is not used again for something else.
            raised = msgspec.structs.replace(
                record,
                number=max(record.number, metadata.number),
                epoch=max(record.epoch, metadata.epoch),
            )
            self.home.remember(raised)
        self.sender(root).send(metadata, envelope, wanted, blobs, invite, brought)
        return self._remember(metadata, envelope)

    def _remember(self, metadata: ProjectMetadata, envelope: bytes) -> ProjectRecord:
        """Write what the coordinator has confirmed."""
        address = self.coordinator.address
        root = fingerprint_of(metadata.root_key)
        link = AttachLink(address.url, metadata.project, root, address.certificate)
        before = self.home.record(metadata.project)
        online = fingerprint_of(metadata.delegation.online_key)
        earlier = before.online_keys if before else []
        online_keys = [*(key for key in earlier if key != online), online]
        record = ProjectRecord(
            project=metadata.project,
            attach_link=str(link),
            number=max(metadata.number, before.number if before else 0),
            epoch=max(metadata.epoch, before.epoch if before else 0),
            metadata=envelope.decode(),
            permission_ends_at=metadata.delegation.expires_at,
            family="" if metadata.family is None else metadata.family.name,
            online_keys=online_keys[-_KEPT_ONLINE_KEYS:],
            untold=before.untold if before else [],
        )
        self.home.remember(record)
        return record
