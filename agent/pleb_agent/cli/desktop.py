"""The commands that have to do with the user's session: open, autostart, boost, link."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.cli.show import tell
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home

__all__ = ["COMMANDS", "open_page_of", "running_agent"]

_START_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1


class NotStartedError(PlebError):
    """The agent was started and does not answer."""


def open_page_of(home: Home, arguments: argparse.Namespace) -> int:
    """Open the page, starting the agent if it does not run.

    Raises:
        InputError: the link joins an account: it is a secret, and browsers remember addresses.
    """
    if arguments.link and "account=" in arguments.link:
        raise InputError(
            "This text joins an account, and whoever made it would be you: if it is from your own "
            "other PC, use `pleb-agent attach TEXT`, which keeps it out of the browser."
        )
    remote = running_agent(home)
    address = remote.post("page", link=arguments.link or "")
    if arguments.print:
        print(json.dumps(address) if arguments.json else address["url"])
        return 0
    from pleb_agent.desktop.browser import open_page

    open_page(address["url"])
    return tell(arguments, {"opened": True}, "The page opens in your browser.")


def autostart(home: Home, arguments: argparse.Namespace) -> int:
    """Start the agent with the session, or no more; or say how it is."""
    from pleb_agent.app.session import SessionStart

    session = SessionStart(home, os.environ, headless=arguments.headless)
    view = session.view() if arguments.switch is None else session.turn(on=arguments.switch == "on")
    value = {"on": view.on, "supported": view.supported, "sentence": view.sentence}
    return tell(arguments, value, view.sentence)


def boost(home: Home, arguments: argparse.Namespace) -> int:
    """Let the agent run now, whoever uses the PC."""
    seconds = 3600.0 if arguments.seconds is None else arguments.seconds
    answer = Remote(home).post("boost", seconds=seconds)
    minutes = max(1, round(seconds / 60))
    sentence = f"The agent runs for {minutes} min, also while the PC is in use."
    return tell(arguments, answer, sentence)


def link(home: Home, arguments: argparse.Namespace) -> int:
    """Print the text that joins another PC to this account."""
    answer = Remote(home).post("link", project=arguments.project)
    return tell(arguments, answer, f"{answer['sentence']}\n\n{answer['text']}")


def running_agent(home: Home) -> Remote:
    """Return the running agent; start one that outlives this command if there is none.

    Raises:
        NotStartedError: it does not answer in time.
    """
    try:
        remote = Remote(home)
        remote.get("autostart")
    except NotRunningError:
        _start(home)
    else:
        return remote
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            remote = Remote(home)
            remote.get("autostart")
        except NotRunningError:
            time.sleep(_LOOK_SECONDS)
        else:
            return remote
    raise NotStartedError(
        "The agent does not start: `pleb-agent logs` says why, `pleb-agent doctor` what to do."
    )


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace], int]]] = {
    "open": open_page_of,
    "autostart": autostart,
    "boost": boost,
    "link": link,
}


def _start(home: Home) -> None:
    from pleb_agent.program.command import cli_command

    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.DETACHED_PROCESS}
    subprocess.Popen(
        cli_command("start", "--home", str(home.path), "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **detached,
    )
