"""The commands that talk to a running agentd, or work on the home directly when none runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.cli.show import clock_time, log_line, project_lines, status_lines, tell
from pleb_agent.program.alive import is_alive
from pleb_shared.errors import InputError
from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from pleb_agent.app.home import Home
    from pleb_agent.journal.journal import Journal

__all__ = ["COMMANDS"]

_WATCH_SECONDS: Final = 1.0


def attach(home: Home, arguments: argparse.Namespace) -> int:
    """Join a project."""
    try:
        wish = {"link": arguments.link, "invite": arguments.invite, "name": arguments.name}
        row = Remote(home).post("attach", **wish)
    except NotRunningError:
        row = _attach_directly(home, arguments)
    role = " as a trusted host" if row["role"] == "trusted" else ""
    return tell(arguments, row, f"Attached to {row['project']}{role}.")


def detach(home: Home, arguments: argparse.Namespace) -> int:
    """Leave a project."""
    try:
        left = Remote(home).post("detach", project=arguments.project)
    except NotRunningError:
        left = _detach_directly(home, arguments.project)
    return tell(arguments, left, f"Left {left['project']}.")


def projects(home: Home, arguments: argparse.Namespace) -> int:
    """List the attached projects."""
    view = _status(home)["projects"]
    lines = [*map(shown_line, project_lines(view))] or [
        "No project is attached: `pleb-agent attach LINK`."
    ]
    return tell(arguments, {"projects": view}, "\n".join(lines))


def status(home: Home, arguments: argparse.Namespace) -> int:
    """Show what the agent does; with --watch again whenever it changes."""
    shown = None
    while True:
        view = _status(home)
        text = (
            json.dumps(view) if arguments.json else "\n".join(map(shown_line, status_lines(view)))
        )
        if text != shown:
            print(text, flush=True)
            shown = text
        if not arguments.watch:
            return 0
        time.sleep(_WATCH_SECONDS)


def pause(home: Home, arguments: argparse.Namespace) -> int:
    """Let the agent hold still, also one that is started later."""
    from pleb_agent.app.clock import system_clock

    until = None if arguments.seconds is None else system_clock() + arguments.seconds
    try:
        answer = Remote(home).post("pause", seconds=arguments.seconds)
    except NotRunningError:
        from pleb_agent.app.wishes import Wishes

        with _journal(home) as journal:
            Wishes(journal).pause(until)
        answer = {"paused": True, "until": until}
    ends = "" if until is None else f" until {clock_time(until, system_clock())}"
    return tell(arguments, answer, f"The agent is paused{ends}; `pleb-agent resume` lets it go on.")


def resume(home: Home, arguments: argparse.Namespace) -> int:
    """Let a paused agent go on."""
    try:
        answer = Remote(home).post("resume")
    except NotRunningError:
        from pleb_agent.app.wishes import Wishes

        with _journal(home) as journal:
            Wishes(journal).resume()
        answer = {"paused": False}
    return tell(arguments, answer, "The agent works again whenever its preferences allow it.")


def stop(home: Home, arguments: argparse.Namespace) -> int:
    """End the agent and wait until it has ended."""
    remote = Remote(home)
    answer = remote.post("stop", finish=arguments.finish)
    while home.control.exists() and is_alive(remote.pid):
        time.sleep(0.05)
    return tell(arguments, answer, "The agent has stopped.")


def logs(home: Home, arguments: argparse.Namespace) -> int:
    """Show the last lines of the log."""
    try:
        with home.log.open(encoding="utf-8") as file:
            lines = deque(file, maxlen=arguments.lines)
    except FileNotFoundError as error:
        raise InputError(f"There is no log in {home.path} yet: start the agent.") from error
    print("\n".join(line.rstrip("\n") if arguments.json else log_line(line) for line in lines))
    return 0


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace], int]]] = {
    "attach": attach,
    "detach": detach,
    "projects": projects,
    "status": status,
    "pause": pause,
    "resume": resume,
    "stop": stop,
    "logs": logs,
}


def _status(home: Home) -> dict[str, Any]:
    try:
        return Remote(home).get("status")
    except NotRunningError:
        if not home.journal.exists():
            raise
        import msgspec

        from pleb_agent.app.settings import read_preferences
        from pleb_agent.app.view import Shower
        from pleb_agent.journal.keys import KeyStore
        from pleb_system.lock import HomeInUseError

        try:
            with _journal(home) as journal:
                view = Shower(journal, KeyStore(home.keys)).stopped(read_preferences(home))
        except HomeInUseError as error:
            raise NotRunningError(
                "The agent is starting, or busy; ask again in a moment."
            ) from error
        value: dict[str, Any] = msgspec.to_builtins(view)
        return value


@contextmanager
def _journal(home: Home) -> Iterator[Journal]:
    """The home's journal while no agentd holds it."""
    from pleb_agent.journal.journal import Journal

    home.prepare()
    with home.hold():
        journal = Journal(home.journal)
        try:
            yield journal
        finally:
            journal.close()


def _attach_directly(home: Home, arguments: argparse.Namespace) -> dict[str, Any]:
    from pleb_agent.app.joining import attaching

    with _journal(home) as journal:
        row = asyncio.run(
            attaching(home, journal).attach(
                arguments.link, invite=arguments.invite, name=arguments.name
            )
        )
    return {"project": row.name, "url": row.base_url, "host": row.host, "role": row.role}


def _detach_directly(home: Home, name: str) -> dict[str, Any]:
    """Forget at once what holds no unit; the rest gives its units back at the next start."""
    from pleb_agent.app.steering import find_attached
    from pleb_agent.journal.keys import KeyStore

    with _journal(home) as journal:
        row = find_attached(journal, name)
        if journal.open_assignments(row.id):
            journal.mark_detaching(row.id)
        else:
            journal.remove_project(row.id)
            KeyStore(home.keys).forget(row.host_key_file, row.account_key_file)
    return {"project": row.name}
