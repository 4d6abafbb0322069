"""The files of a unit: which blobs it needs, fetching them, laying them out for the worker."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from msgspec.structs import replace

from pleb_agent.blobs.fetcher import BlobFetcher
from pleb_agent.blobs.source import HttpSource, Offer, SourceKind
from pleb_agent.cache.errors import CorruptBlobError, disk_errors
from pleb_agent.client.http import HttpClient, Traffic
from pleb_agent.core.trust import may_lead_to
from pleb_agent.journal.rows import FAMILY_FOLDER
from pleb_agent.lan.shared_files import Holding
from pleb_agent.worker.job import INPUTS, OUTPUT_FILES, OUTPUTS, Job
from pleb_agent.worker.plain_files import (
    create_plain,
    is_being_written,
    keep_plain,
    new_plain,
    own_directory,
    remove_plain,
)
from pleb_shared.errors import Refusal, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType, Received
from pleb_shared.protocol.parts import leaf_of, root_of
from pleb_shared.protocol.project import Numerics, ProjectMetadata, ShardList
from pleb_shared.protocol.sealing import MissingKeyError, SealedBlob, unseal
from pleb_shared.protocol.signing import peek_payload
from pleb_shared.protocol.unit import Blob, UnitKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import AssignmentRow, ProjectRow
    from pleb_agent.loop.services import Services
    from pleb_agent.own_data.watch import OwnData
    from pleb_shared.protocol.lan import LanKey
    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.peers import Peer, Sharing
    from pleb_shared.protocol.sealing import Keyring

__all__ = [
    "FetchedUnit",
    "ProjectFiles",
    "UnitDirectories",
    "UnitFiles",
    "clean_work_dir",
    "remove_units",
    "unsealed_metadata",
]

_COUNTED_BYTES: Final = 2**20
"""As soon as so much was sent to others, it is written down: a unit may take hours."""
_AT_ONCE: Final = 4
"""Shards that are fetched at the same time."""
_MOST_RECENT: Final = 256
_LAN_KEYS: Final = 2
"""Today's and yesterday's: not all hosts have asked for work since midnight."""
_MOST_KNOWN: Final = 4096
"""Blobs of a project that neighbours may have."""
_FETCHES: Final = 4
"""Of the last fetches that many say how long the next one may take."""
_STATE_SHARE: Final = 4
"""A checkpoint holds the model and at most two numbers of the optimizer for each of its own."""
_FILE_MARGIN_BYTES: Final = 4 * 2**20
"""For names and lengths."""


@dataclass(frozen=True)
class UnitFiles:
    """The blobs of one unit."""

    graph: Blob
    base: Blob | None
    """What training never changes: the same for all versions, so it is fetched once."""
    snapshot: Blob
    differences: tuple[Blob, ...]
    shards: tuple[Blob, ...]
    showcase: Blob | None = None
    """The graph that says what the version does, of a unit that evaluates."""
    is_own: bool = False
    """Whether it is trained on the user's own data, which are no blobs."""

    def public(self) -> list[Blob]:
        """What anybody can read at the project's page."""
        base = [] if self.base is None else [self.base]
        shown = [] if self.showcase is None else [self.showcase]
        return [self.graph, *base, self.snapshot, *self.differences, *shown]

    def all(self) -> list[Blob]:
        """Every blob, in the order in which they are fetched."""
        return [*self.public(), *self.shards]


@dataclass(frozen=True)
class FetchedUnit:
    """A received unit whose files are in the cache."""

    row: AssignmentRow
    files: UnitFiles


class ProjectFiles:
    """One project's blobs: fetched from its coordinator, kept in the cache.

    `cipher`: of this project's shards on the disk; it ends with the host key. `keyring`: the keys
    that all blobs of a private project are sealed with, in the cache as everywhere. `own`: the
    user's own data, for units that are trained on such.
    """

    def __init__(
        self,
        client: CoordinatorClient,
        cipher: ShardCipher,
        services: Services,
        keyring: Callable[[], Keyring] = dict,
        own: OwnData | None = None,
    ) -> None:
        self._own = own
        self.cipher = cipher
        self._keyring = keyring
        self.cache = services.cache
        self._client = client
        self._mirrors: dict[str, HttpSource] = {}
        self._lan = services.lan
        self._internet = services.internet
        self._sharings = [one for one in (services.lan, services.internet) if one is not None]
        self._lan_keys: deque[bytes] = deque(maxlen=_LAN_KEYS)
        self._key_number = 0
        self._known: dict[str, tuple[Blob, ShardCipher | None]] = {}
        """Blobs of this project by digest, with the cipher of those that are encrypted here."""
        self._wanted: dict[str, None] = {}
        """Digests of what the unit needs whose files were fetched last, in order."""
        for sharing in self._sharings:
            sharing.join(self)
        self._fetcher = BlobFetcher(
            services.cache,
            HttpSource(client, SourceKind.COORDINATOR),
            self._other_sources,
            services.standings,
            self._part_came,
        )
        self.count_traffic: Callable[[], None] = lambda: None
        """Writes down what went over the internet; set by the project."""
        self._services = services
        self._shard_list: tuple[str, ShardList] | None = None
        """The shard list that was read last, by its blob's digest."""
        self._recent: deque[str] = deque(maxlen=_MOST_RECENT)
        """Digests of public blobs that this project's units needed since the process began."""
        self._epoch: int | None = None
        self._fetch_seconds: deque[float] = deque(maxlen=_FETCHES)

    async def fetch_unit(self, manifest: Manifest, metadata: ProjectMetadata) -> UnitFiles:
        """Fetch what a unit needs, as far as it is not in the cache; return its files.

        Raises:
            NetworkError: the connection broke; what came is kept and the next call continues.
            Refusal: the coordinator does not have a blob, or not for us.
            TrustError: the unit asks for shards that do not exist, or the user's own data are not
                ready.
            PlebError: the cache or the disk is full.
        """
        began = asyncio.get_running_loop().time()
        self._drop_earlier_epoch(metadata)
        await self.follow_mirrors(metadata)
        if not self._knows_shards(metadata):
            await self._fetch(metadata.data.shards)
        files = _unit_files(manifest, metadata, self._shards(metadata))
        if files.is_own and not self._has_own:
            raise TrustError("The folder with the data for this project is not there any more.")
        self._wanted = dict.fromkeys(blob.digest for blob in files.all())
        with self.cache.hold(files.all()):
            for blob in files.public():
                await self._fetch(blob)
                self.cache.touch(blob.digest, self._services.clock())
                if blob.digest not in self._recent:
                    self._recent.append(blob.digest)
            await self._fetch_shards(files.shards)
        if metadata.access == "invited":
            for blob in files.all():
                with self._opened(blob, self.cipher if blob in files.shards else None):
                    pass
        self._fetch_seconds.append(asyncio.get_running_loop().time() - began)
        return files

    @property
    def _has_own(self) -> bool:
        return self._own is not None and self._own.is_ready

    @property
    def usual_fetch_seconds(self) -> float:
        """How long the files of a unit took to come, of the last few the longest."""
        return max(self._fetch_seconds, default=0.0)

    def cached_unit(self, manifest: Manifest, metadata: ProjectMetadata) -> UnitFiles | None:
        """Return the unit's files if all of them are in the cache; nothing is fetched.

        Raises:
            TrustError: the unit asks for shards that do not exist.
        """
        if not self._knows_shards(metadata) and not self.cache.has(metadata.data.shards):
            return None
        files = _unit_files(manifest, metadata, self._shards(metadata))
        complete = all(self.cache.has(blob) for blob in files.public()) and all(
            self.cache.has(blob, self.cipher) for blob in files.shards
        )
        complete = complete and (not files.is_own or self._has_own)
        return files if complete else None

    def discard(self, files: UnitFiles) -> None:
        """Delete a unit's files from the cache: some of them are damaged.

        Not the base, which may be large, unless its own bytes are wrong.
        """
        for blob in files.public():
            if blob == files.base:
                self.cache.check_again(blob)
            else:
                self.cache.discard(blob.digest)
        for blob in files.shards:
            self.cache.discard(blob.digest, self.cipher)

    def held(self, count: int) -> list[str]:
        """Return the digests of at most `count` of this project's blobs that are in the cache.

        None of other projects: what a volunteer does elsewhere is not this coordinator's business.
        """
        recent = self.cache.recent(10 * count)
        plain = [digest for digest in recent if digest in self._recent]
        return [*plain[: count // 2], *self.cache.recent(count, self.cipher)][:count]

    def lay_out(
        self, unit: FetchedUnit, directories: UnitDirectories, metadata: bytes, numerics: Numerics
    ) -> Job:
        """Put a unit's files where a worker reads and fills them; a checkpoint may be there.

        The shards lie there in the clear; `clean_shards` deletes them when the worker is done.
        `metadata`: the project's signed envelope, verified when it was received; `numerics`: what
        it says about them.

        Raises:
            CorruptBlobError: a blob is missing or damaged.
            DiskFullError: the disk cannot take them.
        """
        row, files = unit.row, unit.files
        payload = peek_payload(metadata, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
        job = Job(
            folder=str(directories.folder),
            name=directories.name,
            numerics=numerics,
            file_bytes=_STATE_SHARE * files.snapshot.size + _FILE_MARGIN_BYTES,
            unit=row.manifest.unit,
            version=row.manifest.version,
            differences=[f"difference-{i}.bin" for i in range(len(files.differences))],
            shards=[f"shard-{i}.safetensors" for i in range(files.is_own or len(files.shards))],
        )
        folder = job.input_dir
        with disk_errors():
            own_directory(directories.folder)
            for directory in (job.input_dir, job.output_dir):
                own_directory(directory.parent)
                own_directory(directory)
            for name in OUTPUT_FILES:
                keep_plain(job.output_dir / name)
        if files.is_own and self._own is not None:
            with disk_errors(), new_plain(folder / job.shards[0]) as file:
                self._own.store.write_shard(row.manifest.unit.version, file)
        base = [] if files.base is None else [job.base]
        shown = [] if files.showcase is None else [job.showcase]
        names = [job.graph, *base, job.snapshot, *job.differences, *shown]
        if self._is_private(payload):
            self._lay_out_sealed(folder, payload, job, names, files)
            return job
        with disk_errors():
            create_plain(folder / job.metadata, payload)
        for name, blob in zip(names, files.public(), strict=True):
            self.cache.link(blob, folder / name)
        for name, blob in zip(job.shards, files.shards, strict=True):
            with disk_errors(), new_plain(folder / name) as file:
                self.cache.decrypt(blob, self.cipher, file)
        return job

    @staticmethod
    def _is_private(payload: bytes) -> bool:
        return _metadata(payload).access == "invited"

    def _lay_out_sealed(
        self, folder: Path, payload: bytes, job: Job, names: Sequence[str], files: UnitFiles
    ) -> None:
        """Put what is in the files of a private project where a worker reads it.

        The worker gets metadata that name the bytes inside, as those of a public project would.
        """
        inside = {
            blob.digest: self._unseal_into(folder / name, blob, None)
            for name, blob in zip(names, files.public(), strict=True)
        }
        shards = [] if files.is_own else job.shards
        for name, blob in zip(shards, files.shards, strict=True):
            self._unseal_into(folder / name, blob, self.cipher)
        with disk_errors():
            told = strict_json.encode(unsealed_metadata(_metadata(payload), inside))
            create_plain(folder / job.metadata, told)

    def _unseal_into(self, path: Path, blob: Blob, cipher: ShardCipher | None) -> Blob:
        """Write what is in a sealed blob to a new file; return what it is called by itself.

        Raises:
            CorruptBlobError: the blob is missing or damaged.
            DiskFullError: it does not fit.
            MissingKeyError: its key is not here.
        """
        digest, leaves, size = hashlib.sha256(), [], 0
        try:
            with self._opened(blob, cipher) as sealed, disk_errors(), new_plain(path) as file:
                for part in sealed.parts():
                    digest.update(part)
                    leaves.append(leaf_of(part))
                    size += len(part)
                    file.write(part)
        except MissingKeyError:
            raise
        except TrustError as error:
            self.cache.discard(blob.digest, cipher)
            raise CorruptBlobError(str(error)) from error
        root = root_of(leaves) if size > LIMITS.blob_part_bytes else None
        return Blob(digest=digest.hexdigest(), size=size, root=root)

    @contextmanager
    def _opened(self, blob: Blob, cipher: ShardCipher | None) -> Iterator[SealedBlob]:
        with self.cache.reading(blob, cipher) as read:
            yield SealedBlob(read, blob.size, self._keyring())

    async def _fetch_shards(self, shards: Iterable[Blob]) -> None:
        """Fetch shards, a few at a time, so that a small one does not wait for an answer's way."""
        waiting = iter(shards)

        async def fetch_next() -> None:
            for blob in waiting:
                await self._fetch(blob, self.cipher)
                self.cache.touch(blob.digest, self._services.clock(), self.cipher)

        tasks = [asyncio.create_task(fetch_next()) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, blob: Blob, cipher: ShardCipher | None = None) -> None:
        """Fetch a blob unless it is in the cache."""
        self._know(blob, cipher)
        try:
            await self._fetcher.fetch(blob, cipher)
        finally:
            for sharing in self._sharings:
                sharing.done(blob.digest)

    def _part_came(self) -> None:
        for sharing in self._sharings:
            sharing.part_came()

    async def _other_sources(self, blob: Blob) -> list[Offer]:
        """Return the other agents that have a blob, and the mirrors of the project."""
        after = self._wanted_after(blob)
        found = await asyncio.gather(*(one.offers(self, blob, after) for one in self._sharings))
        mirrors = [Offer(mirror) for mirror in self._mirrors.values()]
        return [*(offer for offers in found for offer in offers), *mirrors]

    def _wanted_after(self, blob: Blob) -> list[str]:
        """Return the digests of the blobs that the unit needs after this one."""
        wanted = list(self._wanted)
        after = wanted[wanted.index(blob.digest) + 1 :] if blob.digest in self._wanted else []
        return after[: LIMITS.lan_blobs - 1]

    # -- what neighbours get ----------------------------------------------------------------

    @property
    def lan_keys(self) -> Sequence[bytes]:
        """The keys of the project's members on a local network, the newest first."""
        return self._lan_keys

    def take_key(self, key: LanKey | None, number: int = 0) -> None:
        """The coordinator has named today's key; yesterday's is good for a while.

        `number`: of a private project's newest key. With a new one all LAN keys are new, so that
        who was removed is no neighbour any more.
        """
        if key is None or not self._sharings:
            return
        if number != self._key_number:
            self._key_number = number
            self._lan_keys.clear()
        data = bytes.fromhex(key.key)
        if data not in self._lan_keys:
            self._lan_keys.appendleft(data)
            for sharing in self._sharings:
                sharing.look_again()

    @property
    def sharing(self) -> Sharing | None:
        """What the coordinator is told of sharing on the internet; None: that is not done."""
        return None if self._internet is None else self._internet.sharing

    def take_peers(self, peers: Sequence[Peer], reached: str | None) -> None:
        """The coordinator has named hosts that share, and said where it reached this one."""
        if self._internet is not None:
            self._internet.told(self, peers, reached)

    @property
    def traffic(self) -> Traffic:
        """Where the bytes are counted that go over the internet."""
        return self._client.traffic

    def count_sent(self, amount: int) -> None:
        """So many bytes went to another host: they count against the daily limits."""
        self.traffic.sent += amount
        if self.traffic.sent >= _COUNTED_BYTES:
            self.count_traffic()

    def holding(self, digest: str) -> Holding | None:
        """Return what is here of a blob of this project; None: nothing of it, or no such blob."""
        known = self._known.get(digest)
        if known is None:
            return None
        blob, cipher = known
        leaves = partial(self.cache.leaves, blob)
        part = self._fetcher.under_way.get(digest)
        if part is not None:
            brings_in = partial(self._fetcher.brings_in, digest)
            return Holding(blob, part.missing, part.read, leaves, brings_in)
        if not self.cache.has(blob, cipher):
            return None
        read = partial(self.cache.read_part, blob, cipher=cipher)
        return Holding(blob, frozenset(), read, leaves)

    def add_offer(self, digest: str, offer: Offer) -> None:
        """Let a neighbour send parts of a blob that is being fetched."""
        self._fetcher.add(digest, offer)

    def _know(self, blob: Blob, cipher: ShardCipher | None) -> None:
        """Remember that a blob is of this project, so that neighbours may have it."""
        self._known.pop(blob.digest, None)
        self._known[blob.digest] = (blob, cipher)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def follow_mirrors(self, metadata: ProjectMetadata) -> None:
        """Use the mirrors that the metadata name, and no others.

        Plain HTTP only where the coordinator has it: otherwise a project could have this PC ask for
        things from devices of its own network, whose certificates nobody vouches for.
        """
        wanted = [url for url in metadata.mirrors if may_lead_to(self._client.base_url, url)]
        for url in self._mirrors.keys() - set(wanted):
            await self._mirrors.pop(url).close()
        for url in wanted:
            if url not in self._mirrors:
                client = HttpClient(url, network=self._client.network, traffic=self._client.traffic)
                self._mirrors[url] = HttpSource(client, SourceKind.MIRROR)

    def take_received(self) -> Received | None:
        """Return where blobs came from since the last call; None: none came."""
        most = LIMITS.received_bytes
        got = {kind: min(amount, most) for kind, amount in self._fetcher.received.items()}
        self._fetcher.received.clear()
        if not any(got.values()):
            return None
        if self._lan is not None:
            self._lan.received += got.get(SourceKind.PEER, 0)
        return Received(
            coordinator=got.get(SourceKind.COORDINATOR, 0),
            mirrors=got.get(SourceKind.MIRROR, 0),
            peers=got.get(SourceKind.PEER, 0),
            internet=got.get(SourceKind.INTERNET, 0),
        )

    async def close(self) -> None:
        """Close the connections to mirrors, and share nothing any more."""
        for sharing in self._sharings:
            sharing.leave(self)
        for mirror in self._mirrors.values():
            await mirror.close()
        self._mirrors.clear()

    def _drop_earlier_epoch(self, metadata: ProjectMetadata) -> None:
        """Delete the versions and graphs of an epoch that has ended: no unit needs them again.

        Shards stay, since the data is usually the same, and a base that goes on; others leave the
        cache as they age.
        """
        if self._epoch not in {None, metadata.epoch}:
            base = metadata.model.base
            for digest in self._recent:
                if base is None or digest != base.blob.digest:
                    self.cache.discard(digest)
            self._recent.clear()
        self._epoch = metadata.epoch

    def _knows_shards(self, metadata: ProjectMetadata) -> bool:
        """Whether the list of shards was read already.

        Raises:
            TrustError: it is too large to be fetched.
        """
        blob, known = metadata.data.shards, self._shard_list
        if blob.size > LIMITS.shard_list_bytes:
            raise TrustError(f"The shard list of {metadata.project} is too large.")
        return known is not None and known[0] == blob.digest

    def _shards(self, metadata: ProjectMetadata) -> ShardList:
        """Return the list of shards, from memory or the cache."""
        blob, known = metadata.data.shards, self._shard_list
        if known is not None and known[0] == blob.digest:
            return known[1]
        data = self.cache.read(blob)
        if metadata.access == "invited":
            data = unseal(data, self._keyring())
        try:
            listed = strict_json.decode(data, ShardList, most_bytes=LIMITS.shard_list_bytes)
        except Refusal as error:
            raise TrustError(
                f"The shard list of {metadata.project} cannot be read: {error}"
            ) from error
        self._shard_list = (blob.digest, listed)
        held = set(self.cache.recent(_MOST_KNOWN, self.cipher))
        for shard in (*listed.train, *listed.holdout):
            if shard.digest in held:  # by an earlier process
                self._know(shard.blob, self.cipher)
        return listed


def unsealed_metadata(metadata: ProjectMetadata, inside: Mapping[str, Blob]) -> ProjectMetadata:
    """Return a private project's metadata as a worker gets them.

    `inside`: by the digests of sealed blobs, what is in them. Others stay as they are.
    """

    def plain(blob: Blob) -> Blob:
        return inside.get(blob.digest, blob)

    base = metadata.model.base
    base = None if base is None else replace(base, blob=plain(base.blob))
    shown = metadata.showcase
    shown = UNSET if shown is UNSET else replace(shown, graph=plain(shown.graph))
    return replace(
        metadata,
        access="public",
        sealed_with=0,
        model=replace(metadata.model, base=base),
        data=replace(metadata.data, own=None),  # the worker gets shards, whosever they are
        training_graph=plain(metadata.training_graph),
        evaluation_graph=plain(metadata.evaluation_graph),
        showcase=shown,
        chunks=[
            replace(chunk, training_graph=plain(chunk.training_graph)) for chunk in metadata.chunks
        ],
    )


def _metadata(payload: bytes) -> ProjectMetadata:
    """Return verified metadata from their payload."""
    return strict_json.decode(payload, ProjectMetadata, most_bytes=LIMITS.metadata_bytes)


def _unit_files(manifest: Manifest, metadata: ProjectMetadata, shards: ShardList) -> UnitFiles:
    """Return which blobs a unit needs."""
    unit = manifest.unit
    evaluates = unit.kind is UnitKind.EVALUATE
    is_own = unit.kind is UnitKind.TRAIN and metadata.data.own is not None
    listed = shards.holdout if evaluates else shards.train
    if not 0 < unit.shards.count <= len(listed):
        raise TrustError(
            f"Assignment {manifest.assignment} asks for {unit.shards.count} shards of a list of "
            f"{len(listed)}."
        )
    graph = metadata.evaluation_graph if evaluates else metadata.graph_of(unit.chunk)
    if graph is None:
        raise TrustError(f"The project {metadata.project} has no chunk {unit.chunk!r}.")
    # The range wraps around the end of the list.
    count = 0 if is_own else unit.shards.count
    chosen = [listed[(unit.shards.first + i) % len(listed)] for i in range(count)]
    return UnitFiles(
        graph=graph,
        base=metadata.model.base.blob if metadata.model.base else None,
        snapshot=manifest.version.snapshot,
        differences=tuple(manifest.version.differences),
        shards=tuple(shard.blob for shard in chosen),
        showcase=metadata.showcase.graph if evaluates and metadata.showcase is not UNSET else None,
        is_own=is_own,
    )


@dataclass(frozen=True)
class UnitDirectories:
    """Where a unit's files lie: `in/NAME` and `out/NAME` of its project's or family's folder."""

    folder: Path
    """All that a worker of this project can read."""
    name: str

    @classmethod
    def of(cls, work_dir: Path, project: ProjectRow, row: AssignmentRow) -> UnitDirectories:
        """Return those of a unit of a project."""
        return cls(work_dir / project.work_folder, str(row.id))

    @property
    def both(self) -> tuple[Path, Path]:
        """The inputs and the outputs."""
        return self.folder / INPUTS / self.name, self.folder / OUTPUTS / self.name

    def clean_shards(self) -> None:
        """Delete the shards that lie in the clear."""
        with suppress(OSError):  # a compromised worker may have put anything there
            for path in self.both[0].glob("shard-*.safetensors"):
                remove_plain(path)

    def remove(self) -> None:
        """Delete all of it, and what could not be deleted of earlier units.

        An output that the worker still has open stays, empty: deleted it could be filled where
        nobody counts it.
        """
        inputs, outputs = self.both
        shutil.rmtree(inputs, ignore_errors=True)
        with suppress(OSError):
            for directory in list(outputs.parent.iterdir()):
                if not (inputs.parent / directory.name).exists():
                    _remove_outputs(directory)


def _remove_outputs(directory: Path) -> None:
    if directory.is_symlink() or not directory.is_dir():
        _remove(directory)
        return
    held = [path for path in directory.iterdir() if is_being_written(path)]
    for path in held:
        os.truncate(path, 0)
    if not held:
        _remove(directory)


def clean_work_dir(work_dir: Path, journal: Journal) -> None:
    """Delete what earlier processes left of units that have ended, and shards in the clear.

    For a time without a worker: it would lose the directories that it may write to.
    """
    projects = {row.id: row for row in journal.hosts()}
    kept = [
        UnitDirectories.of(work_dir, projects[row.project], row)
        for row in journal.open_assignments()
    ]
    for unit in kept:
        unit.clean_shards()
    folders = {unit.folder for unit in kept}
    directories = {directory for unit in kept for directory in unit.both}
    work_dir.mkdir(parents=True, exist_ok=True)
    for folder in work_dir.iterdir():
        if folder in folders:
            for kind in folder.iterdir():
                for path in kind.iterdir() if kind.is_dir() else ():
                    if path not in directories:
                        _remove(path)
        elif folder.name[:1].isdigit() or folder.name.startswith(FAMILY_FOLDER):
            _remove(folder)


def remove_units(
    work_dir: Path, project: ProjectRow, units: Iterable[AssignmentRow], journal: Journal
) -> None:
    """Delete all that `units` of a project left; no worker may be in its folder any more.

    The folder itself goes too, but where another member of its family needs it.
    """
    if any(row.work_folder == project.work_folder for row in journal.projects(project.device)):
        for unit in units:
            UnitDirectories.of(work_dir, project, unit).remove()
    else:
        _remove(work_dir / project.work_folder)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
