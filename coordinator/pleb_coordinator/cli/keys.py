"""`key`: the coordinator's online keys: list, rotate, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.cli.access import opened
from pleb_coordinator.home.keys import OnlineKeys, earlier_key_file, rotate_online_key
from pleb_shared.errors import InputError
from pleb_system.command_line import table
from pleb_system.durable import remove_private
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def list_keys(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List the online keys, and which projects delegate to each."""
    newest, *earlier = OnlineKeys(home).all()
    projects = _projects(home)
    rows, values = [], []
    for key in (newest, *earlier):
        users = [p for p in projects if p.metadata.delegation.online_key == key.public]
        listed = [f"{p.name} (until {shown_day(p.metadata.delegation.expires_at)})" for p in users]
        state = "newest" if key is newest else "earlier"
        rows.append((key.fingerprint[:16], state, ", ".join(listed) or "-"))
        names = [p.name for p in users]
        values.append({"key": key.fingerprint, "newest": key is newest, "projects": names})
    output.result(values, table(("KEY", "STATE", "PROJECTS"), rows, ""))
    return 0


def rotate(home: Home, _: argparse.Namespace, output: Output) -> int:
    """Make a new online key; a running `serve` uses it at once."""
    projects = [project.name for project in _projects(home)]
    key = rotate_online_key(home)
    lines = [
        f"The newest online key is {key.fingerprint[:16]} now.",
        "The one before it goes on signing for each project until its researcher has renewed:",
        *(f"  pleb-project renew {name}" for name in projects),
        "`pleb-coordinator key list` shows who has; then delete the old key.",
    ]
    if not projects:
        lines = lines[:1]
    output.result({"key": key.fingerprint, "to_renew": projects}, lines)
    return 0


def delete(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Delete an earlier online key that no project delegates to any more."""
    newest, *earlier = OnlineKeys(home).all()
    found = [key for key in earlier if key.fingerprint.startswith(options.key.lower())]
    if len(found) != 1:
        if newest.fingerprint.startswith(options.key.lower()):
            raise InputError("This is the newest key: run `pleb-coordinator key rotate` first.")
        raise InputError(f"{options.key!r} begins no earlier key, or several: see `key list`.")
    users = [
        project.name
        for project in _projects(home)
        if project.metadata.delegation.online_key == found[0].public
    ]
    if users:
        raise InputError(
            f"{', '.join(users)} still delegates to this key: its researcher must run "
            "`pleb-project renew` first."
        )
    remove_private(earlier_key_file(home, found[0].fingerprint))
    short = found[0].fingerprint[:16]
    output.result({"deleted": found[0].fingerprint}, f"Deleted the online key {short}.")
    return 0


def _projects(home: Home) -> list[Project]:
    with opened(home) as store, store.read() as tx:
        return [tx.projects.find(name) for name in tx.projects.names()]


COMMANDS: Final = {"list": list_keys, "rotate": rotate, "delete": delete}
