"""The command line: names, arguments, help with an example for each command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["make_parser", "parse", "parse_duration"]

PRESETS: Final = ("quiet", "balanced", "full")

_EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 error; 2 wrong argument; 3 not trusted; 4 refused; 5 unreachable; "
    "6 home in use; 7 not running; 8 doctor found a fault; 130 interrupted."
)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_MOST_DAYS: Final = 31
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, None: 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `20m`, `1h`, `2d`; a bare number is minutes."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; one is 90s, 20m, 1h or 2d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MOST_DAYS * _SECONDS["d"]:
        raise argparse.ArgumentTypeError(f"{text!r} is too long: {_MOST_DAYS}d at most")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


Add = Callable[[str, str, str], argparse.ArgumentParser]
"""Adds a command: its name, a help text and an example."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exits with 2 if it is not understood."""
    parser = make_parser()
    arguments, left = parser.parse_known_args(argv)
    if left and arguments.command == "prefs" and not any(word.startswith("-") for word in left):
        arguments.words += left  # argparse stops at an option that stands before them
    elif left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return arguments


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, metavar="DIR", help="the agent's folder")
    common.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    common.add_argument("--debug", action="store_true", help="log more; show tracebacks")
    parser = argparse.ArgumentParser(
        prog="pleb-agent",
        description="Gives this PC's idle time to training shared models.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[common],
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=f"Example: pleb-agent {example}",
        )

    _add_running(add)
    _add_projects(add)
    _add_wishes(add)
    _add_care(add)
    return parser


def _add_running(add: Add) -> None:
    start = add("start", "run the agent in this terminal", "start --headless --units 10")
    start.add_argument("--headless", action="store_true", help="no desktop: nobody sits here")
    start.add_argument("--no-tray", action="store_true", help="show no icon")
    start.add_argument(
        "--if-needed", action="store_true", help="do nothing if the agent runs already"
    )
    start.add_argument(
        "--preset", choices=PRESETS, metavar="NAME", help="quiet, balanced or full, for this run"
    )
    start.add_argument("--units", type=_count, metavar="N", help="end after N finished units")
    start.add_argument("--threads", type=_count, metavar="N", help="threads of the worker")
    stop = add("stop", "end the agent; its unit goes on at the next start", "stop --finish")
    stop.add_argument("--finish", action="store_true", help="finish the unit in hand first")
    opened = add("open", "open the agent's page, starting the agent if need be", "open")
    opened.add_argument("link", nargs="?", metavar="LINK", help="a project to welcome you to")
    opened.add_argument(
        "--print", action="store_true", help="only print the address (for an SSH tunnel)"
    )
    autostart = add("autostart", "start the agent with your session", "autostart on")
    autostart.add_argument("switch", nargs="?", choices=["on", "off"], help="without: how it is")
    autostart.add_argument(
        "--headless", action="store_true", help="by systemd, without a desktop (Linux)"
    )


def _add_projects(add: Add) -> None:
    attach = add(
        "attach", "join a project by its link", "attach 'https://host.example/join/words#1f2e…'"
    )
    attach.add_argument("link", metavar="LINK", help="the project's attach link, in quotes")
    attach.add_argument("--invite", metavar="TOKEN", help="an invite of the operator")
    attach.add_argument("--name", default="", help="how the project may call you")
    detach = add("detach", "leave a project", "detach words")
    detach.add_argument("project", metavar="PROJECT", help="its name or attach link")
    add("projects", "list the attached projects", "projects --json")
    link = add("link", "show the text that joins another PC to your account", "link words")
    link.add_argument("project", metavar="PROJECT", help="its name or attach link")


def _add_wishes(add: Add) -> None:
    pause = add("pause", "let the agent hold still", "pause --for 1h")
    pause.add_argument(
        "--for", dest="seconds", type=parse_duration, metavar="TIME", help="90s, 20m, 1h, 2d"
    )
    add("resume", "let a paused agent go on; end a boost", "resume")
    boost = add("boost", "let the agent run now, whoever uses the PC", "boost --for 1h")
    boost.add_argument(
        "--for", dest="seconds", type=parse_duration, metavar="TIME", help="90s, 20m, 1h (1h)"
    )
    prefs = add("prefs", "show or change what the agent may do", "prefs set idle_minutes=5")
    acts = ["list", "get", "set", "preset"]
    prefs.add_argument("act", nargs="?", default="list", choices=acts, help="what to do (list)")
    prefs.add_argument("words", nargs="*", metavar="NAME[=VALUE]", help="which ones")


def _add_care(add: Add) -> None:
    status = add("status", "show what the agent does and why", "status --watch")
    status.add_argument("--watch", action="store_true", help="show it again when it changes")
    doctor = add("doctor", "look for what keeps the agent from working", "doctor")
    doctor.add_argument(
        "--bundle", type=Path, metavar="FILE", help="write a report without secrets to a .zip"
    )
    logs = add("logs", "show the last lines of the agent's log", "logs --lines 50")
    logs.add_argument("--lines", type=_count, default=20, metavar="N", help="how many (20)")
