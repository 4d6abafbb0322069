"""The coordinator of a simulation: real, but its clock jumps and its keys sign for nothing."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signature

from pleb_coordinator.backups.move import copy_files, copy_store
from pleb_coordinator.backups.restore import open_to_agents
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.home.keys import OnlineKeys
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps import Deps
from pleb_coordinator.store.migrate import migrate
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_shared.protocol.signing import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["START", "SimulatedCoordinator", "VirtualClock"]

START: Final = 1_800_000_000.0
"""When a simulation begins."""
_FILES: Final = ("blobs", "deltas")


@dataclass
class VirtualClock:
    """The time of the event that is being handled, in seconds since 1970 (UTC)."""

    now: float = START

    def __call__(self) -> float:
        """Return the virtual time."""
        return self.now


class _LoudLog(logging.Handler):
    """Keeps what the background jobs log as errors: in a simulation they are defects."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


class _NoSigner(CryptoSigner):
    """Signs with zeros: simulated hosts check no signature, and real ones take time."""

    def sign(self, payload: bytes) -> Signature:  # noqa: ARG002 - the interface's argument
        return Signature(self.public_key.keyid, "00" * 64)


class _CheapKey(OnlineKeys):
    """One key that signs for nothing."""

    def __init__(self, seed: bytes) -> None:
        private = Ed25519PrivateKey.from_private_bytes(seed)
        self._key = SigningKey(private)
        self._key.signer = _NoSigner(private, self._key.signer.public_key)

    def all(self) -> list[SigningKey]:
        return [self._key]

    def newest(self) -> SigningKey:
        return self._key

    def of(self, public: str) -> SigningKey:  # noqa: ARG002 - the interface's argument
        return self._key


class SimulatedCoordinator:
    """A store and the background jobs, in `folder`; its rows in `database`, if one is given.

    Raises:
        InputError: the database cannot be reached, or is not empty.
    """

    def __init__(self, folder: Path, random_bytes: Callable[[int], bytes], database: str) -> None:
        self.clock = VirtualClock()
        self.deps = Deps(
            clock=self.clock,
            random_bytes=random_bytes,
            secret=random_bytes(32),
            online_keys=_CheapKey(random_bytes(32)),
            blobs=LocalBlobs(folder),
        )
        self._root = self._folder = folder
        self._place: Path | str = database or folder / "store.sqlite"
        migrate(self._place)
        self._open()
        with self.store.read() as tx:
            used = bool(tx.projects.names())
        if used:
            self._close_stores()
            raise InputError("There are projects in that database: give an empty one.")
        self._log = _LoudLog()
        logging.getLogger("pleb_coordinator").addHandler(self._log)

    def _open(self) -> None:
        self.store, self._jobs_store = (Store(self._place) for _ in range(2))
        self._jobs = Jobs(self._jobs_store, self.deps)

    def _close_stores(self) -> None:
        self.store.close()
        self._jobs_store.close()

    def close(self) -> None:
        """Close the store."""
        logging.getLogger("pleb_coordinator").removeHandler(self._log)
        self._close_stores()

    def run_jobs(self) -> float:
        """Let the background jobs do all that is due; return when to run them again, at the latest.

        Raises:
            Exception: what a job has raised.
        """
        until = self._jobs.run_due()
        if self._log.errors:
            raise self._log.errors[0]
        return until

    def back_up(self, name: str) -> None:
        """Keep all rows and files as they are."""
        kept = self._root / name
        for files in _FILES:
            shutil.copytree(self._folder / files, kept / files, copy_function=os.link)
        with (
            closing(sqlite3.connect(self._file())) as rows,
            closing(sqlite3.connect(kept / "store.sqlite")) as copy,
        ):
            rows.backup(copy)

    def restore(self, name: str) -> None:
        """Go on with what was kept, as after `pleb-coordinator restore`."""
        file, kept = self._file(), self._root / name
        self._close_stores()
        for path in self._folder.glob(f"{file.name}*"):
            path.unlink()
        (kept / "store.sqlite").rename(file)
        for files in _FILES:
            shutil.rmtree(self._folder / files)
            (kept / files).rename(self._folder / files)
        self.deps = replace(self.deps)  # without what the process remembered
        self._open()
        with self.store.write() as tx:
            open_to_agents(tx, self.clock.now)

    def move(self, name: str) -> None:
        """Go on in another store and with other files, as after `pleb-coordinator migrate`."""
        there = self._root / name
        there.mkdir()
        place, blobs = there / "store.sqlite", LocalBlobs(there)
        self._close_stores()
        copy_files(self._place, self.deps.blobs, blobs)
        copy_store(self._place, place)
        self._folder, self._place = there, place
        self.deps = replace(self.deps, blobs=blobs)  # without what the process remembered
        self._open()

    def _file(self) -> Path:
        if not isinstance(self._place, Path):
            raise InputError(
                "Restoring is played on a file only: a database makes its own backups."
            )
        return self._place
