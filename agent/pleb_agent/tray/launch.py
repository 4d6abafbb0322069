"""Starting programs that outlive the tray: the browser, and the agent itself.

`posix_spawn` takes the place of the subprocess module, which would take a megabyte. What is
started is detached: a session of its own, nothing on its standard streams.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["agent_command", "browser_command", "start_detached"]


def agent_command(home: str) -> list[str]:
    """Return the command line that starts this home's agent."""
    from pleb_agent.program.command import module_command  # brings pathlib: 1 MB

    return [*module_command("pleb_agent.cli"), "start", "--home", home]


def browser_command(url: str, platform: str) -> list[str]:
    """Return the command line that opens the user's browser."""
    match platform:
        case "darwin":
            return ["open", url]
        case "win32":
            return ["rundll32", "url.dll,FileProtocolHandler", url]
        case _:
            return ["xdg-open", url]


def start_detached(command: list[str], **more_environment: str) -> None:
    """Start a program and forget it.

    Raises:
        OSError: there is no such program.
    """
    if sys.platform == "win32":
        import subprocess

        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        subprocess.Popen(
            command,
            creationflags=flags,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return
    nowhere = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
    environment = os.environ | more_environment
    os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=nowhere,
        setsid=True,
        setsigdef=[signal.SIGCHLD],  # ignored here, so that the dead need not be waited for
    )
