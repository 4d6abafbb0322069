"""`doctor`: checks everything that can be wrong with a home, and says how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.doctor import FindFaults
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def doctor(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Run all checks."""
    found = asker.ask(FindFaults(blobs=options.blobs))
    lines = [
        f"{'ok   ' if check.good else 'FAULT'} {check.name}: {check.found}"
        for check in found.checks
    ]
    output.result(found, lines)
    return 0 if found.good else ExitCode.FAULT_FOUND


COMMANDS: Final = {"doctor": doctor}
