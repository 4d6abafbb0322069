"""publish: root-signed metadata and the blobs that it names make a project, or renew it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.aggregation.versions import first_source
from pleb_coordinator.core.access import Reader, ReaderKind, is_private
from pleb_coordinator.core.invites import check_invite
from pleb_coordinator.core.project_state import ProjectEvent
from pleb_coordinator.core.records import Project, ProjectState, Upload, VersionRow
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.steps.access import box_for, box_for_keys, keep_keys, keys_of, new_key_number
from pleb_coordinator.steps.activity import follow_researcher, move_project, settle
from pleb_coordinator.steps.family import check_family
from pleb_coordinator.steps.files import lost_blobs
from pleb_coordinator.steps.fleet_records import adopt_records, check_records
from pleb_coordinator.steps.published import Findings
from pleb_coordinator.steps.take_over import take_over
from pleb_coordinator.store.references import METADATA
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import AttachLink, digest_of, fingerprint_of
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    BlobSlot,
    PublishAnswer,
    PublishQuestion,
    PublishReply,
    Role,
)
from pleb_shared.protocol.project import (
    ProjectMetadata,
    epoch_changes,
)
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.roots import key_fault
from pleb_shared.protocol.sealing import project_key

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.published import Publication
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.unit import Blob

__all__ = ["admit", "admit_handed_in", "answer_question", "hand_in", "leads_away", "publish"]

_PUBLISHERS: Final = frozenset({Role.PUBLISHER, Role.ADMIN})
_NEEDS_INVITE: Final = (
    "A new project needs a publisher's invite (--invite TOKEN): ask the operator, who makes one "
    "with `pleb-coordinator invite new --role publisher`."
)
_SLOT_SECONDS: Final = 24 * 3600.0
_SLOTS: Final = 1000
"""Missing blobs that one reply names; the request is sent again for the rest."""


def admit(tx: Transaction, deps: Deps, publication: Publication) -> Project | None:
    """Check that the sender may publish here; call it before the expensive `examine`.

    Returns the project as it is here; None: it is new.

    Raises:
        Refusal: as `publish`.
    """
    known, _ = _admitted(tx, deps, publication)
    return known


def answer_question(tx: Transaction, deps: Deps, question: PublishQuestion) -> PublishAnswer:
    """Return that the key which signed the question may publish the project.

    Raises:
        Refusal: `bad_signature`: the project belongs to another root key; `invalid_invite`: it is
            not known here, and the invite lets nobody publish.
    """
    now, known = deps.clock(), _known(tx, question.project)
    if known is None:
        _check_publisher(tx, question.invite or "", now)
    elif known.root_key != question.root_key:
        raise _other_root(tx, known, question.invite or "", now)
    return PublishAnswer(
        protocol=max(set(question.protocols) & set(PROTOCOLS), default=PROTOCOLS[0]),
        project=question.project,
        number=0 if known is None else known.metadata_number,
        epoch=0 if known is None else known.epoch,
        free_bytes=deps.blobs.free_bytes(),
        issued_at=int(now),
        box=_box(deps, known, question),
        seal_to=box_for_keys(deps, question.project, fingerprint_of(question.root_key)).public,
    )


def _box(deps: Deps, known: Project | None, question: PublishQuestion) -> bytes | None:
    """Return by what the researcher reads and seals a private project; None: it is public.

    A project that is not here yet may become one, so there is a first key for it.
    """
    if question.seal_to is None or (known is not None and not is_private(known)):
        return None
    keys = (
        [project_key(deps.secret, question.project, new_key_number(deps))]
        if known is None
        else keys_of(deps, known)
    )
    root = fingerprint_of(question.root_key)
    reader = Reader(question.project, ReaderKind.ROOT, root)
    return box_for(deps, keys, reader, question.seal_to, root)


def publish(
    tx: Transaction, deps: Deps, publication: Publication, findings: Findings, link_base: str
) -> PublishReply:
    """Return upload slots for missing blobs, or put the metadata in force.

    A new project needs a publisher's or administrator's invite, unless it completes a family; a
    known one only its root key and a higher metadata number. `link_base` is the URL that the attach
    link starts with.

    Raises:
        Refusal: `invalid_invite`, `bad_signature` (another root key), `stale_metadata`,
            `expired` (the delegation), `wrong_audience` (it delegates to another key); as
            `fleet_records.check_records`.
    """
    metadata, now = publication.metadata, deps.clock()
    known, token_hash = _admitted(tx, deps, publication)
    slots: list[BlobSlot] = []
    findings = _still_there(tx, deps, publication, known, findings)
    records = findings.records
    if records is not None:
        check_records(tx, deps, metadata, known, findings.brought, records)
    if findings.facts is None:
        owner = 0 if known is None else known.id
        slots = [_slot(tx, deps, owner, blob, now) for blob in findings.missing[:_SLOTS]]
    elif known is None:
        if token_hash:
            tx.invites.use(token_hash, now)
        _create(tx, deps, publication, findings, now)
    elif metadata.number > known.metadata_number:
        _renew(tx, publication, known, findings, now)
    if records is not None:
        adopt_records(tx, deps, tx.projects.find(metadata.project), records)
    link = AttachLink(link_base, metadata.project, fingerprint_of(metadata.root_key))
    protocols = publication.request.protocols if publication.request else PROTOCOLS
    return PublishReply(
        protocol=max(set(protocols) & set(PROTOCOLS), default=PROTOCOLS[0]),
        project=metadata.project,
        missing=slots,
        attach_link=str(link),
        issued_at=int(now),
    )


def admit_handed_in(tx: Transaction, deps: Deps, publication: Publication) -> bool:
    """Check metadata that a host hands in; False: they are not newer than those in force.

    A coordinator that was restored from a backup may lack metadata that agents have seen, and they
    accept none before them. Since the root key has signed them, anybody may bring them back.

    Raises:
        Refusal: as `publish`; `internal`: they delegate to an online key that is not here.
    """
    metadata = publication.metadata
    known = tx.projects.find(metadata.project)
    if metadata.number <= known.metadata_number:
        return False
    if known.state is ProjectState.MOVED:
        raise _moved(known)
    if not leads_away(deps, metadata):
        held = deps.online_keys.of(metadata.delegation.online_key)
        _check_delegation(metadata, held.public, deps.clock())
    _check_keys(known, publication)
    _check_renewal(known, metadata)
    check_family(tx, metadata, publication.root_path[0])
    return True


def hand_in(tx: Transaction, deps: Deps, publication: Publication, findings: Findings) -> None:
    """Put metadata that a host hands in in force, unless they are not newer.

    Raises:
        Refusal: as `admit_handed_in`; `unknown_blob`: they name files that are not here.
    """
    if not admit_handed_in(tx, deps, publication):
        return
    if leads_away(deps, publication.metadata):
        _hand_over(tx, publication, deps.clock())
        return
    known = tx.projects.find(publication.metadata.project)
    findings = _still_there(tx, deps, publication, known, findings)
    if findings.facts is None:
        message = (
            f"Metadata {publication.metadata.number} names {len(findings.missing)} files that this "
            "coordinator does not have (any more): its researcher must publish again."
        )
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    _renew(tx, publication, known, findings, deps.clock())


def leads_away(deps: Deps, metadata: ProjectMetadata) -> bool:
    """Whether the root key has handed the project to another coordinator than this one."""
    keys = {key.public for key in deps.online_keys.all()}
    return metadata.coordinator is not None and metadata.delegation.online_key not in keys


def _hand_over(tx: Transaction, publication: Publication, now: float) -> None:
    """Issue no more work, and hand out the metadata that send hosts to the other coordinator.

    What is signed here goes on to count by the metadata in force, so that hosts still get receipts
    and verdicts for what they have done.
    """
    metadata = publication.metadata
    known = tx.projects.find(metadata.project)
    tx.projects.keep_envelope(known.id, metadata.number, publication.envelope, known.facts, now)
    place = metadata.coordinator.url if metadata.coordinator else ""
    why = because(ReasonCode.MOVED, text=place)
    move_project(tx, known, ProjectEvent.MOVED, why, now)


def _moved(known: Project) -> Refusal:
    message = (
        f"Project {known.name!r} has moved to another coordinator: publish it there. To bring it "
        "back, the operator here deletes it first (`pleb-coordinator project delete "
        f"{known.name}`)."
    )
    return Refusal(RefusalCode.STALE_METADATA, message)


def _admitted(tx: Transaction, deps: Deps, publication: Publication) -> tuple[Project | None, str]:
    """Return the project if it is known here, else the hash of the invite that lets it in.

    Members of a family whose first one is here need no invite: the hash is an empty text.
    """
    metadata, now = publication.metadata, deps.clock()
    _check_delegation(metadata, deps.online_keys.newest().public, now)
    known = _known(tx, metadata.project)
    siblings = check_family(tx, metadata, publication.root_path[0])
    if known is not None:
        if known.root_key not in publication.root_path:
            raise _other_root(tx, known, publication.invite, now)
        if known.state is ProjectState.MOVED:
            raise _moved(known)
        _check_keys(known, publication)
        _check_renewal(known, metadata)
        return known, ""
    if siblings:
        return None, ""
    return None, _check_publisher(tx, publication.invite, now)


def _check_publisher(tx: Transaction, invite: str, now: float) -> str:
    """Return the hash of the invite, which lets its owner publish a project that is new here.

    Raises:
        Refusal: `invalid_invite`, with the reason.
    """
    if not invite:
        raise Refusal(RefusalCode.INVALID_INVITE, _NEEDS_INVITE)
    token_hash = digest_of(invite.encode())
    check_invite(tx.invites.find(token_hash), _PUBLISHERS, now)
    return token_hash


def _check_delegation(metadata: ProjectMetadata, online_key: str, now: float) -> None:
    delegation = metadata.delegation
    if delegation.online_key != online_key:
        message = "The metadata delegates to another coordinator's key: publish it here again."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    if fault := key_fault(metadata):
        message = f"The metadata contradicts itself: {fault}. Sign with a key that is in use."
        raise Refusal(RefusalCode.BAD_SIGNATURE, message)
    if delegation.expires_at <= now:
        message = "The delegation has expired: renew it with `pleb-project renew`."
        raise Refusal(RefusalCode.EXPIRED, message)
    if delegation.expires_at > metadata.issued_at + LIMITS.delegation_seconds:
        message = "The delegation is longer than 30 days: agents would refuse it."
        raise Refusal(RefusalCode.EXPIRED, message)


def _known(tx: Transaction, name: str) -> Project | None:
    try:
        return tx.projects.find(name)
    except Refusal:
        return None


def _check_keys(known: Project, publication: Publication) -> None:
    """Check that the root in force hands over to the sender's, and that nothing is taken back.

    The chain of changes only grows, so that an agent which slept through any of them can follow.
    """
    metadata = publication.metadata
    if known.root_key not in publication.root_path:
        raise _name_is_taken(known)
    if metadata.roots[: len(known.metadata.roots)] != known.metadata.roots:
        message = f"The metadata leaves out changes of {known.name!r}'s root key that were made."
        raise Refusal(RefusalCode.STALE_METADATA, message)
    if not set(known.metadata.revoked) <= set(metadata.revoked):
        message = f"The metadata leaves out keys of {known.name!r} that were revoked."
        raise Refusal(RefusalCode.STALE_METADATA, message)


def _other_root(tx: Transaction, known: Project, invite: str, now: float) -> Refusal:
    """Return the refusal of another's project; of a private one only publishers hear of it.

    Raises:
        Refusal: `invalid_invite`, as for a project that is not here.
    """
    if is_private(known):
        _check_publisher(tx, invite, now)
    return _name_is_taken(known)


def _name_is_taken(known: Project) -> Refusal:
    message = (
        f"Project {known.name!r} belongs to another root key: choose another name, or sign "
        "with the newest key if it was rotated."
    )
    return Refusal(RefusalCode.BAD_SIGNATURE, message)


def _check_renewal(known: Project, metadata: ProjectMetadata) -> None:
    if metadata.access == "invited" and metadata.epoch > known.epoch:
        _check_newest_key(known, metadata)
    if metadata.number < known.metadata_number or metadata.epoch < known.epoch:
        message = (
            f"Metadata {known.metadata_number} of epoch {known.epoch} is in force: "
            "publish a higher number."
        )
        raise Refusal(RefusalCode.STALE_METADATA, message)
    if metadata.number == known.metadata_number and metadata != known.metadata:
        message = f"Metadata {metadata.number} is in force with other content: raise the number."
        raise Refusal(RefusalCode.STALE_METADATA, message)
    if metadata.access != known.metadata.access:
        message = (
            f"{known.name} is {known.metadata.access}, and stays so: who could read it has read "
            "it. Publish it under another name."
        )
        raise Refusal(RefusalCode.MALFORMED, message)
    changes = epoch_changes(known.metadata, metadata) if metadata.epoch == known.epoch else []
    if changes:
        message = (
            f"{', '.join(changes)} cannot change within an epoch, since results depend on it: "
            "publish with --new-epoch to start again from version 0."
        )
        raise Refusal(RefusalCode.MALFORMED, message)


def _check_newest_key(known: Project, metadata: ProjectMetadata) -> None:
    """Check that a new epoch's files are sealed with the newest key: somebody may be gone."""
    if metadata.sealed_with < max(known.keys, default=0):
        message = (
            "The files are sealed with a key that was replaced, since somebody was removed: run "
            "`pleb-project publish` again."
        )
        raise Refusal(RefusalCode.STALE_METADATA, message)


def _slot(tx: Transaction, deps: Deps, owner: int, blob: Blob, now: float) -> BlobSlot:
    open_slot = tx.uploads.open_blob(owner, blob.digest)
    if open_slot is not None and (open_slot.size == blob.size) and open_slot.expires_at > now:
        return BlobSlot(digest=blob.digest, upload=open_slot.token)
    upload = Upload(
        token=deps.random_bytes(24).hex(),
        project=owner,
        assignment=None,
        digest=blob.digest,
        size=blob.size,
        created_at=now,
        expires_at=now + _SLOT_SECONDS,
        complete=False,
    )
    tx.uploads.add(upload)
    return BlobSlot(digest=blob.digest, upload=upload.token)


def _still_there(
    tx: Transaction,
    deps: Deps,
    publication: Publication,
    known: Project | None,
    findings: Findings,
) -> Findings:
    """Keep the blobs that the metadata name; one that was removed meanwhile is missing again.

    Those that the metadata in force name cannot have been, nor what was seen just before. There may
    be thousands, and everybody would wait while a bucket is asked.
    """
    held: set[str] = set()
    if known is not None:
        held = tx.references.of(known.id, publication.metadata.epoch, METADATA)
    digests = {blob.digest for blob in findings.named}
    if findings.brought is not None:
        digests |= findings.brought.blobs
    seen = findings.seen
    there = set[str]() if seen is None else seen.still_there(digests, deps.clock())
    lost = lost_blobs(tx, deps, digests - held, there)
    if not lost:
        return findings
    named = [*findings.named, *publication.blobs]
    return Findings(tuple(blob for blob in named if blob.digest in lost), None)


def _put_in_force(
    tx: Transaction, publication: Publication, project: int, findings: Findings, now: float
) -> None:
    if findings.facts is None:
        raise AssertionError  # the callers have looked
    metadata = publication.metadata
    tx.projects.put_metadata(project, metadata, publication.envelope, findings.facts, now)
    digests = [blob.digest for blob in findings.named]
    tx.references.add(project, metadata.epoch, METADATA, digests)


def _create(
    tx: Transaction, deps: Deps, publication: Publication, findings: Findings, now: float
) -> None:
    metadata = publication.metadata
    project = tx.projects.add(metadata.project, metadata.root_key, metadata.epoch, now)
    _put_in_force(tx, publication, project, findings, now)
    if findings.keys:
        keep_keys(tx, deps, tx.projects.get(project), findings.keys)
    elif metadata.access == "invited":
        tx.projects.set_keys(project, [metadata.sealed_with])
    tx.events.add(project, now, "published", number=metadata.number)
    if findings.brought is None or findings.facts is None:
        tx.versions.add(_version_0(project, metadata, now))
    else:
        take_over(tx, project, findings.brought, findings.facts, now)
        settle(tx, project, now)


def _renew(
    tx: Transaction, publication: Publication, known: Project, findings: Findings, now: float
) -> None:
    metadata = publication.metadata
    _put_in_force(tx, publication, known.id, findings, now)
    if metadata.sealed_with and metadata.sealed_with not in known.keys:  # lost with a restore
        tx.projects.set_keys(known.id, [*known.keys, metadata.sealed_with])
    tx.events.add(known.id, now, "published", number=metadata.number, epoch=metadata.epoch)
    if metadata.root_key != known.root_key:
        tx.events.add(known.id, now, "root_changed", key=fingerprint_of(metadata.root_key))
    if metadata.epoch > known.epoch:
        _end_round(tx, known, now)
        tx.projects.start_epoch(known.id, metadata.epoch, now)
        tx.versions.add(_version_0(known.id, metadata, now))
    follow_researcher(tx, known, metadata, now)
    settle(tx, known.id, now)


def _end_round(tx: Transaction, known: Project, now: float) -> None:
    """Close the round that the ending epoch has open; versions before it are history already."""
    place = (known.id, known.epoch, known.version)
    row = tx.rounds.get(*place)
    if row is not None:
        tx.rounds.close(row, now)
    for unit in tx.units.of_round(*place, {UnitState.OPEN, UnitState.VALID}):
        tx.units.move(unit, UnitEvent.CANCELLED, now, None)
        for assignment in tx.assignments.reported(unit.id):
            tx.assignments.set_aside(assignment, because(ReasonCode.EPOCH_ENDED))


def _version_0(project: int, metadata: ProjectMetadata, now: float) -> VersionRow:
    return VersionRow(
        project=project,
        epoch=metadata.epoch,
        number=0,
        digest=metadata.model.initial_digest,
        metadata_number=metadata.number,
        difference="",
        outer_state="",
        snapshot=metadata.model.initial.digest,
        inputs=(),
        source=first_source(metadata),
        train_loss=None,
        made_at=now,
    )
