"""`pleb-agent start`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from pleb_agent.app.agentd import Options, run_agentd

if TYPE_CHECKING:
    import argparse

    from pleb_agent.app.home import Home

__all__ = ["start"]


def start(home: Home, arguments: argparse.Namespace) -> int:
    """Run agentd in this process until it is stopped."""
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
        sys.stdout.flush()

    run_agentd(home, options, ready)
    return 0
