"""What was read so far, on disk: a reading that was interrupted goes on, and none is repeated.

A data set whose files and settings are as they were is not read again. Files are known by their
sizes and times, and by their content as well where that is quick.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.readers.shards import Dataset
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import DataSpec, Shard, ShardList
from pleb_system.durable import write_durably
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.blobs import BlobFolder

__all__ = ["CHECKPOINT_BYTES", "Cut", "Progress", "Read", "Work", "fingerprint", "open_work"]

CHECKPOINT_BYTES: Final = 256 * 2**20
"""At most this much is read or written again after an interruption."""
_READERS: Final = 2
"""Raise it when the same files would become other shards."""
_HASHED_BYTES: Final = 64 * 2**20
"""Files of this size in all are known by their content."""

_LEFT_BYTES: Final = 256 * 2**20
"""The shards of a smaller data set are left where they are when another one replaces it."""


class Read(msgspec.Struct):
    """How far a set of examples was read into piles."""

    part: int = 0
    position: tuple[int, int] = (0, 0)
    examples: int = 0
    forms: dict[str, tuple[str, list[int]]] = {}
    lengths: list[int] = []
    strata: list[str] = []
    groups: list[str] = []
    counts: dict[str, int] = {}
    """Examples by "stratum,group"."""
    done: bool = False


class Cut(msgspec.Struct):
    """How far examples were cut into shards: the piles before `pile` are."""

    pile: int = 0
    quotas: list[int] = []
    """How many more examples of each stratum are for the holdout."""
    train: list[Shard] = []
    holdout: list[Shard] = []
    pending: int = 0
    """Number of the files with the examples that fill no shard yet."""


class Progress(msgspec.Struct):
    """Everything that a reading needs to go on. `learned`: what a table's first reading found."""

    fingerprint: str
    counts: dict[str, int] = {}
    learned: bytes = b""
    reads: dict[str, Read] = {}
    cuts: dict[str, Cut] = {}


class _Kept(msgspec.Struct):
    fingerprint: str
    spec: DataSpec
    notes: list[str]
    learned: bytes = b""


class Work:
    """The files of one reading in `folder`, and how far it is."""

    def __init__(self, folder: Path, blobs: BlobFolder, fingerprint: str | None) -> None:
        self.folder, self.blobs = folder, blobs
        self._fingerprint = fingerprint
        self.progress = Progress(fingerprint or "")
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Progress)
        except (OSError, msgspec.DecodeError):
            found = None
        if found and fingerprint and found.fingerprint == fingerprint:
            self.progress = found
        else:
            self._clear()

    def save(self) -> None:
        """Write how far the reading is; what it names is on the disk already."""
        if self._fingerprint:
            write_durably(self._file, msgspec.json.encode(self.progress))

    def finished(self) -> Dataset | None:
        """Return the data set if it was read before and all its shards are there."""
        kept = self._kept()
        if kept is None or not self._fingerprint or kept.fingerprint != self._fingerprint:
            return None
        try:
            shards = self._shards(kept.spec)
        except InputError:
            return None
        for shard in [*shards.train, *shards.holdout]:
            path = self.blobs.path(shard.digest)
            if not path.exists() or path.stat().st_size != shard.size:
                return None
        return Dataset(kept.spec, shards, tuple(kept.notes), kept.learned)

    def finish(self, dataset: Dataset) -> None:
        """Remember the data set; delete the piles, and the shards of a large one before it."""
        before = self._kept()
        kept = _Kept(self._fingerprint or "", dataset.spec, list(dataset.notes), dataset.learned)
        write_durably(self.folder / "dataset.json", msgspec.json.encode(kept))
        if before and before.spec.shards != dataset.spec.shards:
            try:
                shards = self._shards(before.spec)
            except InputError:  # its list was deleted
                shards = ShardList(train=dataset.shards.train, holdout=[])
            old = [*shards.train, *shards.holdout]
            new = {s.digest for s in [*dataset.shards.train, *dataset.shards.holdout]}
            if sum(shard.size for shard in old) > _LEFT_BYTES:
                for digest in {shard.digest for shard in old} - new:
                    self.blobs.path(digest).unlink(missing_ok=True)
        self._clear()

    @property
    def _file(self) -> Path:
        return self.folder / "progress.json"

    def _kept(self) -> _Kept | None:
        try:
            return msgspec.json.decode((self.folder / "dataset.json").read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return None

    def _shards(self, spec: DataSpec) -> ShardList:
        data = self.blobs.get(spec.shards.digest)
        return strict_json.decode(data, ShardList, most_bytes=LIMITS.shard_list_bytes)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in {"dataset.json", "lock"}:
                path.unlink(missing_ok=True)


@contextmanager
def open_work(blobs: BlobFolder, known: str | None) -> Iterator[Work]:
    """Hold the folder of this project's reading; `known`: the source's fingerprint, if it has one.

    Raises:
        HomeInUseError: another command reads the same project's data.
    """
    folder = blobs.folder / "reading"
    folder.mkdir(exist_ok=True)
    with hold_lock(folder / "lock", holder="`pleb-project`", remedy="wait for it"):
        yield Work(folder, blobs, known)


def fingerprint(data: DataSection, files: Sequence[Path] | None) -> str | None:
    """Return a name for what `files` and the settings will become; None if they are not all.

    Raises:
        InputError: a file cannot be read.
    """
    if files is None:
        return None
    digest = hashlib.sha256(b"%d" % _READERS + msgspec.json.encode(data))
    try:
        total = 0
        for path in files:
            stat = path.stat()
            total += stat.st_size
            line = f"\n{path}\0{stat.st_size},{stat.st_mtime_ns},{stat.st_ctime_ns}"
            digest.update(line.encode("utf-8", "surrogateescape"))
        if total <= _HASHED_BYTES:
            for path in files:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
