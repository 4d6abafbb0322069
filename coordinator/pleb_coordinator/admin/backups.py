"""Making a backup, and making one more like the last, where that was made."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import msgspec

from pleb_coordinator.admin.command import Command, Desk
from pleb_coordinator.backups.contents import Backup, read_backup
from pleb_coordinator.backups.make import make_backup, prune
from pleb_coordinator.home.layout import LastBackup
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably

__all__ = ["COMMANDS", "BackUpAgain", "BackedUp", "back_up"]


class BackedUp(Backup, frozen=True, kw_only=True):
    """A backup that was made."""

    backup: str
    keys: str
    """Where the keys are."""
    removed: list[str]
    """Older ones that were too many."""
    seconds: float


class BackUpAgain(Command[BackedUp], frozen=True):
    """Make a backup where the last one was made: nobody elsewhere can name a folder."""

    words: ClassVar[str] = "backup --again"

    def carry_out(self, desk: Desk) -> BackedUp:
        """Raises `InputError`: none was made yet, or the disk is full."""
        try:
            last = msgspec.json.decode(desk.home.last_backup_file.read_bytes(), type=LastBackup)
        except (OSError, msgspec.DecodeError) as error:
            message = (
                "No backup was made yet, so nobody has said where to: run `pleb-coordinator "
                "backup TO` on the coordinator's machine."
            )
            raise InputError(message) from error
        folder = Path(last.folder).parent
        keys = Path(last.keys) if last.keys else folder / "keys"
        return back_up(desk, folder, keys, keep=0, every_seconds=last.every_seconds)


def back_up(desk: Desk, folder: Path, keys: Path, *, keep: int, every_seconds: float) -> BackedUp:
    """Make a backup in a new folder below `folder`, and keep only the newest `keep` (0: all).

    Raises:
        InputError, HomeInUseError, OSError: as `make_backup`.
    """
    began = desk.clock()
    made = make_backup(desk.home, folder, keys, began)
    removed = prune(folder, keep) if keep else []
    last = LastBackup(at=began, folder=str(made), every_seconds=every_seconds, keys=str(keys))
    write_durably(desk.home.last_backup_file, msgspec.json.encode(last))
    return BackedUp(
        **msgspec.structs.asdict(read_backup(made)),
        backup=str(made),
        keys=str(keys),
        removed=[str(old) for old in removed],
        seconds=desk.clock() - began,
    )


COMMANDS: Final = (BackUpAgain,)
