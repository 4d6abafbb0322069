"""`compact`: remove at once what is not kept any more, and give its room back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.cli.access import now, opened
from pleb_coordinator.home.config import read_config
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.orphans import bury_orphans

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def compact(home: Home, _: argparse.Namespace, output: Output) -> int:
    """Do what `[retention]` says to its end, remove orphaned files, and shrink the store's file."""
    deps = deps_of(home, now, read_config(home.config_file))
    with opened(home) as store:
        before = _bytes_of(home)
        orphans = bury_orphans(store, deps)
        Jobs(store, deps, "compact").retain()
        output.progress("Shrinking the store; hosts wait as long as that takes.")
        store.compact()
    after = _bytes_of(home)
    value = {"bytes_before": before, "bytes_after": after, "orphans": orphans}
    line = (
        f"{home.path} has {after / 1e6:.1f} MB, {max(before - after, 0) / 1e6:.1f} MB less; "
        f"{orphans} files belonged to nothing. Files that were needed until now go within minutes."
    )
    output.result(value, [line])
    return 0


def _bytes_of(home: Home) -> int:
    store = [home.store_file, home.store_file.with_name(f"{home.store_file.name}-wal")]
    folders = (home.blobs, home.deltas, home.uploads)
    files = [path for folder in folders for path in folder.rglob("*")]
    return sum(_size(path) for path in (*store, *files))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # removed meanwhile


COMMANDS: Final = {"compact": compact}
