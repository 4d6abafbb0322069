"""`pleb-agent start`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from pleb_agent.app.agentd import Options, run_agentd
from pleb_system.lock import HomeInUseError

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home

__all__ = ["start"]


def start(home: Home, arguments: argparse.Namespace) -> int:
    """Run agentd in this process until it is stopped; on a desktop, a second start opens the page.

    Where a newer release was installed meanwhile, it takes over from this process.
    """
    options = Options(
        units=arguments.units,
        threads=arguments.threads,
        preset=arguments.preset,
        headless=arguments.headless,
        tray=not arguments.no_tray,
        terminal=not arguments.json and sys.stderr.isatty(),
        debug=arguments.debug,
    )

    def ready(port: int) -> None:
        if arguments.json:
            print(json.dumps({"pid": os.getpid(), "port": port, "home": str(home.path)}))
        else:
            print(f"The agent runs in {home.path} (process {os.getpid()}); stop it with Ctrl-C.")
            print("Its page: `pleb-agent open`.")
        sys.stdout.flush()

    try:
        after = run_agentd(home, options, ready)
    except HomeInUseError:
        if arguments.if_needed:
            return 0
        if arguments.headless or arguments.json:
            raise
        return _open_running(home, arguments)
    if after.version is not None:
        _hand_over(home, after.version)
    if after.again:
        from pleb_agent.program.own_files import start_again

        start_again(sys.argv[1:])
    return 0


def _open_running(home: Home, arguments: argparse.Namespace) -> int:
    from pleb_agent.cli.desktop import open_page_of

    print("The agent runs already.")
    arguments.link, arguments.print = None, False
    return open_page_of(home, arguments)


def _hand_over(home: Home, successor: str) -> None:
    from pleb_agent.program.installed import read_installation
    from pleb_agent.updates.handover import Change, hand_over
    from pleb_agent.updates.layout import AppFolder

    installation = read_installation()
    app = AppFolder.of(installation)
    if app is not None:
        words = tuple(sys.argv[1:])
        hand_over(Change(app, installation.version, successor, home.path, words))
