"""Checkpoints of a running unit: two files in turn, each with a digest over its content.

A file is empty, or MAGIC, the SHA-256 of all that follows, the header's length (4 bytes,
big-endian), the header (msgpack), and the unit's state to the end. A checkpoint replaces the older
of the two, so that a torn write, which the digest shows, costs one interval and never the unit. The
header says which unit a checkpoint belongs to.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_agent.worker.job import CHECKPOINT_FILES
from pleb_shared.protocol.unit import Unit
from pleb_system.durable import write_in_place

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.job import WorkerSettings

__all__ = ["Checkpoint", "CheckpointDue", "CheckpointFiles", "CheckpointHeader"]

_MAGIC: Final = b"pleb-checkpoint-1\n"
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_LENGTH: Final = struct.Struct(">I")


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which unit, how far it is, and what it has cost so far."""

    unit: Unit
    version_digest: str
    runtime: str
    """`Runtime.fingerprint()`: another runtime must not resume, or bits of both would be mixed."""
    steps_done: Annotated[int, msgspec.Meta(ge=1)]
    compute_seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A header and `UnitRun.state()`: all that a unit needs to resume with the same bits."""

    header: CheckpointHeader
    state: bytes


class CheckpointFiles:
    """The two files of one job's output directory, which exist."""

    def __init__(self, directory: Path) -> None:
        self._paths = [directory / name for name in CHECKPOINT_FILES]
        self._slot = 0

    def load(self, *, unit: Unit, version_digest: str, runtime: str) -> Checkpoint | None:
        """Return the furthest whole checkpoint of this unit; None: it starts from the beginning."""
        found = {
            slot: checkpoint
            for slot, path in enumerate(self._paths)
            if (checkpoint := _read(path)) is not None
            and (checkpoint.header.unit, checkpoint.header.version_digest) == (unit, version_digest)
            and checkpoint.header.runtime == runtime
        }
        if not found:
            return None
        best = max(found, key=lambda slot: found[slot].header.steps_done)
        self._slot = 1 - best
        return found[best]

    def save(self, checkpoint: Checkpoint) -> int:
        """Write over the older file; returns its size in bytes when it is on the disk."""
        header = msgspec.msgpack.encode(checkpoint.header)
        parts = [_LENGTH.pack(len(header)), header, checkpoint.state]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        write_in_place(self._paths[self._slot], _MAGIC, digest.digest(), *parts)
        self._slot = 1 - self._slot
        return len(header) + len(checkpoint.state)


class CheckpointDue:
    """Says when the next checkpoint is due; `now` is any monotonic clock in seconds."""

    def __init__(self, settings: WorkerSettings, now: float) -> None:
        self._settings = settings
        self._next = now + settings.checkpoint_seconds

    def __call__(self, now: float) -> bool:
        """Return whether one is due now."""
        return now >= self._next

    def written(self, now: float, size_bytes: int) -> None:
        """One of `size_bytes` was written: the bigger, the longer until the next."""
        pause = size_bytes / self._settings.checkpoint_bytes_per_second
        self._next = now + max(self._settings.checkpoint_seconds, pause)


def _read(path: Path) -> Checkpoint | None:
    """Return the checkpoint in the file; None if it is missing, cut or damaged."""
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    if bytes(data[:start]) != _MAGIC + hashlib.sha256(body).digest():
        return None
    (length,) = _LENGTH.unpack(body[: _LENGTH.size])
    try:
        header = msgspec.msgpack.decode(body[_LENGTH.size :][:length], type=CheckpointHeader)
    except msgspec.DecodeError:  # whole, but written by another release
        return None
    return Checkpoint(header, bytes(body[_LENGTH.size + length :]))
