"""Publishing, renewing, changing keys, pausing: sign with the root key, send, remember."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from pleb_project.keys.key_file import read_key
from pleb_project.keys.passphrase import Passphrases
from pleb_project.publish.root_keys import RootKeys
from pleb_project.publish.rules import (
    Publication,
    blobs_of,
    is_fingerprint,
    latest_known,
    next_metadata,
    refuse_epoch_changes,
    self_signed,
    sign_metadata,
    with_new_root,
    with_revoked,
)
from pleb_project.publish.send import Sender
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import ProjectRecord
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import AttachLink, fingerprint_of
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.project import ShardList
from pleb_shared.protocol.roots import RootChange, root_path
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home
    from pleb_shared.protocol.messages import PublishAnswer
    from pleb_shared.protocol.project import Activity, ProjectMetadata
    from pleb_shared.protocol.signing import SigningKey

__all__ = ["Publisher"]

_OVERTAKEN: Final = frozenset({RefusalCode.WRONG_AUDIENCE, RefusalCode.STALE_METADATA})
"""Refusals after which signing once more helps: the coordinator changed its online key, or another
command published, after this one had looked."""
_KEPT_ONLINE_KEYS: Final = 32


@dataclass(frozen=True)
class Publisher:
    """Publishes to one coordinator from one home.

    `clock` returns seconds since 1970; `say` gets progress as sentences; `passphrases` opens root
    keys. Unless they say otherwise, a new key is made without a passphrase.
    """

    coordinator: Coordinator
    home: Home
    clock: Callable[[], float]
    say: Callable[[str], None]
    passphrases: Passphrases = Passphrases(none_wanted=True)  # noqa: RUF009 - it is immutable

    @cached_property
    def _keys(self) -> RootKeys:
        return RootKeys(self.home, self.coordinator.address.url, self.passphrases, self.say)

    def _sender(self, root: SigningKey) -> Sender:
        return Sender(self.coordinator, root, self.clock, self.say)

    def prepare(self, project: str, invite: str | None = None) -> PublishAnswer:
        """Open the root key, or make the first one, and ask whether it may publish the project.

        A passphrase is asked for, and an invite that does not count is found, before long work.

        Raises:
            PlebError: as `publish`.
        """
        with self.home.hold(project):
            before = self._before(project, new_epoch=True)
            if before is None:
                self._keys.make_first(project)
            return self._sender(self._keys.root(project, before)).ask(project, invite)

    def check_epoch(self, draft: ProjectMetadata, *, new_epoch: bool) -> None:
        """Refuse what only a new epoch may change, before it is measured.

        Raises:
            InputError: it differs; the message names what and says what to do.
        """
        before = None if new_epoch else self._before(draft.project, new_epoch=new_epoch)
        if before is not None:  # numerics may be measured: those that come of it are looked at then
            numerics = before.verification.numerics
            verification = replace(draft.verification, numerics=numerics)
            refuse_epoch_changes(before, replace(draft, verification=verification))

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
        shard_list = blobs.get(draft.data.shards.digest)
        shards = strict_json.decode(shard_list, ShardList, most_bytes=LIMITS.shard_list_bytes)
        files = [Blob(digest=s.digest, size=s.size) for s in [*shards.train, *shards.holdout]]

        def sign_and_send() -> ProjectRecord:
            before = self._before(draft.project, new_epoch=new_epoch)
            if before is None:
                self._keys.make_first(draft.project)
            elif self._finish_rotation(draft.project, before):
                before = self._before(draft.project, new_epoch=new_epoch)
            root = self._keys.root(draft.project, before)
            metadata = next_metadata(draft, before, self._publication(root, draft, new_epoch))
            return self._put(metadata, root, blobs_of(metadata, files), blobs, invite)

        with self.home.hold(draft.project):
            return _once_more(sign_and_send)

    def renew(self, project: str) -> ProjectRecord:
        """Delegate to the coordinator's online key for another 30 days; nothing else changes.

        Raises:
            PlebError: as `publish`.
        """
        return self._sign_again(project, lambda metadata: metadata)

    def set_activity(self, project: str, activity: Activity, note: str) -> ProjectRecord:
        """Have the coordinator issue work (`active`) or none (`paused`, `archived`).

        `note`: why, for volunteers. Results that are on their way are still taken.

        Raises:
            PlebError: as `publish`.
        """

        def changed(metadata: ProjectMetadata) -> ProjectMetadata:
            return msgspec.structs.replace(metadata, activity=activity, activity_note=note)

        return self._sign_again(project, changed)

    def revoke(self, project: str, key: str) -> ProjectRecord:
        """Let no statement of the key with this fingerprint be accepted any more.

        Args:
            project: its name.
            key: the beginning of the fingerprint of an earlier root key or of the online key, or
                any whole fingerprint.

        Raises:
            InputError: no key or several begin like this, or the key is still in use.
            PlebError: as `publish`.
        """

        def revoked(metadata: ProjectMetadata) -> ProjectMetadata:
            online = self.coordinator.info().online_key
            record = self.home.record(project)
            keys = {*root_path(metadata), metadata.delegation.online_key, online}
            known = {*map(fingerprint_of, keys), *(record.online_keys if record else [])}
            found = {fingerprint for fingerprint in known if fingerprint.startswith(key.lower())}
            fingerprint = found.pop() if len(found) == 1 else key.lower()
            if found or not is_fingerprint(fingerprint):
                raise InputError(
                    f"{key!r} is not the beginning of one key's fingerprint: `pleb-project key "
                    f"show {project}` lists them."
                )
            if fingerprint == fingerprint_of(metadata.root_key):
                raise InputError(
                    f"This is the root key of {project} itself: run `pleb-project key rotate "
                    f"{project} --revoke`, which replaces it first."
                )
            if fingerprint == fingerprint_of(online):
                raise InputError(
                    "The coordinator signs with this online key: its operator must run "
                    "`pleb-coordinator key rotate` first."
                )
            return with_revoked(metadata, fingerprint)

        return self._sign_again(project, revoked)

    def rotate(self, project: str, *, revoke: bool = False) -> ProjectRecord:
        """Replace the root key; agents follow, and links with the old key go on working.

        The new key is written first and takes the old one's place once the coordinator has
        confirmed it. A crash at any point leaves both, and the next command that signs finishes
        the rotation. `revoke`: the old key may not be attached to any more.

        Raises:
            PlebError: as `publish`.
        """

        def sign_and_send() -> ProjectRecord:
            begun = self.home.next_root_key_file(project).exists()
            before = self._before(project, new_epoch=False)
            if before is None:
                raise self._not_published(project)
            if begun and not self.home.next_root_key_file(project).exists():
                # The coordinator had confirmed it; one that was restored since hears it again.
                *_, old, _ = root_path(before)
                draft = with_revoked(before, fingerprint_of(old)) if revoke else before
                return self._renew_as(project, draft)
            return self._hand_over(project, before, revoke=revoke)

        with self.home.hold(project):
            return _once_more(sign_and_send)

    def _hand_over(self, project: str, before: ProjectMetadata, *, revoke: bool) -> ProjectRecord:
        old = self._keys.root(project, before)
        new = self._keys.next_root(project)
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
        metadata = next_metadata(draft, draft, self._publication(new, draft))
        record = self._put(metadata, new, [], self._no_blobs(project), None)
        self._keys.promote(project)
        return record

    def _finish_rotation(self, project: str, before: ProjectMetadata) -> bool:
        """Finish a rotation that was begun: the coordinator may have shown its outcome to agents.

        Returns whether there was one.
        """
        if not self.home.next_root_key_file(project).exists():
            return False
        self._hand_over(project, before, revoke=False)
        return True

    # -- where each signing starts ----------------------------------------------------------

    def _before(self, project: str, *, new_epoch: bool) -> ProjectMetadata | None:
        """Return the newest metadata that the coordinator or this PC knows; None: there is none.

        A rotation that the coordinator has confirmed, but whose end was not heard of, ends here.

        Raises:
            InputError: the coordinator is in an epoch before one that agents have seen.
        """
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
                self._keys.promote(project)
        if record is None:
            return served
        if confirmed.epoch > served.epoch and not new_epoch:
            raise InputError(
                f"The coordinator is in epoch {served.epoch} of {project}, before epoch "
                f"{confirmed.epoch}, which agents have seen: it was restored from an older backup. "
                "Publish with --new-epoch to go on."
            )
        return latest_known(served, confirmed, record.number)

    def _published(self, project: str) -> ProjectMetadata:
        """Return what is published, after finishing a rotation that was begun."""
        before = self._before(project, new_epoch=False)
        if before is not None and self._finish_rotation(project, before):
            before = self._before(project, new_epoch=False)
        if before is None:
            raise self._not_published(project)
        return before

    def _not_published(self, project: str) -> InputError:
        return InputError(f"{project} is not published at {self.coordinator.address.url}.")

    # -- signing and sending ----------------------------------------------------------------

    def _sign_again(
        self, project: str, change: Callable[[ProjectMetadata], ProjectMetadata]
    ) -> ProjectRecord:
        """Sign what is published once more, with a change that needs no blobs."""

        def sign_and_send() -> ProjectRecord:
            return self._renew_as(project, change(self._published(project)))

        with self.home.hold(project):
            return _once_more(sign_and_send)

    def _renew_as(self, project: str, draft: ProjectMetadata) -> ProjectRecord:
        root = self._keys.root(project, draft)
        metadata = next_metadata(draft, draft, self._publication(root, draft))
        return self._put(metadata, root, [], self._no_blobs(project), None)

    def _no_blobs(self, project: str) -> BlobFolder:
        return BlobFolder(self.home.build_folder(project))

    def _publication(
        self, root: SigningKey, draft: ProjectMetadata, new_epoch: bool = False
    ) -> Publication:
        record = self.home.record(draft.project)
        return Publication(
            url=self.coordinator.address.url,
            root_key=root.public,
            online_key=self.coordinator.info().online_key,
            issued_at=int(self.clock()),
            new_epoch=new_epoch,
            highest_epoch=record.epoch if record else 0,
        )

    def _put(
        self,
        metadata: ProjectMetadata,
        root: SigningKey,
        wanted: list[Blob],
        blobs: BlobFolder,
        invite: str | None,
    ) -> ProjectRecord:
        """Put signed metadata in force at the coordinator, and remember it."""
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
        self._sender(root).send(metadata, envelope, wanted, blobs, invite)
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
            online_keys=online_keys[-_KEPT_ONLINE_KEYS:],
        )
        self.home.remember(record)
        return record


def _once_more(sign_and_send: Callable[[], ProjectRecord]) -> ProjectRecord:
    try:
        return sign_and_send()
    except Refusal as error:
        if error.code not in _OVERTAKEN:
            raise
        return sign_and_send()
