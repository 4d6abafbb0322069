"""Publishing, renewing, changing keys, pausing: sign with the root key, send, remember."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_project.keys.passphrase import Passphrases
from pleb_project.publish.rules import (
    blobs_of,
    is_fingerprint,
    next_metadata,
    refuse_epoch_changes,
    with_numerics_of,
    with_revoked,
)
from pleb_project.publish.sealed import key_for, sealed_draft
from pleb_project.publish.signer import Signer
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ShardList
from pleb_shared.protocol.roots import root_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home, ProjectRecord
    from pleb_shared.protocol.messages import PublishAnswer
    from pleb_shared.protocol.project import Access, Activity, ProjectMetadata
    from pleb_shared.protocol.unit import Blob

__all__ = ["Publisher"]

_OVERTAKEN: Final = frozenset({RefusalCode.WRONG_AUDIENCE, RefusalCode.STALE_METADATA})
"""Refusals after which signing once more helps: the coordinator changed its online key, or another
command published, after this one had looked."""


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
    def signer(self) -> Signer:
        """What signs and sends."""
        return Signer(self.coordinator, self.home, self.clock, self.say, self.passphrases)

    def prepare(
        self, project: str, invite: str | None = None, access: Access = "public"
    ) -> PublishAnswer:
        """Open the root key, or make the first one, and ask whether it may publish the project.

        Of an invited project the keys come with the answer, and are kept.

        A passphrase is asked for, and an invite that does not count is found, before long work.

        Raises:
            PlebError: as `publish`.
        """
        with self.home.hold(project):
            before = self.signer.before(project, new_epoch=True)
            if before is None:
                self.signer.keys.make_first(project)
            sender = self.signer.sender(self.signer.keys.root(project, before))
            answer, reading = sender.ask(project, invite)
            if reading is not None and access == "invited":
                self.coordinator.read_with(self.home.remember_reading(project, reading))
            return answer

    def check_epoch(
        self,
        draft: ProjectMetadata,
        *,
        new_epoch: bool,
        access: Access = "public",
        blobs: BlobFolder | None = None,
    ) -> None:
        """Refuse what only a new epoch may change, before it is measured.

        `access` and `blobs` are as in `publish`; a private project's draft is compared as it would
        be sealed.

        Raises:
            InputError: it differs; the message names what and says what to do.
        """
        before = None if new_epoch else self.signer.before(draft.project, new_epoch=new_epoch)
        if before is None:
            return
        if access == "invited" and blobs is not None:
            draft, _ = self._sealed(draft, blobs, before, new_epoch=new_epoch)
        refuse_epoch_changes(before, with_numerics_of(before, draft))

    def publish(
        self,
        draft: ProjectMetadata,
        blobs: BlobFolder,
        *,
        invite: str | None = None,
        new_epoch: bool = False,
        first_member: str | None = None,
        access: Access = "public",
    ) -> ProjectRecord:
        """Sign the draft, upload it with all its blobs, and return how to attach to it.

        The root key is made at the first publication; `first_member` names the project of the same
        family whose root key it is instead. `access`: of an invited project all files are sealed
        first; `prepare` must have asked.

        Raises:
            PlebError: refused, unreachable, another's project; the message says what to do.
        """
        shard_list = blobs.get(draft.data.shards.digest)
        shards = strict_json.decode(shard_list, ShardList, most_bytes=LIMITS.shard_list_bytes)
        files = [shard.blob for shard in [*shards.train, *shards.holdout]]

        def sign_and_send() -> ProjectRecord:
            before = self.signer.before(draft.project, new_epoch=new_epoch)
            if before is None and first_member is not None:
                self.signer.keys.share_first(draft.project, first_member)
            elif before is None:
                self.signer.keys.make_first(draft.project)
            elif self.signer.finish_rotation(draft.project, before):
                before = self.signer.before(draft.project, new_epoch=new_epoch)
            root = self.signer.keys.root(draft.project, before)
            publication = self.signer.publication(root, draft, new_epoch)
            told, needed = draft, files
            if access == "invited":
                told, needed = self._sealed(draft, blobs, before, new_epoch=new_epoch)
            metadata = next_metadata(told, before, publication)
            return self.signer.put(metadata, root, blobs_of(metadata, needed), blobs, invite)

        with self.home.hold(draft.project):
            return _once_more(sign_and_send)

    def _sealed(
        self,
        draft: ProjectMetadata,
        blobs: BlobFolder,
        before: ProjectMetadata | None,
        *,
        new_epoch: bool,
    ) -> tuple[ProjectMetadata, list[Blob]]:
        reading = self.home.reading(draft.project)
        if reading is None:
            raise InputError(
                f"{draft.project} has no key here, by which a private project is sealed: it is "
                "public already, so publish it under another name."
            )
        return sealed_draft(draft, blobs, key_for(reading, before, new_epoch=new_epoch))

    def renew(self, project: str) -> ProjectRecord:
        """Delegate to the coordinator's online key for another 30 days; nothing else changes.

        Raises:
            PlebError: as `publish`.
        """
        return self._sign_again(project, lambda metadata: metadata)

    def set_activity(self, project: str, activity: Activity, note: str) -> ProjectRecord:
        """Have the coordinator issue work (`active`, `finishing`) or none (`paused`, `archived`).

        `note`: why, for volunteers. Results that are on their way are still taken.

        Raises:
            PlebError: as `publish`.
        """

        def changed(metadata: ProjectMetadata) -> ProjectMetadata:
            return replace(metadata, activity=activity, activity_note=note)

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
            before = self.signer.before(project, new_epoch=False)
            if before is None:
                raise self.signer.not_published(project)
            if begun and not self.home.next_root_key_file(project).exists():
                # The coordinator had confirmed it; one that was restored since hears it again.
                *_, old, _ = root_path(before)
                draft = with_revoked(before, fingerprint_of(old)) if revoke else before
                return self.signer.renew_as(project, draft)
            return self.signer.hand_over(project, before, revoke=revoke)

        with self.home.hold(project):
            return _once_more(sign_and_send)

    def _sign_again(
        self, project: str, change: Callable[[ProjectMetadata], ProjectMetadata]
    ) -> ProjectRecord:
        """Sign what is published once more, with a change that needs no blobs."""

        def sign_and_send() -> ProjectRecord:
            return self.signer.renew_as(project, change(self.signer.published(project)))

        with self.home.hold(project):
            return _once_more(sign_and_send)


def _once_more(sign_and_send: Callable[[], ProjectRecord]) -> ProjectRecord:
    try:
        return sign_and_send()
    except Refusal as error:
        if error.code not in _OVERTAKEN:
            raise
        return sign_and_send()
