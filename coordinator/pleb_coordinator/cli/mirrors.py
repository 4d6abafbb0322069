"""`mirror`: filling a mirror of a project's files, and looking whether it has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.mirrors import CheckMirrors, ListMirrors, SyncMirror
from pleb_shared.errors import PlebError
from pleb_system.command_line import table
from pleb_system.exit_codes import ExitCode
from pleb_system.supervisor import stop_event

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pleb_coordinator.admin.mirrors import MirrorsOf
    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def sync(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Fill a mirror; with `--every` again and again until SIGTERM or SIGINT."""
    command = SyncMirror(project=options.project, to=options.to, endpoint=options.s3_endpoint or "")

    def once() -> None:
        done = asker.ask(command)
        line = (
            f"{done.to} has the {done.files} files of {done.project}: {done.copied} copied "
            f"({done.copied_bytes / 1e6:.1f} MB), {done.removed} removed."
        )
        output.result(done, [line])

    if options.every is None:
        once()
        return 0
    stop = stop_event()
    while True:
        try:
            once()
        except PlebError as error:  # a place that is away now may be back later
            output.progress(f"The mirror was not brought up to date: {error}")
        if stop.wait(options.every):
            return 0


def list_mirrors(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List the mirrors that projects name, as the last check found them."""
    found = asker.ask(ListMirrors())
    empty = "No project names a mirror: its researcher adds `mirrors` to [project]."
    output.result(found, _lines(found, empty))
    return 0


def check(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Ask a project's mirrors for what hosts need; exit with 8 if one is not as it should be."""
    found = asker.ask(CheckMirrors(project=options.project))
    output.result(found, _lines([found], f"{found.project} names no mirror."))
    problem = any(one.problem for one in found.mirrors)
    return ExitCode.FAULT_FOUND if problem else 0


def _lines(found: Sequence[MirrorsOf], empty: str) -> list[str]:
    head = ("PROJECT", "MIRROR", "FILES", "STATE")
    rows = [
        (of.project, one.url, f"{one.blobs}/{one.sampled}", one.problem or "good")
        for of in found
        for one in of.mirrors
    ]
    return list(table(head, rows, empty))


COMMANDS: Final = {"sync": sync, "list": list_mirrors, "check": check}
