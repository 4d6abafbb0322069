"""`compact`: remove at once what is not kept any more, and give its room back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.compact import Compact

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def compact(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """Do what `[retention]` says to its end, remove orphaned files, and shrink the store's file."""
    found = asker.ask(Compact())
    less = max(found.bytes_before - found.bytes_after, 0)
    line = (
        f"{found.home} has {found.bytes_after / 1e6:.1f} MB, {less / 1e6:.1f} MB less; "
        f"{found.orphans} files belonged to nothing. They go within minutes, and so do files that "
        "were needed until now."
    )
    output.result(found, [line])
    return 0


COMMANDS: Final = {"compact": compact}
