"""`pleb-agent start`."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pleb_agent.app.agentd import Options, run_agentd
from pleb_shared.errors import PlebError
from pleb_system.lock import HomeInUseError

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home
    from pleb_system.command_line import Output

__all__ = ["start"]


def start(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Run agentd in this process until it is stopped; on a desktop, a second start opens the page.

    Where a newer release was installed meanwhile, it replaces this process.
    """
    chosen = Options(
        units=options.units,
        threads=options.threads,
        preset=options.preset,
        priority=options.priority,
        headless=options.headless,
        tray=not options.no_tray,
        terminal=not output.as_json and sys.stderr.isatty(),
        debug=options.debug,
    )

    def ready(port: int) -> None:
        output.result(
            {"pid": os.getpid(), "port": port, "home": str(home.path)},
            [
                f"The agent runs in {home.path} (process {os.getpid()}); stop it with Ctrl-C.",
                "Its page: `pleb-agent open`.",
            ],
        )

    try:
        after = run_agentd(home, chosen, ready)
    except HomeInUseError:
        if options.if_needed:
            return 0
        if options.headless or output.as_json:
            raise
        from pleb_agent.cli.desktop import open_page_of

        print("The agent is running already.")
        options.link, options.print = None, False
        return open_page_of(home, options, output)
    except (PlebError, OSError) as error:
        _report_failure(error, headless=options.headless)
        raise
    if after.version is not None:
        _hand_over(home, after.version)
    if after.again:
        from pleb_agent.program.installed import start_again

        start_again(sys.argv[1:])
    return 0


def _report_failure(error: PlebError | OSError, *, headless: bool) -> None:
    """Tell why the agent ended: there may be no terminal to read, as in a session's start."""
    if isinstance(error, OSError) and logging.getLogger("pleb").handlers:
        logging.getLogger("pleb.agent").error("failed", exc_info=error)
    if headless or sys.stderr.isatty():
        return
    from pleb_agent.desktop.notify import notifier

    with suppress(OSError):
        notifier().show("Pleb-Cluster", f"The agent does not run. {error}")


def _hand_over(home: Home, successor: str) -> None:
    from pleb_agent.program.installed import read_installation
    from pleb_agent.updates.handover import AppFolder, Change, hand_over

    installation = read_installation()
    app = AppFolder.of(installation)
    if app is not None:
        words = tuple(sys.argv[1:])
        hand_over(Change(app, installation.version, successor, home.path, words))
