"""The signed log of versions: which results each one was made of, for who has sent one.

The log has a line for each version, oldest first: the JSON of a `LogEntry`, which names the hash of
the line before it. Whoever signs the last line (`LogHead`) so signs all of them. An entry names a
blob: the leaves of the results that counted for the version, 32 bytes each, in ascending order. A
leaf is made with the assignment's nonce, which only its host and the coordinator know: so a host
finds its own results in a list that tells others nothing (docs/protocol.md 11).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.errors import TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import Digest, ProjectName, digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Blob, Count, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "FIRST",
    "LogEntry",
    "LogHead",
    "contains",
    "join_leaves",
    "log_lines",
    "read_log",
    "result_leaf",
    "taken_back",
]

FIRST: Final = "0" * 64
"""What the first line names as the one before it."""
_LEAF_BYTES: Final = 32


class LogEntry(Struct, frozen=True):
    """A version."""

    epoch: Count
    number: Count
    digest: Digest
    restores: Count | None
    """The version of the same epoch that it is again; None: it was made from results."""
    results: Blob | None
    """The leaves of the results that counted for it; None: it was made of none."""
    previous: Digest
    """SHA-256 of the line before."""


class LogHead(Struct, frozen=True):
    """How far the log goes; signed by the coordinator's online key."""

    project: ProjectName
    entries: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    """How many lines it has. A mirror may have more: they are not signed yet."""
    last: Digest
    """SHA-256 of the last of them."""
    epoch: Count
    version: Count
    issued_at: Count


def result_leaf(nonce: str, host: str, digest: str) -> bytes:
    """Return the leaf of a result, 32 bytes.

    `nonce` is the assignment's, `host` the host's fingerprint, `digest` that of the delta: 16, 32
    and 32 bytes in hexadecimal.
    """
    return hashlib.sha256(b"\x00" + bytes.fromhex(nonce + host + digest)).digest()


def join_leaves(leaves: Iterable[bytes]) -> bytes:
    """Return the blob that a version's entry names."""
    return b"".join(sorted(leaves))


def contains(blob: bytes, leaf: bytes) -> bool:
    """Whether a version's blob has that leaf."""
    return any(blob[at : at + _LEAF_BYTES] == leaf for at in range(0, len(blob), _LEAF_BYTES))


def log_lines(entries: Iterable[LogEntry]) -> Iterator[bytes]:
    """Yield the lines of the log without their line feeds; each `previous` is filled in."""
    previous = FIRST
    for entry in entries:
        line = strict_json.encode(msgspec.structs.replace(entry, previous=previous))
        previous = digest_of(line)
        yield line


def read_log(data: bytes, head: LogHead) -> list[tuple[LogEntry, str]]:
    """Return the entries that `head` vouches for, each with the digest of its line, oldest first.

    Raises:
        TrustError: they are fewer, altered, or not in this order.
        Refusal: `malformed`: a line is no entry.
    """
    lines = data.split(b"\n")[: head.entries]
    if len(lines) < head.entries or not lines[-1]:
        raise TrustError(
            f"The log of {head.project} has {len(lines) - (not lines[-1])} of the {head.entries} "
            "versions that its signed end counts: it was cut off. Try another mirror, or later."
        )
    digests = [digest_of(line) for line in lines]
    if digests[-1] != head.last:
        raise _forged(head.project)
    found = []
    for line, digest, previous in zip(lines, digests, [FIRST, *digests[:-1]], strict=True):
        entry = strict_json.decode(line, LogEntry, most_bytes=LIMITS.message_bytes)
        if entry.previous != previous:
            raise _forged(head.project)
        found.append((entry, digest))
    if (found[-1][0].epoch, found[-1][0].number) != (head.epoch, head.version):
        raise _forged(head.project)
    return found


def taken_back(entries: Iterable[LogEntry]) -> set[tuple[int, int]]:
    """Return (epoch, number) of the versions that a later one took back, by restoring an earlier.

    Their results are in the log, and in no newer version.
    """
    found: set[tuple[int, int]] = set()
    for entry in entries:
        if entry.restores is not None:
            found |= {(entry.epoch, number) for number in range(entry.restores + 1, entry.number)}
    return found


def _forged(project: str) -> TrustError:
    return TrustError(
        f"This log of {project} is not the one that the coordinator has signed: a version in it "
        "was altered, added or left out. Do not believe it, and tell who runs the mirror."
    )
