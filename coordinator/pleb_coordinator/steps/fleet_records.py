"""records of a fleet: what a coordinator signs of a project's hosts, and what the next one takes.

Credit is taken as it is. A record is not: who has kept the old coordinator, or has stolen its key,
could name friends of his as proven hosts. So a host is as new here until one exam, which an anchor
of this coordinator decides, has confirmed it; then it is proven, and checked each time at first,
whatever record it had. Convictions and bans come along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Adopted, Departed
from pleb_coordinator.core.reputation import adopted_record
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.fleet_records import FleetHead, join_records, read_records
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.roots import root_path
from pleb_shared.protocol.signing import peek_payload, sign_payload, verify_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import ProjectBlobs
    from pleb_coordinator.steps.take_over import Brought
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.fleet_records import BroughtRecords, FleetRecord

__all__ = [
    "FoundRecords",
    "adopt_records",
    "check_records",
    "check_root_key",
    "find_records",
    "signed_records",
]


@dataclass(frozen=True)
class FoundRecords:
    """A statement as it was brought; its signature is NOT checked yet."""

    envelope: bytes
    head: FleetHead
    records: tuple[FleetRecord, ...]


def check_root_key(tx: Transaction, project: Project, key: str) -> None:
    """Return if the key is a root key of the project, here or where it has moved to.

    Raises:
        Refusal: `bad_signature`: it is none, or revoked.
    """
    _, envelope = tx.projects.newest_envelope(project.id)
    newest = _opened(envelope)
    known = {*root_path(project.metadata), *root_path(newest)}
    if key not in known or fingerprint_of(key) in newest.revoked:
        message = f"Only who has the root key of {project.name} gets the records of its hosts."
        raise Refusal(RefusalCode.BAD_SIGNATURE, message)


def signed_records(deps: Deps, project: Project, told: Iterable[FleetRecord]) -> bytes:
    """Return the envelope of the statement's head, a line feed, and its lines.

    Raises:
        Refusal: `too_large`.
    """
    lines, count = join_records(told)
    head = FleetHead(
        project=project.name,
        lines=count,
        digest=digest_of(lines),
        epoch=project.epoch,
        version=project.version,
        issued_at=int(deps.clock()),
    )
    key = deps.online_keys.of(project.metadata.delegation.online_key)
    return sign_payload(strict_json.encode(head), PayloadType.RECORDS, key) + b"\n" + lines


def find_records(blobs: ProjectBlobs, brought: BroughtRecords) -> FoundRecords:
    """Return a statement whose lines are in a blob that is here.

    Raises:
        Refusal: as `read_records`; `malformed`, `too_large`: the head is none.
    """
    if brought.lines.size > LIMITS.fleet_records_bytes:
        message = f"A statement of records has at most {LIMITS.fleet_records_bytes} bytes."
        raise Refusal(RefusalCode.TOO_LARGE, message)
    envelope = brought.head.encode()
    head = strict_json.decode(peek_payload(envelope, PayloadType.RECORDS), FleetHead)
    records = read_records(blobs.get(brought.lines.digest), head)
    return FoundRecords(envelope, head, tuple(records))


def check_records(
    tx: Transaction,
    deps: Deps,
    metadata: ProjectMetadata,
    known: Project | None,
    brought: Brought | None,
    found: FoundRecords,
) -> None:
    """Return if a statement that comes with these metadata may be taken over.

    It must be called before the metadata are put in force. `known` is the project as it is here;
    None: it is new, and `brought` is its history.

    Raises:
        Refusal: `bad_signature`: the coordinator before has not signed it, or with a revoked key;
            `wrong_audience`: it is of another project; `stale_metadata`: one was taken over
            already, or it is older than the version that was brought.
    """
    head = found.head
    earlier = _earlier(tx, metadata.number, known, brought)
    verify_bytes(found.envelope, PayloadType.RECORDS, _key_before(deps, metadata, earlier))
    if head.project != metadata.project:
        message = f"The statement of records is of project {head.project!r}."
        raise Refusal(RefusalCode.WRONG_AUDIENCE, message)
    if known is not None and known.records_at:
        message = f"The records of {known.name}'s hosts were taken over already."
        raise Refusal(RefusalCode.STALE_METADATA, message)
    newest = (0, 0)
    if brought is not None:
        newest = (brought.versions[-1].epoch, brought.versions[-1].number)
    latest = deps.clock() + LIMITS.clock_tolerance_seconds
    if (head.epoch, head.version) < newest or head.issued_at > latest:
        message = (
            f"The statement of records is of version {head.version} of epoch {head.epoch}, not of "
            "the version that the project goes on from, or its time is wrong: move again."
        )
        raise Refusal(RefusalCode.STALE_METADATA, message)


def adopt_records(tx: Transaction, deps: Deps, project: Project, found: FoundRecords) -> None:
    """Take over credit and records from a statement that was checked.

    Hosts that have enrolled here meanwhile get what they had there beside what they have earned.
    """
    now = deps.clock()
    tx.hosts.adopt(
        _adopted(project, told, told.key, now) for told in found.records if told.key is not None
    )
    tx.hosts.adopt_accounts(
        Departed(
            project=project.id,
            account=told.account,
            display_name=told.display_name,
            team=told.team,
            units_valid=told.units_valid,
            refused=told.refused,
            bans=told.bans,
            credit=told.credit,
        )
        for told in found.records
        if told.key is None
    )
    tx.projects.set_records_at(project.id, found.head.issued_at)
    tx.events.add(project.id, now, "records_taken_over", hosts=len(found.records))


def _adopted(project: Project, told: FleetRecord, key: str, now: float) -> Adopted:
    rules = project.metadata.verification
    return Adopted(
        project=project.id,
        fingerprint=fingerprint_of(key),
        key=key,
        account=told.account,
        display_name=told.display_name,
        team=told.team,
        enrolled_at=now,
        last_seen=min(told.last_seen, now),
        record=adopted_record(told.record, rules),
        proven=not rules.new_host_units,
        refused=told.refused,
        bans=told.bans,
        banned_until=told.banned_until,
        ban_reason=told.ban_reason,
        credit=told.credit,
        units_valid=told.units_valid,
    )


def _earlier(
    tx: Transaction, number: int, known: Project | None, brought: Brought | None
) -> Iterator[ProjectMetadata]:
    """Yield the metadata before those with that number, the newest first."""
    for earlier in range(number - 1, 0, -1):
        if known is not None:
            try:
                yield tx.projects.metadata_at(known.id, earlier)
            except LookupError:
                continue
        elif brought is not None and earlier in brought.metadata:
            yield _opened(brought.metadata[earlier])


def _key_before(deps: Deps, metadata: ProjectMetadata, earlier: Iterator[ProjectMetadata]) -> str:
    """Return the online key of the coordinator that the project was moved from.

    Raises:
        Refusal: `bad_signature`: there is none, or the root key has revoked it.
    """
    own = {key.public for key in deps.online_keys.all()}
    keys = (one.delegation.online_key for one in earlier)
    key = next((key for key in keys if key not in own), None)
    if key is None or fingerprint_of(key) in metadata.revoked:
        message = (
            f"No coordinator before this one may speak of {metadata.project}'s hosts: the root key "
            "has delegated to none, or has revoked its key."
        )
        raise Refusal(RefusalCode.BAD_SIGNATURE, message)
    return key


def _opened(envelope: bytes) -> ProjectMetadata:
    """Return the metadata in an envelope whose signature was checked."""
    most = LIMITS.metadata_bytes
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=most)
    return strict_json.decode(payload, ProjectMetadata, most_bytes=most)
