"""Mirrors: filling one, and looking whether those that a project names have what hosts need."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, ClassVar, Final

import httpx
import msgspec

from pleb_coordinator.admin.command import Command, Desk, Text, Value
from pleb_coordinator.backups.mirror import files_for_mirror, sync_mirror
from pleb_coordinator.backups.mirror_target import open_target
from pleb_coordinator.home.config import read_config
from pleb_shared.errors import PlebError, Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.parts import part_place
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular
from pleb_system.transport import open_http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_coordinator.backups.mirror import MirrorFiles
    from pleb_coordinator.blobs.store import Blobs

__all__ = [
    "COMMANDS",
    "CheckMirrors",
    "ListMirrors",
    "MirrorHealth",
    "MirrorSynced",
    "MirrorsOf",
    "SyncMirror",
    "last_checks",
]

_SAMPLE: Final = 200
"""Blobs of which a mirror is asked whether it has them."""
_TIMEOUT: Final = httpx.Timeout(10.0)
_MOST_BYTES: Final = 2**20


class MirrorSynced(Value, frozen=True):
    """What was done to a mirror."""

    project: str
    to: str
    copied: int
    copied_bytes: int
    removed: int
    files: int


class MirrorHealth(Value, frozen=True):
    """What a mirror has, when it was last looked at."""

    url: str
    problem: str
    """A sentence; empty: it is as it should be."""
    blobs: int = 0
    """How many of `sampled` it has."""
    sampled: int = 0
    checked_at: float = 0.0


class MirrorsOf(Value, frozen=True):
    """A project's mirrors as the last check found them."""

    project: str
    mirrors: list[MirrorHealth]


class SyncMirror(Command[MirrorSynced], frozen=True):
    """Make a mirror have what hosts need of a project, and nothing more of it."""

    words: ClassVar[str] = "mirror sync"
    project: Text
    to: Text
    endpoint: Text = ""

    def carry_out(self, desk: Desk) -> MirrorSynced:
        """Do it.

        Raises:
            InputError: there is no such place.
            Refusal: there is no such project, a blob is damaged, or the place is full or away.
        """
        target = open_target(self.to, read_config(desk.home.config_file).s3, self.endpoint)
        with desk.opened() as store, store.read() as tx:
            wanted = files_for_mirror(tx, desk.deps, tx.projects.find(self.project))
        try:
            done = sync_mirror(desk.deps.blobs, target, wanted)
        except OSError as error:
            message = f"The mirror at {self.to} cannot be written ({error.strerror or error})."
            raise Refusal(RefusalCode.STORAGE_FULL, message) from error
        return MirrorSynced(
            self.project, self.to, done.copied, done.copied_bytes, done.removed, done.files
        )


class ListMirrors(Command[list[MirrorsOf]], frozen=True):
    """The mirrors that projects name."""

    words: ClassVar[str] = "mirror list"

    def carry_out(self, desk: Desk) -> list[MirrorsOf]:
        """Read them."""
        known = last_checks(desk.home.mirrors_file)
        with desk.opened() as store, store.read() as tx:
            found = [tx.projects.find(name) for name in tx.projects.names()]
        return [
            MirrorsOf(
                one.name,
                [known.get(url, MirrorHealth(url, "not checked yet")) for url in urls],
            )
            for one in found
            if (urls := one.metadata.mirrors)
        ]


class CheckMirrors(Command[MirrorsOf], frozen=True):
    """Ask a project's mirrors for what hosts need."""

    words: ClassVar[str] = "mirror check"
    project: Text

    def carry_out(self, desk: Desk) -> MirrorsOf:
        """Ask them, and keep what they answered. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            project = tx.projects.find(self.project)
            wanted = files_for_mirror(tx, desk.deps, project)
        blobs = desk.deps.blobs
        found = [
            msgspec.structs.replace(_health(url, wanted, blobs), checked_at=desk.clock())
            for url in project.metadata.mirrors
        ]
        known = last_checks(desk.home.mirrors_file) | {one.url: one for one in found}
        write_durably(desk.home.mirrors_file, msgspec.json.encode(list(known.values())))
        return MirrorsOf(project.name, found)


def last_checks(path: Path) -> dict[str, MirrorHealth]:
    """Return what checks found last, by the mirrors' addresses."""
    try:
        data = read_regular(path, _MOST_BYTES)
        found = msgspec.json.decode(data, type=list[MirrorHealth])
    except (OSError, msgspec.DecodeError):
        return {}
    return {one.url: one for one in found}


def _health(url: str, wanted: MirrorFiles, blobs: Blobs) -> MirrorHealth:
    """Return what a mirror has of a sample of what is wanted; one blob is read and compared."""
    digests = sorted(wanted.digests)
    sample = secrets.SystemRandom().sample(digests, min(_SAMPLE, len(digests)))
    sizes = blobs.sizes(sample)
    there = [digest for digest in sample if digest in sizes]
    try:
        with open_http(httpx.Client, httpx.URL(url), timeout=_TIMEOUT) as http:
            newest = max(wanted.metadata, default=0)
            envelope = _get(http, f"{url}/projects/{wanted.project}/metadata")
            held = [digest for digest in there if _has(http, url, digest, sizes[digest])]
            problem = "".join(_problems(http, url, blobs, held, len(there)))
            if not problem and envelope != wanted.metadata.get(newest):
                problem = "its metadata are old: run `mirror sync` again"
    except (httpx.HTTPError, PlebError) as error:
        return MirrorHealth(url, f"it does not answer ({error})", 0, len(there))
    return MirrorHealth(url, problem, len(held), len(there))


def _problems(
    http: httpx.Client, url: str, blobs: Blobs, held: list[str], sampled: int
) -> Iterator[str]:
    """Yield what is wrong with a mirror's blobs, the worst alone."""
    if not held:
        yield "it has no blob of the project: run `mirror sync`, and check the address"
        return
    size = blobs.size(held[0])
    start, end = part_place(size, 0)
    headers = {} if size <= LIMITS.blob_part_bytes else {"range": f"bytes={start}-{end - 1}"}
    with http.stream("GET", f"{url}/blobs/{held[0]}", headers=headers) as answer:
        if answer.status_code != (206 if headers else 200):
            yield "it sends no ranges: hosts cannot resume or share what it sends"
        elif b"".join(answer.iter_raw()) != blobs.read(held[0], start, end):
            yield "it sends wrong bytes: empty it and run `mirror sync`"
        elif len(held) < sampled:
            yield f"it lacks {sampled - len(held)} of {sampled} blobs: run `mirror sync` again"


def _get(http: httpx.Client, url: str) -> bytes:
    answer = http.get(url)
    return answer.content if answer.is_success else b""


def _has(http: httpx.Client, url: str, digest: str, size: int) -> bool:
    answer = http.head(f"{url}/blobs/{digest}")
    return answer.is_success and answer.headers.get("content-length") == str(size)


COMMANDS: Final = (SyncMirror, ListMirrors, CheckMirrors)
