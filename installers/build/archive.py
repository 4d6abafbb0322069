"""Packs a folder into a tar archive whose bytes depend on nothing but the folder's files."""

from __future__ import annotations

import gzip
import lzma
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Packed", "pack"]


@dataclass(frozen=True)
class Packed:
    """What an archive contains: the bounds within which the agent unpacks it."""

    unpacked_bytes: int
    files: int


def pack(folder: Path, archive: Path, *, level: int, epoch: int = 0) -> Packed:
    """Pack what is in `folder`; the archive's name ends in `.tar.gz` or `.tar.xz`.

    Times become `epoch`, owners root, modes 0755 or 0644, the order that of the names.
    """
    unpacked_bytes = files = 0
    with _compressed(archive, level) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            member = tar.gettarinfo(path, str(path.relative_to(folder)))
            member.mtime, member.uid, member.gid = epoch, 0, 0
            member.uname = member.gname = "root"
            executable = member.isdir() or member.mode & 0o100
            member.mode = 0o755 if executable else 0o644
            files += 1
            if member.isreg():
                unpacked_bytes += member.size
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
    return Packed(unpacked_bytes, files)


@contextmanager
def _compressed(archive: Path, level: int) -> Iterator[IO[bytes]]:
    if archive.name.endswith(".tar.xz"):
        with lzma.open(archive, "wb", preset=level) as packed:
            yield packed
    else:
        with (
            archive.open("wb") as file,
            gzip.GzipFile("", "wb", level, file, mtime=0) as zipped,
        ):
            yield zipped  # type: ignore[misc]  # a file in all that tarfile needs
