"""A disk that loses power: a small model of what a file system may leave of recorded operations.

It promises what POSIX does and no more. Content is safe after the file's sync, names are safe
after the directory's. Of everything later any part may have reached the disk: each name may be any
of those it had since, each block of an unsynced file may be new, old or zeros, and the file's
length any in between. Journalling file systems leave fewer possibilities, never others.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

Files = dict[str, bytes]
"""What is in a directory after a crash."""
BLOCK_BYTES = 64
"""Smaller than any real one, so that small files have many of them."""


@dataclass(frozen=True)
class Create:
    """A new or emptied file."""

    name: str


@dataclass(frozen=True)
class Append:
    """More bytes at the end of the file that has this name now."""

    name: str
    data: bytes


@dataclass(frozen=True)
class SyncFile:
    name: str


@dataclass(frozen=True)
class Rename:
    old: str
    new: str


@dataclass(frozen=True)
class SyncDirectory:
    """All names."""


@dataclass(frozen=True)
class Done:
    """The program was told that its work of this number is safe."""

    number: int


Operation = Create | Append | SyncFile | Rename | SyncDirectory | Done


@dataclass
class Inode:
    safe: bytes = b""
    now: bytes = b""
    unsynced: bool = False

    def left(self) -> list[bytes]:
        """Return what may be found in it after a crash."""
        if not self.unsynced:
            return [self.safe]
        found = {self.safe, self.now, self.now[:1], self.now[: len(self.now) // 2], self.now[:-1]}
        found.add(bytes(len(self.now)))
        for start in range(0, len(self.now), BLOCK_BYTES):
            end = min(start + BLOCK_BYTES, len(self.now))
            old = self.safe[start:end].ljust(end - start, b"\0")
            found.add(self.now[:start] + old + self.now[end:])
            found.add(self.now[:start] + self.now[end:].rjust(len(self.now) - start, b"\0"))
        return sorted(found)


@dataclass
class Disk:
    """Follows operations. `left` enumerates what a loss of power now may leave."""

    names: dict[str, Inode] = field(default_factory=dict)
    possible: dict[str, list[Inode | None]] = field(default_factory=dict)
    """By name: what it stood for at the last sync of the directory and at any time since."""
    done: int = 0

    def follow(self, operation: Operation) -> None:
        match operation:
            case Create(name):
                if name not in self.names:
                    self._name(name, Inode())
                self.names[name].now, self.names[name].unsynced = b"", True
            case Append(name, data):
                self.names[name].now += data
                self.names[name].unsynced = True
            case SyncFile(name):
                inode = self.names[name]
                inode.safe, inode.unsynced = inode.now, False
            case Rename(old, new):
                inode = self.names[old]
                self._name(old, None)
                self._name(new, inode)
            case SyncDirectory():
                self.possible = {name: [inode] for name, inode in self.names.items()}
            case Done(number):
                self.done = number

    def left(self) -> Iterator[Files]:
        names = sorted(self.possible)
        for inodes in itertools.product(*(self.possible[name] for name in names)):
            present = {
                name: inode for name, inode in zip(names, inodes, strict=True) if inode is not None
            }
            for contents in itertools.product(*(inode.left() for inode in present.values())):
                yield dict(zip(present, contents, strict=True))

    def _name(self, name: str, inode: Inode | None) -> None:
        self.possible.setdefault(name, [None]).append(inode)
        if inode is None:
            del self.names[name]
        else:
            self.names[name] = inode


def crashes(
    operations: Sequence[Operation], before: Files | None = None
) -> Iterator[tuple[int, Files]]:
    """Return, for every prefix, how much work is done and what may be left. Each once.

    `before`: what was on the disk, safely, at the start.
    """
    disk, seen = Disk(), set()
    disk.names = {name: Inode(data, data) for name, data in (before or {}).items()}
    disk.follow(SyncDirectory())
    for operation in operations:
        disk.follow(operation)
        for files in disk.left():
            key = (disk.done, tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield disk.done, files


class RecordedFile:
    """A file open for writing, whose every write is at once what the disk may have."""

    def __init__(self, file: IO[bytes], name: str, operations: list[Operation]) -> None:
        self._file = file
        self._name = name
        self._operations = operations

    def write(self, data: bytes) -> int:
        self._operations.append(Append(self._name, bytes(data)))
        return self._file.write(data)

    def truncate(self) -> int:
        self._operations.append(Create(self._name))
        return self._file.truncate()

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def record(patch: pytest.MonkeyPatch, directory: Path) -> list[Operation]:
    """Return a list that fills with what this process does in `directory` from now on."""
    operations: list[Operation] = []
    open_file, sync, replace = Path.open, os.fsync, Path.replace

    def recorded_open(path: Path, mode: str = "r") -> IO[bytes] | RecordedFile:
        file = open_file(path, mode)
        if mode != "r+b" or path.parent != directory:
            return file
        return RecordedFile(file, path.name, operations)

    def recorded_sync(descriptor: int) -> None:
        sync(descriptor)
        target = Path(f"/proc/self/fd/{descriptor}").resolve()
        operations.append(SyncDirectory() if target == directory else SyncFile(target.name))

    def recorded_replace(path: Path, target: Path) -> Path:
        operations.append(Rename(path.name, target.name))
        return replace(path, target)

    patch.setattr(Path, "open", recorded_open)
    patch.setattr(os, "fsync", recorded_sync)
    patch.setattr(Path, "replace", recorded_replace)
    return operations
