"""Copies what hosts need of a project to a mirror, and removes what they do not need any more.

TO/blobs/DIGEST              graphs, shards, the base, what builds recent versions, and which
                             results each version was made of (the leaves of the signed log)
TO/parts/DIGEST              the leaves of large ones
TO/projects/P/metadata       the newest signed metadata; `metadata-N`: each that was signed
TO/projects/P/log.jsonl      every version: its number, digest, inputs and source, oldest first
TO/projects/P/log-entries    the signed log of versions (`protocol.version_log`): its lines
TO/projects/P/log-head       its signed end
TO/projects/P/files.json     what this project needs here, so that several can share a mirror

The names are those of the coordinator's own addresses, so any web server over TO is a mirror. Blobs
come before the files that name them, and go after. Nothing secret is among them: whoever can guess
a digest gets the same bytes from the coordinator. Of a private project the blobs are sealed anyhow;
metadata and log are sealed with its newest key, and P is a name that says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_coordinator.blobs.parts import leaves_in
from pleb_coordinator.blobs.store import damaged_blob
from pleb_coordinator.core.access import is_private
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.version_history import all_versions, line_of
from pleb_coordinator.steps.version_log import log_of, sign_head
from pleb_coordinator.store.references import METADATA
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.backups.mirror_target import MirrorTarget
    from pleb_coordinator.blobs.store import Blobs
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "MirrorFiles",
    "Synced",
    "files_for_mirror",
    "mirror_name",
    "sync_mirror",
]

_READ_BYTES: Final = 2**20
Digests = Annotated[list[str], msgspec.Meta(max_length=2 * LIMITS.shards)]


class _Files(msgspec.Struct, frozen=True):
    """What `files.json` says."""

    digests: Digests


@dataclass(frozen=True)
class MirrorFiles:
    """What a mirror of a project has."""

    project: str
    digests: frozenset[str]
    metadata: dict[int, bytes]
    """Every signed envelope by its number."""
    log: bytes
    entries: bytes = b""
    """The lines of the signed log."""
    head: bytes = b""
    """Its signed end."""


@dataclass(frozen=True)
class Synced:
    """What a run has done."""

    copied: int
    copied_bytes: int
    removed: int
    files: int
    """Blobs that the mirror has of this project now."""


def files_for_mirror(tx: Transaction, deps: Deps, project: Project) -> MirrorFiles:
    """Return what hosts need of a project, and what it could be continued from elsewhere.

    Raises:
        InputError: another coordinator goes on with it, and the mirror has later versions.
    """
    if project.state is ProjectState.MOVED:
        raise InputError(
            f"{project.name} has moved to another coordinator: run `mirror sync` there."
        )
    epoch, newest = project.epoch, project.version
    digests = set(tx.references.of(project.id, epoch, METADATA))
    log = bytearray()
    for row in all_versions(tx, project):
        log += line_of(row) + b"\n"
        if row.leaves is not None:
            digests.add(row.leaves.digest)
        recent = row.epoch == epoch and row.number >= newest - LIMITS.version_lag
        if recent and row.source is not None:
            digests.add(row.source.snapshot.digest)
            digests.update(blob.digest for blob in row.source.differences)
        if (row.epoch, row.number) == (epoch, newest):
            digests.update(filter(None, (row.outer_state, row.snapshot)))
    envelopes = {}
    for number in range(1, project.metadata_number + 1):
        try:
            envelopes[number] = tx.projects.envelope(project.id, number)
        except LookupError:
            continue  # a restored coordinator may lack some
    blobs = blobs_of(deps, project)
    lines = log_of(tx, project)
    return MirrorFiles(
        project=mirror_name(deps, project),
        digests=frozenset(digests),
        metadata={number: blobs.sealed(envelope) for number, envelope in envelopes.items()},
        log=blobs.sealed(bytes(log)),
        entries=blobs.sealed(b"\n".join(lines)),
        head=blobs.sealed(sign_head(deps, project, lines)),
    )


def mirror_name(deps: Deps, project: Project) -> str:
    """Return what a project is called on a mirror: its name, or of a private one a secret's."""
    if not is_private(project):
        return project.name
    return hmac.digest(deps.secret, f"pleb mirror\n{project.name}".encode(), "sha256").hex()[:40]


def sync_mirror(blobs: Blobs, target: MirrorTarget, wanted: MirrorFiles) -> Synced:
    """Make a mirror have what is wanted of one project; what other projects need stays.

    It may be interrupted at any point, and goes on with the next run.

    Raises:
        Refusal: a blob is damaged or missing here, or the bucket does not answer.
        OSError: the folder cannot be written.
    """
    folder = f"projects/{wanted.project}"
    before = _files_of(target, folder)
    target.write(f"{folder}/files.json", [_encoded(before | wanted.digests)])
    there, leaves_there = target.sizes("blobs"), target.sizes("parts")
    copied = copied_bytes = 0
    for digest, size in sorted(blobs.sizes(wanted.digests).items()):
        if size > LIMITS.blob_part_bytes and digest not in leaves_there:
            target.write(f"parts/{digest}", leaves_in(blobs, digest))
        if there.get(digest) != size:
            target.write(f"blobs/{digest}", _checked(blobs, digest, size))
            copied += 1
            copied_bytes += size
    written = target.sizes(folder)
    for number, envelope in wanted.metadata.items():
        if written.get(f"metadata-{number}") != len(envelope):
            target.write(f"{folder}/metadata-{number}", [envelope])
    target.write(f"{folder}/log.jsonl", [wanted.log])
    target.write(f"{folder}/log-entries", [wanted.entries])
    target.write(f"{folder}/log-head", [wanted.head])  # last: it vouches for what is there
    if wanted.metadata:
        target.write(f"{folder}/metadata", [wanted.metadata[max(wanted.metadata)]])
    unneeded = before - wanted.digests - _needed_by_others(target, wanted.project)
    for digest in sorted(unneeded):
        target.delete(f"blobs/{digest}")
        target.delete(f"parts/{digest}")
    target.write(f"{folder}/files.json", [_encoded(wanted.digests)])
    return Synced(copied, copied_bytes, len(unneeded), len(wanted.digests))


def _checked(blobs: Blobs, digest: str, size: int) -> Iterator[bytes]:
    """Yield a blob's bytes. Raises `Refusal` before the last of them if they are damaged."""
    hasher = hashlib.sha256()
    for start in range(0, max(size, 1), _READ_BYTES):
        part = blobs.read(digest, start, min(size, start + _READ_BYTES))
        hasher.update(part)
        if start + _READ_BYTES >= size and hasher.hexdigest() != digest:
            raise damaged_blob(digest)
        yield part


def _files_of(target: MirrorTarget, folder: str) -> frozenset[str]:
    data = target.read(f"{folder}/files.json")
    if data is None:
        return frozenset()
    try:
        return frozenset(msgspec.json.decode(data, type=_Files).digests)
    except msgspec.DecodeError:
        return frozenset()  # damaged: what it named may stay there for ever, which harms nobody


def _needed_by_others(target: MirrorTarget, project: str) -> frozenset[str]:
    names = {name.partition("/")[0] for name in target.sizes("projects")} - {project}
    return frozenset().union(*(_files_of(target, f"projects/{name}") for name in names))


def _encoded(digests: frozenset[str]) -> bytes:
    return msgspec.json.encode(_Files(sorted(digests)))
