"""Unpacks an archive of ours into a new folder, and nothing of it anywhere else."""

from __future__ import annotations

import asyncio
import lzma
import os
import shutil
import sys
import tarfile
import threading
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.updates.errors import BrokenArchiveError, NoRoomError

if TYPE_CHECKING:
    from pleb_agent.updates.offers import Target

__all__ = ["install_archive", "unpack"]

_SPECIAL: Final = frozenset("/\\:\0")
_UNREADABLE: Final = (
    tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeError,
    FileExistsError, NotADirectoryError,
)  # fmt: skip
"""The last two: the same name once as a file and once as a folder or a link."""
_COPY_BYTES: Final = 2**20
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def unpack(
    archive: Path, folder: Path, *, most_bytes: int, most_files: int, stop: threading.Event
) -> None:
    """Unpack a tar archive (plain, gzip, xz) into `folder`, which is made, and sync it to disk.

    Regular files, folders and relative links that stay inside are all that it may hold. Owners
    and times are dropped, of the modes only "may be executed" is kept. If this fails or `stop`
    is set, `folder` is removed.

    Raises:
        BrokenArchiveError: it holds something else, or more than it may, or cannot be read.
        NoRoomError: the disk does not take it.
    """
    folder.mkdir(parents=True)
    try:
        _Unpacking(folder, most_bytes, most_files, stop).run(archive)
        if sys.platform != "win32":
            os.sync()  # one call, since to sync thousands of small files takes minutes
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _UNREADABLE):
            raise BrokenArchiveError(f"{archive.name} cannot be read ({error}).") from error
        if isinstance(error, OSError):
            raise NoRoomError(
                f"{archive.name} cannot be unpacked ({error}): free some space."
            ) from error
        raise


async def install_archive(
    archive: Path, target: Target, folder: Path, facts_file: str = ""
) -> None:
    """Unpack a verified archive to `folder`, which is there as a whole or not at all.

    `facts_file`: a file to add with the target's facts. The archive is removed afterwards.

    Raises:
        BrokenArchiveError: see `unpack`.
    """
    stop = threading.Event()
    facts = target.facts

    def work() -> None:
        part = folder.with_name(folder.name + ".part")
        for old in (part, folder):
            shutil.rmtree(old, ignore_errors=True)
        unpack(archive, part, most_bytes=facts.unpacked_bytes, most_files=facts.files, stop=stop)
        if facts_file:
            (part / facts_file).write_bytes(msgspec.json.encode(facts))
        part.rename(folder)
        archive.unlink()

    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({working})
        raise


class _Unpacking:
    """One run: what was made so far."""

    def __init__(
        self, folder: Path, most_bytes: int, most_files: int, stop: threading.Event
    ) -> None:
        self._folder = folder
        self._bytes_left = most_bytes
        self._files_left = most_files
        self._stop = stop
        self._links: dict[PurePosixPath, str] = {}

    def run(self, archive: Path) -> None:
        """Unpack every member; links are made last, so that nothing is written through them."""
        with tarfile.open(archive, mode="r:*") as tar:
            for member in tar:
                if self._stop.is_set():
                    raise BrokenArchiveError("Unpacking was stopped.")
                self._take(tar, member)
        self._make_links()

    def _make_links(self) -> None:
        """Make the links, then look where they lead: one may lead on through another."""
        for name, target in self._links.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        inside = os.path.realpath(self._folder)
        for name in self._links:
            try:
                end = Path(os.path.realpath(self._folder / name, strict=True))
            except OSError as error:
                raise BrokenArchiveError(f"The link {name} leads nowhere ({error}).") from error
            if not end.is_relative_to(inside):
                raise BrokenArchiveError(f"The archive holds {name}, a link that leads out.")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = PurePosixPath(member.name).parts
        if not parts or any(part == ".." or set(part) & _SPECIAL for part in parts):
            raise BrokenArchiveError(f"The archive holds {member.name!r}, which leads elsewhere.")
        name = PurePosixPath(*parts)
        self._files_left -= 1
        self._bytes_left -= member.size if member.isreg() else 0
        if self._files_left < 0 or self._bytes_left < 0:
            raise BrokenArchiveError("The archive holds more than it was signed for.")
        if any(parent in self._links for parent in (name, *name.parents)):
            raise BrokenArchiveError(f"The archive writes {name} through a link.")
        if member.isdir():
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        elif member.isreg():
            self._write(tar, member, self._folder / name)
        elif member.issym() and sys.platform != "win32":
            self._links[name] = member.linkname
        else:
            raise BrokenArchiveError(f"The archive holds {name}, which is no file or folder.")

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o755 if member.mode & 0o100 else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
        try:
            descriptor = os.open(path, flags, mode)
        except FileExistsError as error:
            raise BrokenArchiveError(f"The archive holds {member.name} twice.") from error
        source = tar.extractfile(member)
        with os.fdopen(descriptor, "wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _COPY_BYTES)
            if file.tell() != member.size:
                raise BrokenArchiveError(f"The archive breaks off in {member.name}.")
