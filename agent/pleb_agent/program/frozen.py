"""The entry of a frozen build: the command line for people, or one of our modules.

    pleb-agent COMMAND ...                      as `python -m pleb_agent.cli COMMAND ...`
    pleb-agent pleb://...                       as `pleb-agent open pleb://...`: the system's call
    pleb-agent                                  on macOS, as `pleb-agent start`: the app's icon
    pleb-agent --run-module NAME ...            as `python -m NAME ...`, for names of `MODULES`
    pleb-agent --run-module NAME --packages DIR ...   and it may also import from DIR

PyInstaller's binary has no `-m`; this replaces it (`program/command.py` is the caller's side).
"""

from __future__ import annotations

import faulthandler
import os
import runpy
import sys
from typing import Final

from pleb_agent.program.command import PACKAGES, RUN_MODULE, restore_library_path

__all__ = ["MODULES", "main"]

MODULES: Final = (
    "pleb_agent.cli",
    "pleb_agent.own_data.prepare",
    "pleb_agent.probe.main",
    "pleb_agent.signals.calendar_reader",
    "pleb_agent.tray.main",
    "pleb_agent.updates.handover",
    "pleb_agent.worker.main",
    "pleb_agent.worker.break_out",
)
"""What may be run by name, and nothing else: a frozen build is not a general Python."""
_CLI: Final = "pleb_agent.cli"


def main(argv: list[str] | None = None) -> None:
    """Run what the command line says; that may end the process."""
    restore_library_path()
    program, *rest = sys.argv if argv is None else argv
    module = _CLI
    if rest[:1] == [RUN_MODULE]:
        module, rest = rest[1] if len(rest) > 1 else "", rest[2:]
        if module not in MODULES:
            sys.exit(f"{RUN_MODULE} takes one of: {', '.join(MODULES)}.")
        if rest[:1] == [PACKAGES]:
            sys.path.append(os.path.realpath(rest[1]))  # pathlib takes 1 MB
            rest = rest[2:]
    elif rest and rest[0].startswith("pleb") and "://" in rest[0]:  # the system opens a link
        rest = ["open", *rest]
    elif not rest and sys.platform == "darwin":  # the app's icon
        rest = ["start"]
    if sys.stderr is not None:  # a Windows build without a console has none
        faulthandler.enable()
    sys.argv = [program, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
