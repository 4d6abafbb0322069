"""`python -m pleb_agent.probe.main`: tells on its output when the user touches the PC.

It ends when its input is closed (agentd is gone, however it went), when the session that it
watches ends, and when it does not understand what is going on. agentd starts it again.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

from pleb_agent.probe.backend import CannotRead
from pleb_agent.probe.choice import choose, look_around
from pleb_agent.probe.commands import Commands
from pleb_agent.probe.lines import NOBODY_LINE, Line, unreadable
from pleb_agent.probe.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.probe.backend import Source
    from pleb_agent.probe.surroundings import Surroundings

__all__ = ["main"]

NOBODY_LOOK_SECONDS = 300.0
"""How often it is looked whether a session has come, where logind does not tell."""
NEWS_SECONDS = 5.0
"""Sessions of cron and ssh come and go in bursts: they are looked at together."""


def main() -> int:
    """Watch until there is nothing to watch or nobody to tell; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is agentd's: it ends us in time
    commands = Commands(sys.stdin.fileno())
    try:
        line = _run(commands, os.environ)
        if line is not None:
            _say(line)
    except BrokenPipeError:
        return 0
    return 0 if line is None else 1


def _run(commands: Commands, environment: Mapping[str, str]) -> Line | None:
    """Return None when agentd is gone, else the line that says what cannot be read."""
    said_nobody = False
    while not commands.ended:
        around = look_around(environment)
        choice = choose(around, time.monotonic)
        if isinstance(choice.result, Line):
            if choice.result != NOBODY_LINE:
                return choice.result
            if not said_nobody:
                _say(NOBODY_LINE)
                said_nobody = True
            _wait_for_a_session(around, commands)
        else:
            others = _linux_sources(around)
            watch = Watch(choice.result, others, say=_say, clock=time.monotonic)
            try:
                _watch(watch, commands)
            except CannotRead as error:
                return unreadable(str(error), choice.result.method)
            finally:
                watch.close()
    return None


def _watch(watch: Watch, commands: Commands) -> None:
    """Watch one session until agentd is gone, or raise when the session is."""
    told: list[Source] = watch.all_sources
    asked = False
    while not commands.ended:
        watch.closely = commands.closely
        watch.look(told=told, asked=asked)
        waiting_on: list[Source | Commands] = [commands, *watch.waiting_on]
        ready, _, _ = select.select(waiting_on, [], [], watch.wait_seconds())
        asked = commands in ready and commands.take()
        told = [source for source in watch.waiting_on if source in ready]


def _wait_for_a_session(around: Surroundings, commands: Commands) -> None:
    """Return after news of sessions, or some minutes, or when agentd is gone."""
    news = _linux_sources(around, without_session=True)
    try:
        deadline = time.monotonic() + NOBODY_LOOK_SECONDS
        while not commands.ended and (left := deadline - time.monotonic()) > 0:
            waiting_on: list[Source | Commands] = [commands, *news]
            ready, _, _ = select.select(waiting_on, [], [], left)
            if commands in ready and commands.take():
                _say(NOBODY_LINE)
            for source in [source for source in news if source in ready]:
                source.take()
                deadline = min(deadline, time.monotonic() + NEWS_SECONDS)
    except CannotRead:
        time.sleep(NEWS_SECONDS)
    finally:
        for source in news:
            source.close()


def _linux_sources(around: Surroundings, *, without_session: bool = False) -> list[Source]:
    if not around.has_buses:
        return []
    from pleb_agent.probe.linux import other_sources, session_news

    return session_news(around) if without_session else other_sources(around)


def _say(line: Line) -> None:
    data = line.encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


if __name__ == "__main__":
    raise SystemExit(main())
