"""take over: go on with a project that another coordinator has begun.

Its root key has signed that this coordinator serves it from now on. The researcher brings what a
mirror has: every version, the signed log of them, earlier metadata, and the blobs of the newest
version. Hosts enrol again; they take the step back to the newest version here, if any, as they do
after a restored backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.aggregation.versions import first_source
from pleb_coordinator.core.records import Kept, VersionRow
from pleb_coordinator.steps.version_history import LoggedVersion
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.roots import root_path
from pleb_shared.protocol.signing import peek_payload, verify_bytes
from pleb_shared.protocol.version_log import FIRST, LogEntry
from pleb_shared.tensors.distance import parameter_norms
from pleb_shared.tensors.version import read_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.core.records import Facts
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import ProjectBlobs
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.messages import History

__all__ = ["Brought", "read_history", "take_over"]

_MOST_LINE_BYTES: Final = LIMITS.metadata_bytes


@dataclass(frozen=True)
class Brought:
    """A project's history, checked; of versions, `project` is not known yet."""

    versions: tuple[VersionRow, ...]
    """Of all epochs, oldest first; the newest can be built, and has its outer state."""
    metadata: dict[int, bytes]
    """Earlier envelopes by number."""

    @property
    def blobs(self) -> frozenset[str]:
        """Digests of all blobs that the versions need."""
        return frozenset().union(*(row.blobs for row in self.versions))


def read_history(
    deps: Deps, blobs: ProjectBlobs, metadata: ProjectMetadata, history: History
) -> Brought:
    """Read what a researcher has brought, whose blobs are all here, and check it.

    `blobs` opens those of a private project.

    The newest version is computed: its digest has to be the one that the log has.

    Raises:
        Refusal: `malformed`: it contradicts itself or the metadata; `unknown_blob`: something that
            it needs was not brought.
        EncodingError: the newest version has another digest than the log says.
    """
    logged = [_line(line, LoggedVersion) for line in _lines(blobs, history.versions.digest)]
    entries = [_entry(line) for line in _lines(blobs, history.entries.digest)]
    if not logged or [(e.epoch, e.number, e.digest) for e, _ in entries] != [
        (v.epoch, v.number, v.digest) for v in logged
    ]:
        raise _malformed("its list of versions and its signed log differ")
    for (entry, _), before in zip(
        entries, [FIRST, *(digest for _, digest in entries)], strict=False
    ):
        if entry.previous != before:
            raise _malformed("a line of the log does not name the one before it")
    places = [(version.epoch, version.number) for version in logged]
    if places != sorted(set(places)) or places[-1][0] != metadata.epoch:
        raise _malformed(f"its newest version is not of epoch {metadata.epoch}")
    rows = [
        _row(version, entry, newest=place == places[-1])
        for version, (entry, _), place in zip(logged, entries, places, strict=True)
    ]
    rows[-1] = _checked(deps, blobs, metadata, rows[-1])
    rows = [_with_initial(metadata, row) for row in rows]
    envelopes = _envelopes(blobs, metadata, history)
    brought = Brought(tuple(rows), envelopes)
    found = deps.blobs.sizes(brought.blobs)
    if lacking := brought.blobs - found.keys():
        message = f"The history needs {len(lacking)} blobs that were not brought: move again."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    return brought


def take_over(tx: Transaction, project: int, brought: Brought, facts: Facts, now: float) -> None:
    """Give a project that has no versions yet its history; it goes on from the newest."""
    for number, envelope in brought.metadata.items():
        tx.projects.keep_envelope(project, number, envelope, facts, now)
    for row in brought.versions:
        tx.versions.add(msgspec.structs.replace(row, project=project))
    newest = brought.versions[-1]
    if newest.number:
        tx.projects.advance(project, newest.epoch, 0, newest.number)
    tx.projects.set_restored(project, int(now))
    tx.events.add(project, now, "taken_over", version=newest.number, digest=newest.digest)


def _lines(blobs: ProjectBlobs, digest: str) -> Iterator[bytes]:
    return (line for line in blobs.get(digest).split(b"\n") if line)


def _line(line: bytes, kind: type[LoggedVersion]) -> LoggedVersion:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise _malformed(f"a line of its versions cannot be read ({error})") from error


def _entry(line: bytes) -> tuple[LogEntry, str]:
    return strict_json.decode(line, LogEntry, most_bytes=LIMITS.message_bytes), digest_of(line)


def _row(version: LoggedVersion, entry: LogEntry, *, newest: bool) -> VersionRow:
    """Return a version's row: the newest can be read, of earlier ones the list is kept."""
    source = version.source if newest else None
    made = source is not None and version.number > 0
    return VersionRow(
        project=0,
        epoch=version.epoch,
        number=version.number,
        digest=version.digest,
        metadata_number=version.metadata_number,
        difference=source.differences[-1].digest if source and source.differences and made else "",
        outer_state=version.outer_state if newest else "",
        snapshot=version.snapshot if newest else "",
        inputs=(),
        source=source,
        train_loss=version.train_loss,
        made_at=version.made_at,
        restores=version.restores,
        kept=Kept.READABLE if newest else Kept.LISTED,
        results=version.results,
        leaves=entry.results,
    )


def _checked(
    deps: Deps, blobs: ProjectBlobs, metadata: ProjectMetadata, row: VersionRow
) -> VersionRow:
    """Build the newest version; return its row with what follows from its tensors."""
    if row.source is None or (row.number and not row.outer_state):
        raise _malformed("it does not say how its newest version is put together")
    wanted = row.blobs
    sizes = deps.blobs.sizes(wanted)
    if lacking := wanted - sizes.keys():
        message = f"{len(lacking)} blobs of version {row.number} were not brought: move again."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    source, kept = row.source, (row.difference, row.outer_state, row.snapshot)
    if (source.epoch, source.number, source.digest) != (row.epoch, row.number, row.digest):
        raise _malformed("its newest version is put together to be another one")
    version = read_version(source, metadata, blobs.get)
    return msgspec.structs.replace(
        row,
        norms=parameter_norms(version, metadata.model) if row.number else (),
        blob_bytes=sum(sizes.get(digest, 0) for digest in kept),
    )


def _with_initial(metadata: ProjectMetadata, row: VersionRow) -> VersionRow:
    """Return the row; if it is the epoch's version 0, which the metadata name, it can be read."""
    if (row.epoch, row.number) != (metadata.epoch, 0):
        return row
    return msgspec.structs.replace(
        row,
        source=first_source(metadata),
        snapshot=metadata.model.initial.digest,
        kept=Kept.EXACT,
    )


def _envelopes(
    blobs: ProjectBlobs, metadata: ProjectMetadata, history: History
) -> dict[int, bytes]:
    """Return earlier metadata by number; each is signed by a root key of the project."""
    found = {}
    roots = set(root_path(metadata))
    for line in _lines(blobs, history.metadata.digest):
        payload = peek_payload(line, PayloadType.METADATA, most_bytes=_MOST_LINE_BYTES)
        claimed = strict_json.decode(payload, ProjectMetadata, most_bytes=_MOST_LINE_BYTES)
        if claimed.project != metadata.project or claimed.root_key not in roots:
            raise _malformed("it has metadata of another project")
        verify_bytes(line, PayloadType.METADATA, claimed.root_key)
        if claimed.number < metadata.number:
            found[claimed.number] = line
    return found


def _malformed(why: str) -> Refusal:
    return Refusal(RefusalCode.MALFORMED, f"The project's history cannot be used: {why}.")
