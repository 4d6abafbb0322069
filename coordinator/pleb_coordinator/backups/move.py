"""Moves a home's rows and files to another place: into a database, into a bucket, or back.

    files -> rows -> coordinator.toml

While it stands still: agents repeat what they send until it serves again, so no unit is lost. The
configuration is written last: until then nothing has changed. What was moved stays where it was,
out of the way, until the operator removes it. Unfinished uploads are not moved; hosts begin anew.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import StoredDelta
from pleb_coordinator.home.config import store_place
from pleb_coordinator.steps import open_blobs
from pleb_coordinator.store.transaction import Store, is_used_by_others
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_coordinator.blobs.store import Blobs
    from pleb_coordinator.home.config import CoordinatorConfig
    from pleb_coordinator.home.layout import Home

__all__ = ["Moved", "copy_files", "copy_store", "move_home"]

_AT_ONCE: Final = 8
_COPIED_BYTES: Final = 2**20
_LOOKS: Final = 5
_LOOK_SECONDS: Final = 0.2
"""Between looks whether a store is used: a database forgets a closed connection a little later."""


@dataclass(frozen=True)
class Moved:
    """What was moved."""

    rows: int
    blobs: int
    deltas: int


def move_home(
    home: Home,
    before: CoordinatorConfig,
    after: CoordinatorConfig,
    write: Callable[[CoordinatorConfig], None],
) -> Moved:
    """Move what is elsewhere in `after` than in `before`, and call `write` with `after`.

    Raises:
        InputError: a place cannot be used, is not empty, or has other bytes than were put there.
        HomeInUseError: the home is served.
        Refusal: a place is away or full. Nothing has changed then.
    """
    with home.hold():
        old_place, new_place = store_place(home, before), store_place(home, after)
        _check_unused(old_place)
        blobs = deltas = rows = 0
        if (before.blobs, before.s3.endpoint) != (after.blobs, after.s3.endpoint):
            target = open_blobs(home, after)
            target.check()
            blobs, deltas = copy_files(old_place, open_blobs(home, before), target)
        if old_place != new_place:
            rows = copy_store(old_place, new_place)
        _check_unused(old_place)  # nor was one started meanwhile
        write(after)
        if old_place == home.store_file and new_place != old_place:
            _set_aside(home.store_file)
    return Moved(rows, blobs, deltas)


def copy_files(place: Path | str, source: Blobs, target: Blobs) -> tuple[int, int]:
    """Copy all files that the rows at `place` refer to; return how many blobs and deltas.

    Each is hashed when it is read.

    Raises:
        InputError: a file is damaged, or the bucket has results that have yet to be checked.
    """
    store = Store(place)
    try:
        with store.read() as tx:
            projects = map(tx.projects.find, tx.projects.names())
            waiting = [found.name for found in projects if tx.uploads.any_landed(found.id)]
            digests = tx.references.blobs()
            deltas = tx.references.delta_files()
    finally:
        store.close()

    if waiting:  # their hosts are done with them
        raise InputError(
            f"Results of {waiting[0]} are in the bucket that were not checked yet: start `work`, "
            "stop it after a minute, and move then."
        )

    def copy_blob(digest: str) -> None:
        target.put(source.get(digest))
        if target.size(digest) != source.size(digest):
            raise InputError(f"Blob {digest[:12]}... differs after it was copied.")

    def copy_delta(delta: tuple[int, str]) -> None:
        assignment, digest = delta
        stored = StoredDelta(assignment, 0, None)
        view = source.delta_view(stored, digest)
        with target.temporary() as file:
            for start in range(0, len(view), _COPIED_BYTES):
                file.write(view[start : start + _COPIED_BYTES])
            target.put_delta_file(assignment, file)
        target.delta_view(stored, digest)  # hashes it

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(copy_blob, sorted(digests)):
            pass
        for _ in threads.map(copy_delta, deltas):
            pass
    return len(digests), len(deltas)


def copy_store(source: Path | str, target: Path | str) -> int:
    """Copy all rows into an empty store, whose processes have claimed nothing; return how many.

    Raises:
        InputError, Refusal: as `copy_rows`.
    """
    from pleb_coordinator.store.copying import copy_rows
    from pleb_coordinator.store.migrate import migrate

    migrate(target)
    copied = copy_rows(source, target)
    store = Store(target)
    try:
        with store.write() as tx:
            tx.claims.forget_all()
    finally:
        store.close()
    return sum(table.rows for table in copied)


def _check_unused(place: Path | str) -> None:
    """Check that no process uses the store: what it wrote meanwhile would be left behind."""
    for _ in range(_LOOKS):
        if not is_used_by_others(place):
            return
        time.sleep(_LOOK_SECONDS)
    message = "Other processes use this store: stop every `serve` and `work`, on all machines."
    raise InputError(message)


def _set_aside(file: Path) -> None:
    """Rename a store's file, so that nobody takes it for the store, and with it what is beside."""
    for found in file.parent.glob(f"{file.name}*"):
        if ".moved" not in found.name:
            found.replace(found.with_name(found.name.replace(file.name, f"{file.name}.moved", 1)))
