"""`key`: the coordinator's online keys: list, rotate, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.keys import DeleteKey, ListKeys, RotateKey
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def list_keys(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List the online keys, and which projects delegate to each."""
    found = asker.ask(ListKeys())
    rows = [
        (
            key.key[:16],
            "newest" if key.newest else "earlier",
            ", ".join(f"{u.project} (until {shown_day(u.expires_at)})" for u in key.uses) or "-",
        )
        for key in found
    ]
    output.result(found, table(("KEY", "STATE", "PROJECTS"), rows, ""))
    return 0


def rotate(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """Make a new online key; a running `serve` uses it at once."""
    found = asker.ask(RotateKey())
    lines = [
        f"The newest online key is {found.key[:16]} now.",
        "The one before it goes on signing for each project until its researcher has renewed:",
        *(f"  pleb-project renew {name}" for name in found.to_renew),
        "`pleb-coordinator key list` shows who has; then delete the old key.",
    ]
    output.result(found, lines if found.to_renew else lines[:1])
    return 0


def delete(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Delete an earlier online key that no project delegates to any more."""
    found = asker.ask(DeleteKey(key=options.key))
    output.result(found, f"Deleted the online key {found.deleted[:16]}.")
    return 0


COMMANDS: Final = {"list": list_keys, "rotate": rotate, "delete": delete}
