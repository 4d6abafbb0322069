"""orphans: files that no row needs and that nothing else will remove.

A process that is killed between a file and its row leaves one, and so does a researcher who uploads
a model and never publishes it. They are looked for only when the operator asks (`compact`), since
that lists all files. A day has to pass first; a step whose file is taken away all the same finds
out before it writes its row (`steps.files`).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import FileKind
from pleb_coordinator.store.background import CLAIM_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["bury_orphans"]

_AGE_SECONDS: Final = 86_400.0
_BATCH: Final = 500


def bury_orphans(store: Store, deps: Deps) -> int:
    """Leave a tombstone for each file that no row needs; return how many there were."""
    found = 0
    for kind in (FileKind.BLOB, FileKind.DELTA):
        names = _old(deps, kind)
        while batch := list(islice(names, _BATCH)):
            with store.write() as tx:
                for name in batch:
                    if kind is FileKind.BLOB:
                        needed = tx.references.needed(name)
                    else:
                        needed = tx.assignments.delta(int(name)) is not None
                    if not needed:
                        found += 1
                        # a project that names a blob may be about to be published
                        wait = CLAIM_SECONDS if kind is FileKind.BLOB else 0.0
                        tx.tombstones.add(kind, name, deps.clock() + wait)
    return found


def _old(deps: Deps, kind: FileKind) -> Iterator[str]:
    before = deps.clock() - _AGE_SECONDS
    for name, written_at in deps.blobs.stored(kind):
        if written_at < before and (kind is FileKind.BLOB or name.isdecimal()):
            yield name
