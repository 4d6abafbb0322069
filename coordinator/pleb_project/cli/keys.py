"""`pleb-project key`: show, rotate and revoke keys, set passphrases; how commands sign."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from pleb_project.keys.key_file import read_key, replace_key
from pleb_project.keys.passphrase import Passphrases, given_passphrase
from pleb_project.publish.publisher import Publisher
from pleb_project.publish.rules import pinned
from pleb_project.server.client import Address, Coordinator
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.roots import root_path
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_project.server.records import Home, ProjectRecord
    from pleb_system.command_line import Output

__all__ = ["ACTIONS", "now", "publisher_of"]


def now() -> float:
    """Return the seconds since 1970: the one place where this program reads the clock."""
    return time.time()  # noqa: TID251


def publisher_of(
    coordinator: Coordinator, home: Home, options: argparse.Namespace, output: Output
) -> Publisher:
    """Return what signs and sends, with the passphrase that the command was given.

    Raises:
        InputError: its file cannot be read.
    """
    passphrases = Passphrases(
        given=given_passphrase(options.passphrase_file, os.environ),
        none_wanted=getattr(options, "no_passphrase", False),
        say=output.progress,
    )
    return Publisher(coordinator, home, now, output.progress, passphrases)


def show(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show which keys sign for a project."""
    link = home.find(options.project)
    address = Address(link.base_url, link.certificate)
    with Coordinator(address, home.reading(link.project)) as coordinator:
        metadata = pinned(coordinator.metadata(link.project), link)
        newest = fingerprint_of(coordinator.info().online_key)
    *earlier, root = map(fingerprint_of, root_path(metadata))
    online = fingerprint_of(metadata.delegation.online_key)
    file = home.root_key_file(link.project)
    stored = read_key(file) if file.exists() else None
    here = "not on this PC"
    if stored is not None and fingerprint_of(stored.public) == root:
        here = f"{file}, {'with' if stored.needs_passphrase else 'without'} a passphrase"
    lines = [f"root key     {root}", f"             {here}"]
    lines += [f"replaced     {key}{_revoked(key, metadata.revoked)}" for key in earlier]
    lines += [
        f"online key   {online}{_revoked(online, metadata.revoked)}",
        f"             may sign until {shown_day(metadata.delegation.expires_at)}",
    ]
    record = home.record(link.project)
    used = [key for key in (record.online_keys if record else []) if key not in {online, newest}]
    lines += [f"earlier      {key}{_revoked(key, metadata.revoked)}" for key in used]
    if newest != online:
        lines += [f"newer        {newest}", f"             run `pleb-project renew {link.project}`"]
    known = {root, online, newest, *earlier, *used}
    lines += [f"revoked      {key}" for key in metadata.revoked if key not in known]
    value = {
        "project": link.project,
        "root": root,
        "replaced": earlier,
        "online": online,
        "newest_online": newest,
        "earlier_online": used,
        "revoked": metadata.revoked,
        "permission_ends_at": metadata.delegation.expires_at,
        "file": None if stored is None else str(file),
        "has_passphrase": None if stored is None else stored.needs_passphrase,
    }
    output.result(value, lines)
    return 0


def rotate(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Replace the root key."""
    link = home.find(options.project)
    address = Address(link.base_url, link.certificate)
    with Coordinator(address, home.reading(link.project)) as coordinator:
        record = publisher_of(coordinator, home, options, output).rotate(
            link.project, revoke=options.revoke
        )
    lines = [
        "The project has a new root key; agents follow by themselves. Give out this link now:",
        f"  {record.attach_link}",
    ]
    if not options.revoke:
        lines.append("Links with the old key still lead to the project.")
    output.result(_shown(record), lines)
    return 0


def revoke(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Revoke a key."""
    link = home.find(options.project)
    address = Address(link.base_url, link.certificate)
    with Coordinator(address, home.reading(link.project)) as coordinator:
        record = publisher_of(coordinator, home, options, output).revoke(link.project, options.key)
    output.result(_shown(record), "Revoked: nothing that the key signs counts any more.")
    return 0


def passphrase(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Write the root key again under another passphrase, or under none."""
    project = home.find(options.project).project
    old = given_passphrase(options.passphrase_file, os.environ)
    closing = Passphrases(
        given=given_passphrase(options.new_passphrase_file, {}),
        none_wanted=options.no_passphrase,
        say=output.progress,
    )
    with home.hold(project):
        stored = read_key(home.root_key_file(project))
        # A key without a passphrase need not be advised to get one: this command gives it one.
        say = output.progress if stored.needs_passphrase else _say_nothing
        root = Passphrases(given=old, say=say).unlock(stored, project)
        chosen = closing.choose(project)
        replace_key(stored.file, root, chosen)
        closing.keyring.forget(root.public)
        closing.keep(root.public, chosen)
    done = "has no passphrase now" if chosen is None else "has the new passphrase"
    output.result(
        {"project": project, "has_passphrase": chosen is not None},
        f"The root key {stored.file} {done}. Copies of the file that you made before keep the old.",
    )
    return 0


ACTIONS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {
    "show": show,
    "rotate": rotate,
    "revoke": revoke,
    "passphrase": passphrase,
}


def _say_nothing(_: str) -> None:
    pass


def _shown(record: ProjectRecord) -> dict[str, str]:
    return {"project": record.project, "attach_link": record.attach_link}


def _revoked(key: str, revoked: list[str]) -> str:
    return "  revoked" if key in revoked else ""
