"""`backup` and `restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.backups import BackUpAgain, back_up
from pleb_coordinator.backups.contents import read_backup
from pleb_coordinator.backups.restore import newest_or_itself
from pleb_coordinator.backups.restore import restore as restore_home
from pleb_coordinator.cli.desk import Asker, local_desk
from pleb_coordinator.home.config import read_config
from pleb_shared.errors import InputError, PlebError
from pleb_system.durations import shown_duration
from pleb_system.supervisor import stop_event

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.admin.backups import BackedUp
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def backup(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Make a backup; with `--every` one after the other until SIGTERM or SIGINT."""
    if options.again:
        return _again(Asker(home, options, output), options, output)
    if options.folder is None or options.coordinator is not None:
        raise InputError(
            "Give the folder of all backups, on the coordinator's machine; --again makes one where "
            "the last one was made."
        )
    read_config(home.config_file)
    if options.every is None:
        _back_up(home, options, output)
        return 0
    stop = stop_event()
    while True:
        try:
            _back_up(home, options, output)
        except (PlebError, OSError) as error:  # a full disk today may have room tomorrow
            output.progress(f"No backup was made: {error}")
        if stop.wait(options.every):
            return 0


def _back_up(home: Home, options: argparse.Namespace, output: Output) -> None:
    folder = options.folder.expanduser().absolute()
    keys = (options.keys or folder / "keys").expanduser().absolute()
    every, keep = options.every or 0.0, options.keep or 0
    desk = local_desk(home, output)
    _show(back_up(desk, folder, keys, keep=keep, every_seconds=every), output)


def _again(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    given = (options.folder, options.every, options.keep, options.keys)
    if any(one is not None for one in given):
        raise InputError("--again makes one backup as the last one was made: give nothing else.")
    _show(asker.ask(BackUpAgain()), output)
    return 0


def _show(found: BackedUp, output: Output) -> None:
    line = (
        f"{found.backup}: {found.files} files, {found.bytes / 1e6:.0f} MB, in "
        f"{shown_duration(found.seconds)}. The keys are in {found.keys}."
    )
    output.result(found, [line])


def restore(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Make the home of a backup."""
    folder = newest_or_itself(options.folder.expanduser().absolute())
    keys = (options.keys or folder.parent / "keys").expanduser().absolute()
    output.progress(f"Verifying {folder}.")
    found = restore_home(home, folder, keys, now())
    made = read_backup(folder).made_at
    age = shown_duration(max(0.0, now() - made))
    lines = [f"{home.path} is the backup of {age} ago. Start it: pleb-coordinator serve"]
    for one in found:
        follows = f"! {one.obstacle}" if one.obstacle else "Agents go on with it by themselves."
        lines.append(f"{one.project} is at version {one.version} again. {follows}")
    lines.append(
        "Invites, admins, bans and trusted PCs are those of the backup: look at `invite list`, "
        "`admin list` and `host list`."
    )
    value = {"home": str(home.path), "backup": str(folder), "made_at": made, "projects": found}
    output.result(value, lines)
    return 0


COMMANDS: Final = {
    "backup": backup,
    "restore": restore,
}
