"""delete: remove an archived project with all that belongs to it.

Most rows go a batch at a time, so that other projects' requests need not wait; the hosts, the
metadata and the project itself in the last transaction. Killed in between, it is done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.steps.files import release_blobs, remove_delta, remove_upload

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["remove_rest", "remove_some"]

_BATCH: Final = 2000


def remove_some(store: Store, deps: Deps, project: int) -> bool:
    """Remove a batch of the project's rows; return whether there were any."""
    with store.write() as tx:
        for token in tx.removal.open_uploads(project):
            tx.uploads.remove(token)
            remove_upload(tx, deps, token)
        deltas = tx.removal.deltas(project, _BATCH)
        for assignment in deltas:
            remove_delta(tx, deps, assignment)
        return bool(deltas) or tx.removal.remove_some(project, _BATCH)


def remove_rest(store: Store, deps: Deps, project: int) -> int:
    """Remove the project, and let go of its files; return how many those are."""
    while True:
        with store.write() as tx:
            if tx.removal.deltas(project, 1) or tx.removal.remove_some(project, _BATCH):
                continue  # a request came in between
            blobs = tx.removal.references(project)
            tx.removal.remove_project(project)
            release_blobs(tx, deps, blobs)
            return len(blobs)
