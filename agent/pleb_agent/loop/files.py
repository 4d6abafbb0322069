"""The files of a unit: which blobs it needs, getting them, laying them out for the worker."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.cache.errors import CorruptBlobError, disk_errors
from pleb_agent.client.errors import WrongBytesError
from pleb_agent.worker.job import Job
from pleb_agent.worker.plain_files import create_plain, new_plain, own_directory, remove_plain
from pleb_shared.errors import Refusal, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ProjectMetadata, ShardList
from pleb_shared.protocol.unit import Blob, UnitKind

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.cache.blob_cache import BlobCache
    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.ports import Clock
    from pleb_agent.loop.session import Session
    from pleb_shared.protocol.manifest import Manifest

__all__ = [
    "UnitFiles",
    "clean_shards",
    "discard_files",
    "fetch",
    "fetch_unit",
    "files_at_hand",
    "held",
    "job_for",
    "unit_files",
]

_LOG: Final = logging.getLogger("pleb.agent")
_TRIES: Final = 3


@dataclass(frozen=True)
class UnitFiles:
    """The blobs of one unit."""

    graph: Blob
    snapshot: Blob
    differences: tuple[Blob, ...]
    shards: tuple[Blob, ...]

    def public(self) -> list[Blob]:
        """What anybody can read at the project's page."""
        return [self.graph, self.snapshot, *self.differences]

    def all(self) -> list[Blob]:
        """Every blob, in the order in which they are fetched."""
        return [*self.public(), *self.shards]


def unit_files(manifest: Manifest, metadata: ProjectMetadata, shards: ShardList) -> UnitFiles:
    """Return which blobs a unit needs.

    Raises:
        TrustError: it asks for shards where the project has none, or for more than there are.
    """
    unit = manifest.unit
    evaluates = unit.kind is UnitKind.EVALUATE
    listed = shards.holdout if evaluates else shards.train
    if not 0 < unit.shards.count <= len(listed):
        raise TrustError(
            f"Assignment {manifest.assignment} asks for {unit.shards.count} shards of a list of "
            f"{len(listed)}."
        )
    first = unit.shards.first
    chosen = [listed[(first + i) % len(listed)] for i in range(unit.shards.count)]
    return UnitFiles(
        graph=metadata.evaluation_graph if evaluates else metadata.training_graph,
        snapshot=manifest.version.snapshot,
        differences=tuple(manifest.version.differences),
        shards=tuple(Blob(digest=shard.digest, size=shard.size) for shard in chosen),
    )


async def fetch(
    session: Session, cache: BlobCache, blob: Blob, cipher: ShardCipher | None = None
) -> None:
    """Get one blob into the cache unless it is there; with a cipher it lies there encrypted.

    Wrong bytes are thrown away and asked for again, three times at most.

    Raises:
        NetworkError: it broke; what came is kept and the next call goes on.
        Refusal: the coordinator does not have it, or not for us.
        PlebError: no room in the cache or on the disk.
    """
    if cache.has(blob, cipher):
        return
    for _ in range(_TRIES):
        part = cache.part(blob, cipher)
        try:
            if part.offset < blob.size or not blob.size:
                await session.client.download(blob, part)
            part.finish()
        except (CorruptBlobError, WrongBytesError) as error:
            _LOG.warning("fetch", extra={"digest": blob.digest, "problem": str(error)})
        else:
            return
        finally:
            part.close()
    raise WrongBytesError(
        f"The coordinator sent wrong bytes for blob {blob.digest[:12]} {_TRIES} times; "
        "it will be asked again later."
    )


async def shard_list(session: Session, cache: BlobCache) -> ShardList:
    """Return the project's list of shards, fetching it if it is new."""
    blob = session.metadata.data.shards
    if session.shards is not None and session.shards[0] == blob.digest:
        return session.shards[1]
    if blob.size > LIMITS.shard_list_bytes:
        raise TrustError(f"The shard list of {session.name} is too large.")
    await fetch(session, cache, blob)
    return _read_shard_list(session, cache)


def _read_shard_list(session: Session, cache: BlobCache) -> ShardList:
    blob = session.metadata.data.shards
    try:
        listed = strict_json.decode(cache.read(blob), ShardList, most_bytes=LIMITS.shard_list_bytes)
    except Refusal as error:
        raise TrustError(f"The shard list of {session.name} cannot be read: {error}") from error
    session.shards = (blob.digest, listed)
    return listed


async def fetch_unit(
    session: Session, cache: BlobCache, manifest: Manifest, clock: Clock
) -> UnitFiles:
    """Get all that a unit needs; return its files."""
    files = unit_files(manifest, session.metadata, await shard_list(session, cache))
    with cache.hold(files.all()):
        for blob in files.public():
            await fetch(session, cache, blob)
            cache.touch(blob.digest, clock())
            session.note_fetched(blob.digest)
        for blob in files.shards:
            await fetch(session, cache, blob, session.cipher)
            cache.touch(blob.digest, clock(), session.cipher)
    return files


def discard_files(session: Session, cache: BlobCache, files: UnitFiles) -> None:
    """Throw a unit's files away: they are damaged."""
    for blob in files.public():
        cache.discard(blob.digest)
    for blob in files.shards:
        cache.discard(blob.digest, session.cipher)


def held(session: Session, cache: BlobCache, count: int) -> list[str]:
    """Return the digests of at most `count` of this project's blobs that are here.

    No other project's: what a volunteer does elsewhere is not its coordinator's business.
    """
    plain = [digest for digest in cache.recent(10 * count) if digest in session.fetched]
    return [*plain[: count // 2], *cache.recent(count, session.cipher)][:count]


def files_at_hand(session: Session, cache: BlobCache, manifest: Manifest) -> UnitFiles | None:
    """Return the unit's files if none of them is missing, without asking anybody.

    Raises:
        TrustError: as `unit_files`.
    """
    blob = session.metadata.data.shards
    if session.shards is not None and session.shards[0] == blob.digest:
        listed = session.shards[1]
    elif cache.has(blob):
        listed = _read_shard_list(session, cache)
    else:
        return None
    files = unit_files(manifest, session.metadata, listed)
    here = all(cache.has(one) for one in files.public()) and all(
        cache.has(one, session.cipher) for one in files.shards
    )
    return files if here else None


def job_for(
    session: Session,
    row: AssignmentRow,
    files: UnitFiles,
    cache: BlobCache,
    metadata: bytes,
    job_dir: Path,
) -> Job:
    """Lay a unit's files out in its directory, where a checkpoint may lie already.

    The shards lie there in the clear; `clean_shards` deletes them when the worker is done.

    Raises:
        CorruptBlobError: a blob vanished meanwhile.
        DiskFullError: the disk cannot take them.
    """
    with disk_errors():
        own_directory(job_dir)
    differences = [f"difference-{i}.bin" for i in range(len(files.differences))]
    shards = [f"shard-{i}.safetensors" for i in range(len(files.shards))]
    job = Job(
        job_dir=str(job_dir),
        unit=row.manifest.unit,
        version=row.manifest.version,
        differences=differences,
        shards=shards,
    )
    with disk_errors():
        create_plain(job_dir / job.metadata, metadata)
    names = [job.graph, job.snapshot, *differences]
    for name, blob in zip(names, files.public(), strict=True):
        cache.link(blob, job_dir / name)
    for name, blob in zip(shards, files.shards, strict=True):
        with disk_errors(), new_plain(job_dir / name) as file:
            cache.decrypt(blob, session.cipher, file)
    return job


def clean_shards(job_dir: Path) -> None:
    """Delete the shards that lie in the clear in a unit's directory."""
    with suppress(OSError):  # a worker that was taken over may have put anything there
        for path in job_dir.glob("shard-*.safetensors"):
            remove_plain(path)
