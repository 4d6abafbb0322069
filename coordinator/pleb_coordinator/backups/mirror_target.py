"""Where a mirror's files are: a folder that a web server serves, or a bucket of S3."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pleb_shared.errors import InputError
from pleb_system.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pleb_coordinator.home.config import S3

__all__ = ["BucketTarget", "FolderTarget", "MirrorTarget", "open_target"]


class MirrorTarget(Protocol):
    """Files by name, such as `blobs/DIGEST`. One that is there is whole."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names below a folder, without it, with their sizes."""

    def read(self, name: str) -> bytes | None:
        """Return a small file; None: there is none."""

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file, replacing one that is there."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""


class FolderTarget:
    """A folder; its files can be read by everybody, as a web server has to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names below a folder, without it, with their sizes."""
        try:
            with os.scandir(self._folder / folder) as found:
                return {
                    one.name: one.stat().st_size for one in found if not one.name.startswith(".")
                }
        except FileNotFoundError:
            return {}

    def read(self, name: str) -> bytes | None:
        """Return a small file; None: there is none."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file, replacing one that is there."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        try:
            with beside.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o644)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        (self._folder / name).unlink(missing_ok=True)


class BucketTarget:
    """Objects below "s3://BUCKET/PREFIX"; `store` is obstore's."""

    def __init__(self, store: Any) -> None:
        self._obstore = import_module("obstore")
        self._store = store

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names below a folder, without it, with their sizes."""
        listed = self._obstore.list(self._store, prefix=f"{folder}/")
        return {
            found["path"].rpartition(f"{folder}/")[2]: int(found["size"])
            for batch in listed
            for found in batch
        }

    def read(self, name: str) -> bytes | None:
        """Return a small file; None: there is none."""
        try:
            data: bytes = self._obstore.get(self._store, name).bytes().to_bytes()
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file, replacing one that is there."""
        self._obstore.put(self._store, name, iter(parts))

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        try:
            self._obstore.delete(self._store, name)
        except FileNotFoundError:
            return


def open_target(to: str, s3: S3, endpoint: str = "") -> MirrorTarget:
    """Return what `to` names: a folder, or `s3://BUCKET/PREFIX`.

    `s3`: the coordinator's own settings, whose keys and region are used; `endpoint`: another S3
    server than theirs.

    Raises:
        InputError: it cannot be used.
    """
    if "://" not in to:
        return FolderTarget(Path(to).expanduser().absolute())
    if not to.startswith("s3://"):
        raise InputError(f"{to!r} is no place for a mirror: give a folder, or s3://bucket/prefix.")
    try:
        module = import_module("pleb_coordinator.blobs.s3")
    except ImportError as error:
        message = f"S3 needs a package ({error}): pip install 'pleb-cluster[s3]'."
        raise InputError(message) from error
    store = module.open_bucket(
        to,
        endpoint=endpoint or s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
    )
    return BucketTarget(store)
