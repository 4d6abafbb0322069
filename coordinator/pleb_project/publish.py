"""Publishing, renewing, and changing keys: sign with the root key, send, upload, send again.

What the coordinator serves is where each signing starts; what this PC remembers of earlier ones
raises it, so that agents accept the outcome also after a coordinator was restored from a backup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.keys.key_file import create_key, read_key
from pleb_project.keys.passphrase import Passphrases
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.records import ProjectRecord
from pleb_shared.errors import InputError, PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import AttachLink, fingerprint_of
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import PayloadType, PublishReply, PublishRequest
from pleb_shared.protocol.project import Delegation, ProjectMetadata, ShardList, epoch_changes
from pleb_shared.protocol.roots import RootChange, change_root, root_path
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload
from pleb_shared.protocol.unit import Blob
from pleb_system.durable import rename_durably

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.keys.key_file import StoredKey
    from pleb_project.server.client import Coordinator
    from pleb_project.server.records import Home

__all__ = [
    "Publication",
    "Publisher",
    "blobs_of",
    "latest_known",
    "next_metadata",
    "opened",
    "pinned",
    "sign_metadata",
    "with_new_root",
]

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
    _unlocked: dict[str, SigningKey] = field(default_factory=dict)
    """By public key: a passphrase is asked for once."""

    def prepare(self, project: str) -> None:
        """Open the root key, or make the first one: a passphrase is asked for before long work.

        Raises:
            PlebError: as `publish`.
        """
        with self.home.hold(project):
            before = self._before(project, new_epoch=True)
            if before is None:
                self._make_first_key(project)
            self._root(project, before)

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
                self._make_first_key(draft.project)
            elif self._finish_rotation(draft.project, before):
                before = self._before(draft.project, new_epoch=new_epoch)
            root = self._root(draft.project, before)
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
            if found or not _is_fingerprint(fingerprint):
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
            return _with_revoked(metadata, fingerprint)

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
                draft = _with_revoked(before, fingerprint_of(old)) if revoke else before
                return self._renew_as(project, draft)
            return self._hand_over(project, before, revoke=revoke)

        with self.home.hold(project):
            return _once_more(sign_and_send)

    def _hand_over(self, project: str, before: ProjectMetadata, *, revoke: bool) -> ProjectRecord:
        old = self._root(project, before)
        new = self._next_root(project)
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
            draft = _with_revoked(draft, old.fingerprint)
        metadata = next_metadata(draft, draft, self._publication(new, draft))
        record = self._put(metadata, new, [], self._no_blobs(project), None)
        self._promote(project)
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
        served = _self_signed(envelope)
        record = self.home.record(project)
        confirmed = served
        if record is not None and record.metadata:
            confirmed = _self_signed(record.metadata.encode())
        next_file = self.home.next_root_key_file(project)
        if next_file.exists():
            begun = read_key(next_file).public
            if begun == served.root_key:
                record, confirmed = self._remember(served, envelope), served
            if begun == confirmed.root_key:
                self._promote(project)
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

    def _root(self, project: str, before: ProjectMetadata | None) -> SigningKey:
        """Return the root key, asking for its passphrase only if it is the right one."""
        stored = read_key(self.home.root_key_file(project))
        if before is not None and before.root_key != stored.public:
            raise TrustError(
                f"The project {project!r} at {self.coordinator.address.url} belongs to another "
                "root key: choose another name in [project], or give the --home with its key "
                "(the newest one, if it was rotated elsewhere)."
            )
        return self._open(stored, project)

    def _open(self, stored: StoredKey, project: str) -> SigningKey:
        if stored.public not in self._unlocked:
            self._unlocked[stored.public] = self.passphrases.unlock(stored, project)
        return self._unlocked[stored.public]

    def _make_first_key(self, project: str) -> None:
        file = self.home.root_key_file(project)
        if file.exists() and file.stat().st_size:
            return
        passphrase = self.passphrases.choose(project)
        key = SigningKey.generate()
        create_key(file, key, passphrase)
        self._unlocked[key.public] = key
        self.passphrases.keep(key.public, passphrase)
        self.say(f"Made the root key {file}: keep a copy in a safe place.")

    def _next_root(self, project: str) -> SigningKey:
        """Return the key of a rotation that was begun, or begin one."""
        file = self.home.next_root_key_file(project)
        if not file.exists():
            passphrase = self.passphrases.choose(project)
            key = SigningKey.generate()
            create_key(file, key, passphrase)
            self._unlocked[key.public] = key
            self.passphrases.keep(key.public, passphrase)
        return self._open(read_key(file), project)

    def _promote(self, project: str) -> None:
        """Put the next root key in the old one's place, whose file ends with that."""
        file = self.home.root_key_file(project)
        if file.exists():
            self.passphrases.keyring.forget(read_key(file).public)
        rename_durably(self.home.next_root_key_file(project), file)
        self.say(f"The new root key is in {file}: keep a copy of it, and destroy those of the old.")

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
        root = self._root(project, draft)
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
        self._send(metadata, envelope, root, wanted, blobs, invite)
        return self._remember(metadata, envelope)

    def _send(
        self,
        metadata: ProjectMetadata,
        envelope: bytes,
        root: SigningKey,
        wanted: list[Blob],
        blobs: BlobFolder,
        invite: str | None,
    ) -> None:
        """Send the metadata, and upload until no blob is missing there."""
        uploaded: set[str] = set()
        while True:
            now = int(self.clock())
            request = PublishRequest(
                protocols=list(PROTOCOLS),
                project=metadata.project,
                invite=invite,
                metadata=envelope.decode(),
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
    changes = epoch_changes(before, draft) if before and not publication.new_epoch else []
    if changes:
        raise InputError(
            f"{draft.project!r} differs from what is published in {', '.join(changes)}, on which "
            "results depend: add --new-epoch to start training again from version 0."
        )
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
        ),
        roots=before.roots if before else [],
        revoked=revoked,
    )


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
    metadata = _self_signed(envelope)
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
        metadata.training_graph,
        metadata.evaluation_graph,
        metadata.data.shards,
        *shards,
    ]
    return list({blob.digest: blob for blob in named}.values())


def _self_signed(envelope: bytes) -> ProjectMetadata:
    """Return metadata that the root key which it names has signed."""
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
    claimed = strict_json.decode(payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes)
    root_path(claimed)
    return opened(envelope, claimed.root_key)


def _with_revoked(metadata: ProjectMetadata, fingerprint: str) -> ProjectMetadata:
    revoked = list(dict.fromkeys([*metadata.revoked, fingerprint]))
    return msgspec.structs.replace(metadata, revoked=revoked)


def _is_fingerprint(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _once_more(sign_and_send: Callable[[], ProjectRecord]) -> ProjectRecord:
    try:
        return sign_and_send()
    except Refusal as error:
        if error.code not in _OVERTAKEN:
            raise
        return sign_and_send()
