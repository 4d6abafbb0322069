"""Removing at once what is not kept any more, and giving its room back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pleb_coordinator.admin.command import Command, Desk, Value
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps.orphans import bury_orphans

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = ["COMMANDS", "Compact", "Compacted"]


class Compacted(Value, frozen=True):
    """What a home took before and takes now."""

    home: str
    bytes_before: int
    bytes_after: int
    orphans: int
    """Files that belonged to nothing."""


class Compact(Command[Compacted], frozen=True):
    """Do what `[retention]` says to its end, remove orphaned files, and shrink the store's file."""

    words: ClassVar[str] = "compact"

    def carry_out(self, desk: Desk) -> Compacted:
        """Raises `Refusal` storage_full: there is no room for a second copy of the store."""
        with desk.opened() as store:
            before = bytes_of(desk.home)
            orphans = bury_orphans(store, desk.deps)
            Jobs(store, desk.deps, "compact").retain()
            desk.say("Shrinking the store; hosts wait as long as that takes.")
            store.compact()
        return Compacted(str(desk.home.path), before, bytes_of(desk.home), orphans)


def bytes_of(home: Home) -> int:
    """Return how many bytes the store's file and all files of models, data and results have."""
    store = [home.store_file, home.store_file.with_name(f"{home.store_file.name}-wal")]
    folders = (home.blobs, home.deltas, home.uploads)
    files = [path for folder in folders for path in folder.rglob("*")]
    return sum(_size(path) for path in (*store, *files))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # removed meanwhile


COMMANDS: Final = (Compact,)
