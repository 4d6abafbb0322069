"""What background processes share: claims on work, and files to be deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import FileKind, Tombstone
from pleb_coordinator.store.queries import background as sql
from pleb_coordinator.store.rows import Rows, TableGroup

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CLAIM_SECONDS", "Claims", "Tombstones"]

CLAIM_SECONDS: Final = 600.0
"""How long work stays claimed. Longer than a version of a large model takes to compute; if work
takes longer still, another process repeats it, and the first one to commit wins."""

_TOMBSTONE: Final = Rows(Tombstone)


class Claims(TableGroup):
    """Who computes what. A claim saves repeated work; commits never rely on one."""

    def take(self, job: str, key: str, holder: str, now: float) -> bool:
        """Claim a piece of work; False: another process has it."""
        return self._changed(
            sql.TAKE_CLAIM,
            job=job,
            key=key,
            holder=holder,
            now=now,
            until=now + CLAIM_SECONDS,
        )

    def live(self, now: float) -> dict[str, set[str]]:
        """Return the keys of work that is claimed, by job.

        A claim from the future was taken before the clock was set back, and does not count.
        """
        claimed: dict[str, set[str]] = {}
        for job, key in self._db.execute(sql.LIVE_CLAIMS, now=now, latest=now + CLAIM_SECONDS):
            claimed.setdefault(job, set()).add(key)
        return claimed

    def held_by(self, holder: str) -> bool:
        """Whether there are claims of that holder."""
        return self._exists(sql.CLAIMS_HELD, holder=holder)

    def release(self, job: str, key: str, holder: str) -> None:
        """Give a claim up; one that another process has is not touched."""
        self._db.execute(sql.RELEASE_CLAIM, job=job, key=key, holder=holder)

    def forget_all(self) -> None:
        """Give up all claims: no process that took one is left."""
        self._db.execute(sql.FORGET_CLAIMS)

    def release_all(self, holder: str) -> int:
        """Give up all claims that a killed process of that name has left; return how many."""
        return self._db.execute(sql.RELEASE_CLAIMS, holder=holder).rowcount


class Tombstones(TableGroup):
    """Files that no row needs any more, so that no transaction has to delete a file.

    A tombstone commits with the change that makes its file useless. When it is due, it is
    *condemned* if still no row refers to the file; only condemned files are deleted, and the
    tombstone goes last. A process may be killed anywhere: at worst a file is deleted twice.
    """

    def add(self, kind: FileKind, name: str, due_at: float) -> None:
        """Let a file be deleted from `due_at` on."""
        self._db.execute(sql.ADD_TOMBSTONE, kind=kind, name=name, due_at=due_at)

    def revive(self, kind: FileKind, name: str) -> bool:
        """Keep a file that a new row refers to.

        Returns:
            False: it is condemned, so it may be gone already; the row must not be written.
        """
        self._db.execute(sql.REVIVE, kind=kind, name=name)
        return self._db.execute(sql.GET_TOMBSTONE, kind=kind, name=name).fetchone() is None

    def revive_blobs(self, digests: Collection[str]) -> set[str]:
        """Keep blobs that new rows refer to; return those that are condemned, as `revive`."""
        dying = {t.name: t for t in self._all(FileKind.BLOB)}  # few, however many digests
        return {name for name in dying.keys() & digests if not self.revive(FileKind.BLOB, name)}

    def blobs(self) -> set[str]:
        """Return the digests of blobs that have one."""
        return {tombstone.name for tombstone in self._all(FileKind.BLOB)}

    def count(self) -> int:
        """Return how many there are."""
        return int(self._value(sql.COUNT_TOMBSTONES))

    def _all(self, kind: FileKind) -> list[Tombstone]:
        return _TOMBSTONE.all(self._db.execute(sql.TOMBSTONES, kind=kind))

    def due(self, now: float, limit: int) -> list[Tombstone]:
        """Return tombstones whose time has come and that are not condemned."""
        return _TOMBSTONE.all(self._db.execute(sql.DUE_TOMBSTONES, now=now, limit=limit))

    def condemn(self, tombstone: Tombstone) -> None:
        """Mark a file as one that is being deleted."""
        self._db.execute(sql.CONDEMN, kind=tombstone.kind, name=tombstone.name)

    def condemned(self, limit: int) -> list[Tombstone]:
        """Return condemned tombstones."""
        return _TOMBSTONE.all(self._db.execute(sql.CONDEMNED, limit=limit))

    def remove(self, tombstone: Tombstone) -> None:
        """Remove a tombstone: its file is deleted, or is needed again."""
        self._db.execute(sql.REMOVE_TOMBSTONE, kind=tombstone.kind, name=tombstone.name)
