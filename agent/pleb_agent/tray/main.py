"""`python -m pleb_agent.tray.main --home DIR`: show this home's agent in the system's tray.

Exit codes: 0 the agent was stopped on purpose, the session has ended, or a tray of this home is
there already; 1 there is nothing here that could show an icon; 2 wrong arguments.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Final

from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import language_of, preferred_language, session_language, words_in
from pleb_shared.errors import PlebError
from pleb_system.lock import try_lock

__all__ = ["main"]

_USAGE: Final = "Usage: python -m pleb_agent.tray.main --home DIR"


def main(arguments: list[str]) -> int:
    """Show the tray until it ends; return the exit code."""
    if arguments[:1] != ["--home"] or len(arguments) != 2:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    home = os.path.abspath(arguments[1])  # noqa: PTH100 - pathlib takes 1 MB
    try:
        if try_lock(f"{home}/tray.lock") is None:  # one tray for each home
            return 0
        preferred = preferred_language(home)
        language = language_of(preferred, {}) if preferred else session_language(os.environ)
        _run(Tray(home, time.monotonic, words_in(language)))
    except (PlebError, OSError) as error:
        sys.stderr.write(f"pleb-agent tray: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _run(tray: Tray) -> None:
    if sys.platform != "linux":
        from pleb_agent.tray import pystray_tray

        pystray_tray.run(tray)
        return
    from pleb_agent.dbus.bus import open_bus, session_address
    from pleb_agent.dbus.events import EventBus
    from pleb_agent.tray import linux

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    bus = EventBus(open_bus(session_address(os.environ)))
    linux.run(tray, bus, os.environ.get("XDG_CURRENT_DESKTOP", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
