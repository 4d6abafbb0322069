"""The shards of one project's own data on this PC: made anew when the folder changes.

They lie in the agent's folder, encrypted with a key that follows from the host's key and ends with
it. Neither a digest nor a number of examples leaves this PC: a digest would confirm a guess.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pleb_agent.cache.errors import CorruptBlobError, disk_errors
from pleb_agent.own_data.order import NONCE_BYTES, Order, Outcome, shard_file
from pleb_agent.program.command import is_frozen, module_command
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably
from pleb_system.reading.fingerprint import folder_fingerprint

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["OwnStore", "clean_own", "own_folder_of"]

_MODULE: Final = "pleb_agent.own_data.prepare"
_INDEX: Final = "index.json"
_MOST_SECONDS: Final = 6 * 3600.0
_MOST_OUTCOME: Final = 64 * 1024


def own_folder_of(work_dir: Path, number: int) -> Path:
    """Return where a host's own data are: beside its work folders, which workers see."""
    return work_dir.parent / "own" / str(number)


def clean_own(work_dir: Path, hosts: Collection[int]) -> None:
    """Delete what is left of hosts that are not among these, and of readings that were killed."""
    with suppress(OSError):
        for folder in (work_dir.parent / "own").iterdir():
            if folder.name not in map(str, hosts):
                shutil.rmtree(folder, ignore_errors=True)
            for path in folder.glob("new-*"):
                shutil.rmtree(path, ignore_errors=True)


class _Index(msgspec.Struct, frozen=True):
    """What the shards were made of, and how many there are."""

    made_of: str
    shards: int


class OwnStore:
    """The shards in `folder`, of the host whose key `host_seed` is."""

    def __init__(self, folder: Path, host_seed: bytes) -> None:
        self._folder = folder
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pleb own data on disk")
        self._key = derive.derive(host_seed)

    @property
    def shards(self) -> int:
        """How many shards there are; 0: none were made."""
        index = self._index()
        return 0 if index is None else index.shards

    def is_fresh(self, source: Path, metadata: ProjectMetadata) -> bool:
        """Whether the shards are of what is in the user's folder now.

        Raises:
            InputError: the folder cannot be read.
        """
        index = self._index()
        return index is not None and index.made_of == _made_of(source, metadata)

    async def make(
        self, source: Path, metadata: ProjectMetadata, packages: Path | None = None
    ) -> None:
        """Read the user's folder and make the shards anew; those before stay until it is done.

        `packages`: the runtime that a frozen build has numpy from.

        Raises:
            InputError: the folder is not what the project declares; the sentence says where.
            DiskFullError: the shards do not fit.
        """
        own = metadata.data.own
        if own is None:
            raise InputError(f"{metadata.project} does not train on data of your own.")
        made_of = await asyncio.to_thread(_made_of, source, metadata)
        with disk_errors():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._clean()
            target = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
        try:
            order = Order(
                folder=str(source),
                form=own,
                inputs=metadata.data.inputs,
                batch_examples=metadata.training.batch_examples,
                key=self._key.hex(),
                target=str(target),
            )
            outcome = await _run(order, packages)
            if outcome.problem:
                raise InputError(outcome.problem)
            with disk_errors():
                index = msgspec.json.encode(_Index(made_of, outcome.shards))
                write_durably(target / _INDEX, index, private=True)
                self._replace(target)
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def write_shard(self, turn: int, file: IO[bytes]) -> None:
        """Write the shard whose turn it is, in the clear.

        Raises:
            CorruptBlobError: there is none, or it is damaged; they are made again.
        """
        count = self.shards
        try:
            if not count:
                raise FileNotFoundError
            data = shard_file(self._current, turn % count).read_bytes()
            clear = AESGCM(self._key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], None)
        except (OSError, InvalidTag, ValueError) as error:
            self.remove()
            raise CorruptBlobError("The shards of your own data are made again.") from error
        file.write(clear)

    def remove(self) -> None:
        """Delete all shards; the user's folder is not touched."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _current(self) -> Path:
        return self._folder / "shards"

    def _index(self) -> _Index | None:
        try:
            return msgspec.json.decode((self._current / _INDEX).read_bytes(), type=_Index)
        except (OSError, msgspec.DecodeError):
            return None

    def _replace(self, target: Path) -> None:
        old = Path(tempfile.mkdtemp(prefix="old-", dir=self._folder))
        if self._current.exists():
            self._current.rename(old / "shards")
        target.rename(self._current)
        shutil.rmtree(old, ignore_errors=True)

    def _clean(self) -> None:
        """Delete what a process that was killed left."""
        for path in self._folder.iterdir():
            if path.name.startswith("old-"):
                shutil.rmtree(path, ignore_errors=True)


def _made_of(source: Path, metadata: ProjectMetadata) -> str:
    """Return a name for what shards become: of the folder's files, and of how they are read."""
    form = msgspec.json.encode([metadata.data.own, metadata.data.inputs])
    batch = metadata.training.batch_examples
    text = f"{folder_fingerprint(source)} {batch} {source}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text + form).hexdigest()


async def _run(order: Order, packages: Path | None) -> Outcome:
    """Return what the process says that reads the folder."""
    if is_frozen() and packages is None:
        return Outcome(problem="The runtime is not here yet: start the agent, and try again later.")
    process = await asyncio.create_subprocess_exec(
        *module_command(_MODULE, packages=packages),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            said, _ = await process.communicate(msgspec.json.encode(order))
    except TimeoutError:
        return Outcome(problem=f"{order.folder} takes too long to read: choose less of it.")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(said[:_MOST_OUTCOME], type=Outcome)
    except msgspec.DecodeError:
        return Outcome(
            problem=f"{order.folder} cannot be read: the process that read it ended with "
            f"{process.returncode}."
        )
