"""The commands of a desktop session: open the page, start the agent at log-in."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.program.command import cli_command, fresh_environment
from pleb_shared.errors import InputError, PlebError
from pleb_system.processes import start_detached

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "open_page_of"]

_START_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1


class NotStartedError(PlebError):
    """The agent was started and does not answer."""


def open_page_of(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Open the page, starting the agent if it is not running.

    Raises:
        InputError: the link joins an account: it is a secret, and browsers remember addresses.
    """
    if options.link and "account=" in options.link:
        raise InputError(
            "This text joins an account that its sender controls too. If it is from your "
            "own other PC, use `pleb-agent attach TEXT`, which keeps it out of the browser."
        )
    address = _running_agent(home).post("page", link=options.link or "")
    if options.print:
        output.result(address, address["url"])
        return 0
    from pleb_agent.desktop.browser import open_page

    open_page(address["url"])
    output.result({"opened": True}, "Opening the page in your browser.")
    return 0


def autostart(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Turn the start with the session on or off, or show it."""
    from pleb_agent.control.controller import Autostart

    session = Autostart(home.path, os.environ, headless=options.headless)
    view = session.view() if options.switch is None else session.turn(on=options.switch == "on")
    output.result({"on": view.on, "sentence": view.sentence}, view.sentence)
    return 0


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {
    "open": open_page_of,
    "autostart": autostart,
}


def _running_agent(home: Home) -> Remote:
    """Return the running agent; start one that outlives this command if there is none.

    Raises:
        NotStartedError: it does not answer in time.
    """
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        try:
            remote = Remote(home)
            remote.get("autostart")
        except NotRunningError:
            if deadline is None:
                command = cli_command("start", "--home", str(home.path), "--json")
                start_detached(command, **fresh_environment({}))
                deadline = time.monotonic() + _START_SECONDS
            time.sleep(_LOOK_SECONDS)
        else:
            return remote
    raise NotStartedError(
        "The agent does not start: see `pleb-agent logs` for why, `pleb-agent doctor` for help."
    )
