"""verify: find this PC's accepted units in the project's signed log of versions.

    metadata ─(pinned root)─> online key ─> log-head ─> log-entries ─> blobs of leaves

Everything comes from one web server, a mirror or the coordinator, and none of it is believed
(docs/protocol.md 11). What was found is written on the receipts; the last line that was seen signed
is remembered, so that a project cannot show another history later.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.trust import Memory, OlderMetadataError, TrustedProject
from pleb_agent.journal.receipts import Proof, receipts_of_project, set_proofs
from pleb_shared.errors import Refusal, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.sealing import unseal
from pleb_shared.protocol.signing import open_envelope, peek_payload
from pleb_shared.protocol.version_log import (
    LogEntry,
    LogHead,
    contains,
    read_log,
    result_leaf,
    taken_back,
)
from pleb_system.network_errors import BadAnswerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.client.http import HttpClient
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.receipts import Receipt
    from pleb_agent.journal.rows import ProjectRow
    from pleb_shared.protocol.sealing import Keyring

__all__ = ["Verified", "VersionShare", "verify"]

_LOG_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class VersionShare:
    """How many units of this PC a version has."""

    epoch: int
    version: int
    units: int


@dataclass(frozen=True)
class Verified:
    """What the log says of a project's receipts.

    `later`: units that count for versions which this log does not have yet.
    """

    project: str
    source: str
    newest: int
    versions: tuple[VersionShare, ...]
    units: int
    taken_back: int
    missing: int
    later: int


class _Seen(msgspec.Struct, frozen=True):
    """The last line that was seen signed, and when the coordinator had been restored then."""

    entries: int
    last: str
    epoch: int
    restored_at: int


async def verify(
    journal: Journal,
    row: ProjectRow,
    client: HttpClient,
    *,
    now: float,
    again: bool = False,
    keyring: Keyring | None = None,
) -> Verified:
    """Look for a project's receipts in the log that `client`'s server has; write what was found.

    `again`: also for those that were found before. `keyring`: the keys of a private project.

    Raises:
        TrustError: it is not the log that the project's coordinator has signed, or another one
            than this PC saw before.
        NetworkError: the server does not have it, or cannot be reached.
    """
    head, entries = await _read(row, client, now)
    setting = f"log_seen {row.base_url} {row.name}"
    _check_history(row, journal.setting(setting), entries)
    back = taken_back(entry for entry, _ in entries)
    by_version = {(entry.epoch, entry.number): entry for entry, _ in entries}
    groups: defaultdict[tuple[int, int], list[Receipt]] = defaultdict(list)
    for receipt in receipts_of_project(journal, row):
        groups[receipt.epoch, receipt.version].append(receipt)
    found: dict[int, Proof] = {}
    for place, receipts in groups.items():
        if place in by_version:
            unknown = [one for one in receipts if again or one.proof is Proof.NOT_LOOKED]
            found |= await _look(client, by_version[place], unknown, keyring)
            known = {one.id: one.proof for one in receipts} | found
            for one in receipts:
                if place in back and known[one.id] is Proof.IN:
                    found[one.id] = Proof.TAKEN_BACK
    set_proofs(journal, found.items())
    newest = _Seen(head.entries, head.last, head.epoch, row.memory.restored_at)
    if _is_newer(newest, journal.setting(setting)):
        journal.set_setting(setting, msgspec.json.encode(newest).decode())
    return _summary(row, client.base_url, head, groups, found)


async def _read(
    row: ProjectRow, client: HttpClient, now: float
) -> tuple[LogHead, list[tuple[LogEntry, str]]]:
    """Return the verified log."""
    folder = f"/projects/{row.name}"
    what = f"the log of {row.name}"
    metadata = await _get(client, f"{folder}/metadata", LIMITS.metadata_bytes, what)
    envelope = await _get(client, f"{folder}/log-head", LIMITS.message_bytes, what)
    known = Memory(
        metadata_number=row.memory.metadata_number,
        metadata_digest=row.memory.metadata_digest,
        epoch=row.memory.epoch,
        root=row.memory.root,
    )
    trust = TrustedProject(row.name, row.attach_link.root, row.host, known)
    try:
        claimed = strict_json.decode(peek_payload(envelope, PayloadType.LOG_HEAD), LogHead)
        if claimed.issued_at > now + LIMITS.clock_tolerance_seconds:
            raise _unsigned(row.name)
        # The permission may have ended since: it is asked for at the time of the signature.
        signer = trust.update_metadata(metadata, claimed.issued_at).delegation.online_key
        head = open_envelope(envelope, PayloadType.LOG_HEAD, LogHead, signer)
    except OlderMetadataError as error:
        raise TrustError(
            f"{client.base_url} has older metadata of {row.name} than this PC: its log is not "
            "believed. Whoever runs it has to copy the project again (`mirror sync`)."
        ) from error
    except Refusal as error:
        raise _unsigned(row.name) from error
    if head.project != row.name:
        raise _unsigned(row.name)
    lines = await _get(client, f"{folder}/log-entries", _LOG_BYTES, what)
    try:
        return head, read_log(lines, head)
    except Refusal as error:
        raise _unsigned(row.name) from error


async def _get(client: HttpClient, path: str, most_bytes: int, what: str) -> bytes:
    """Return a file.

    Raises:
        BadAnswerError: the server does not have it.
        UnreachableError: it does not answer; nothing tries again by itself.
    """
    try:
        return await client.message("GET", path, most_bytes)
    except UnreachableError as error:
        raise UnreachableError(
            f"{client.base_url} cannot be reached: check the address and your network, then try "
            "again, or name a mirror with --mirror."
        ) from error
    except (Refusal, BadAnswerError) as error:
        message = (
            f"{client.base_url} does not have {what}: try another mirror or the coordinator. "
            f"({error})"
        )
        raise BadAnswerError(message) from error


def _check_history(
    row: ProjectRow, seen_before: str, entries: Sequence[tuple[LogEntry, str]]
) -> None:
    """Refuse a log that lacks a line which this PC has seen signed.

    A log that does not reach so far is an old copy. A restored backup, or a new epoch, may go back.
    """
    if not seen_before:
        return
    seen = msgspec.json.decode(seen_before, type=_Seen)
    newest = entries[-1][0]
    if newest.epoch != seen.epoch or row.memory.restored_at != seen.restored_at:
        return
    if len(entries) >= seen.entries and entries[seen.entries - 1][1] != seen.last:
        raise TrustError(
            f"This log of {row.name} is signed, but it is another history than the one that this "
            "PC saw signed before: the coordinator shows different people different versions. Ask "
            "the project's researcher."
        )


def _is_newer(seen: _Seen, before: str) -> bool:
    if not before:
        return True
    known = msgspec.json.decode(before, type=_Seen)
    same = (seen.epoch, seen.restored_at) == (known.epoch, known.restored_at)
    return not same or seen.entries > known.entries


async def _look(
    client: HttpClient,
    entry: LogEntry,
    receipts: Sequence[Receipt],
    keyring: Keyring | None,
) -> dict[int, Proof]:
    """Return which receipts are in the version's list."""
    if not receipts:
        return {}
    leaves = b""
    if entry.results is not None:
        name, most = entry.results.digest, min(entry.results.size, _LOG_BYTES)
        what = f"the list of results of version {entry.number}"
        leaves = await _get(client, f"/blobs/{name}", most, what)
        if digest_of(leaves) != name:
            raise TrustError(
                f"The list of results of version {entry.number} is not the one that the log names: "
                f"do not believe {client.base_url}, and tell who runs it."
            )
        if keyring is not None:
            leaves = unseal(leaves, keyring)
    return {
        one.id: Proof.IN
        if contains(leaves, result_leaf(one.nonce, one.host, one.digest))
        else Proof.MISSING
        for one in receipts
    }


def _summary(
    row: ProjectRow,
    source: str,
    head: LogHead,
    groups: dict[tuple[int, int], list[Receipt]],
    found: dict[int, Proof],
) -> Verified:
    proofs = {
        place: [found.get(one.id, one.proof) for one in receipts]
        for place, receipts in groups.items()
    }
    counts = {place: kinds.count(Proof.IN) for place, kinds in proofs.items()}
    every = [proof for kinds in proofs.values() for proof in kinds]
    return Verified(
        project=row.name,
        source=source,
        newest=head.version,
        versions=tuple(
            VersionShare(epoch, version, units)
            for (epoch, version), units in sorted(counts.items())
            if units
        ),
        units=sum(counts.values()),
        taken_back=every.count(Proof.TAKEN_BACK),
        missing=every.count(Proof.MISSING),
        later=every.count(Proof.NOT_LOOKED),
    )


def _unsigned(project: str) -> TrustError:
    return TrustError(
        f"The end of this log of {project} is not signed by the project's coordinator: it was "
        "forged or altered. Do not believe it, and tell who runs the mirror."
    )
