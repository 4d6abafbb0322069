"""The command line: names, arguments, help with an example for each command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.core.unit_parts import UnitAct, UnitPart
from pleb_system.command_line import Commands, count, duration

if TYPE_CHECKING:
    import argparse

__all__ = ["make_parser", "parse"]

PRESETS: Final = ("quiet", "balanced", "full")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exits with 2 if it is not understood."""
    parser = make_parser()
    options, left = parser.parse_known_args(argv)
    if (
        left
        and options.command in {"prefs", "rules"}
        and not any(word.startswith("-") for word in left)
    ):
        options.words += left  # argparse stops at an option that comes before them
    elif left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return options


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser, commands = Commands.of_program(
        "pleb-agent",
        "Gives this PC's idle time to training shared models.",
        "the agent's folder",
        _version,
    )
    _add_running(commands)
    _add_projects(commands)
    _add_control(commands)
    _add_rules(commands)
    return parser


def _version() -> str:
    from pleb_agent.program.installed import read_installation

    return read_installation().version


def _add_running(commands: Commands) -> None:
    start = commands.add("start", "run the agent in this terminal", "start --headless --units 10")
    start.add_argument("--headless", action="store_true", help="run without a desktop, as a server")
    start.add_argument("--no-tray", action="store_true", help="show no tray icon")
    start.add_argument(
        "--if-needed", action="store_true", help="do nothing if the agent is running already"
    )
    start.add_argument(
        "--preset", choices=PRESETS, metavar="NAME", help="quiet, balanced or full, for this run"
    )
    start.add_argument(
        "--priority",
        choices=("idle", "low"),
        default="idle",
        help="low: work also while other programs need the processor (for servers)",
    )
    start.add_argument("--units", type=count, metavar="N", help="stop after N finished units")
    start.add_argument("--threads", type=count, metavar="N", help="threads of the worker")
    stop = commands.add("stop", "stop the agent; the unit resumes next time", "stop --finish")
    stop.add_argument("--finish", action="store_true", help="finish the current unit first")
    opened = commands.add("open", "open the agent's page; starts the agent if needed", "open")
    opened.add_argument("link", nargs="?", metavar="LINK", help="the project to join on the page")
    opened.add_argument(
        "--print", action="store_true", help="only print the address (for an SSH tunnel)"
    )
    autostart = commands.add("autostart", "start the agent when you log in", "autostart on")
    autostart.add_argument(
        "switch", nargs="?", choices=["on", "off"], help="turn it on or off (default: show it)"
    )
    autostart.add_argument(
        "--headless", action="store_true", help="as a systemd service, without a desktop (Linux)"
    )
    status = commands.add("status", "show what the agent is doing and why", "status --watch")
    status.add_argument("--watch", action="store_true", help="show it again when it changes")
    units = commands.add(
        "units", "list this PC's units; pause, resume or hand one back", "units --part refused"
    )
    habits = commands.add("habits", "show for how long this PC usually stays free", "habits")
    habits.add_argument("--forget", action="store_true", help="learn them from now on only")
    acts = ["list", *UnitAct]
    units.add_argument("act", nargs="?", default="list", choices=acts, help="what to do (list)")
    units.add_argument("id", nargs="?", type=count, metavar="ID", help="which unit, as listed")
    units.add_argument(
        "--part",
        choices=list(UnitPart),
        default=UnitPart.IN_HAND.value,
        metavar="PART",
        help=f"which ones to list: {', '.join(UnitPart)} ({UnitPart.IN_HAND})",
    )
    logs = commands.add("logs", "show the last lines of the agent's log", "logs --lines 50")
    logs.add_argument("--lines", type=count, default=20, metavar="N", help="how many (20)")
    doctor = commands.add("doctor", "find out what keeps the agent from working", "doctor")
    doctor.add_argument(
        "--bundle", type=Path, metavar="FILE", help="write a report without secrets to a .zip"
    )


def _add_projects(commands: Commands) -> None:
    attach = commands.add(
        "attach", "join a project by its link", "attach 'https://host.example/join/words#1f2e…'"
    )
    attach.add_argument("link", metavar="LINK", help="the project's attach link, in quotes")
    attach.add_argument("--invite", metavar="TOKEN", help="an invite from the operator")
    attach.add_argument("--name", default="", help="the display name the project shows")
    attach.add_argument(
        "--only", action="store_true", help="of an ensemble: adopt this member, and join no other"
    )
    commands.add("projects", "list the attached projects", "projects --json")
    receipts = commands.add(
        "receipts", "list your accepted units by day: energy, CO2, versions", "receipts --days 7"
    )
    receipts.add_argument("--days", type=count, default=30, metavar="N", help="how many (30)")
    receipts.add_argument(
        "--csv", action="store_true", help="each unit, as a table for other programs"
    )
    verify = commands.add(
        "verify",
        "find your accepted units in the signed log of a project's versions",
        "verify words --mirror https://files.example.org/words",
    )
    verify.add_argument(
        "project", nargs="?", default="", metavar="PROJECT", help="its name or link (all)"
    )
    verify.add_argument(
        "--mirror", default="", metavar="URL", help="where to read it (the coordinator)"
    )
    verify.add_argument("--again", action="store_true", help="also units that were found before")
    for name, summary in (
        ("no-new-work", "take no further units of a project, or of any"),
        ("allow-new-work", "take units again after no-new-work"),
    ):
        parser = commands.add(name, summary, f"{name} words")
        parser.add_argument(
            "project", nargs="?", default="", metavar="PROJECT", help="its name or link (all)"
        )
    for name, summary in (
        ("detach", "leave a project, or all members of an ensemble by its name"),
        ("link", "show the text that joins another PC to your account"),
    ):
        parser = commands.add(name, summary, f"{name} words")
        parser.add_argument("project", metavar="PROJECT", help="its name or attach link")
    data = commands.add(
        "data",
        "choose the folder with your own data for a project; it never leaves this PC",
        "data clinic ~/scans",
    )
    data.add_argument("project", metavar="PROJECT", help="its name or attach link")
    data.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="(show which it is)")
    data.add_argument(
        "--forget", action="store_true", help="train on it no more; the folder itself stays"
    )
    reader = commands.add(
        "reader", "let other programs of yours read a private project", "reader words --to FILE"
    )
    reader.add_argument("project", metavar="PROJECT", help="its name or attach link")
    reader.add_argument(
        "--to", type=Path, metavar="FILE", help="for `pleb-project export LINK --reading FILE`"
    )


def _add_control(commands: Commands) -> None:
    pause = commands.add("pause", "pause the agent", "pause --for 1h")
    pause.add_argument(
        "--for", dest="seconds", type=duration, metavar="TIME", help="90s, 20m, 1h, 2d"
    )
    pause.add_argument(
        "--finish", action="store_true", help="take no new work, finish what is in hand, then pause"
    )
    resume = commands.add("resume", "resume a paused agent; end a boost", "resume")
    for command in (pause, resume):
        command.add_argument(
            "--device",
            dest="devices",
            action="append",
            default=[],
            metavar="NAME",
            help="only this device: cpu, cuda-0 (again for another one)",
        )
        command.add_argument(
            "--cards",
            dest="devices",
            action="append_const",
            const="cards",
            help="only the graphics cards",
        )
    commands.add("devices", "list what could compute in this PC, and what it does", "devices")
    boost = commands.add("boost", "run now, even while the PC is in use", "boost --for 1h")
    boost.add_argument(
        "--for",
        dest="seconds",
        type=duration,
        default=3600.0,
        metavar="TIME",
        help="90s, 20m, 1h (1h)",
    )
    household = commands.add(
        "household",
        "see your agents of this network together, pause all, add one",
        "household join ABCD-EFGH-JK23",
    )
    household.add_argument(
        "act",
        nargs="?",
        default="show",
        choices=["show", "pause", "resume", "preset", "code", "join", "leave"],
        help="what to do (show)",
    )
    household.add_argument(
        "word", nargs="?", default="", metavar="WORD", help="the code, or the preset's name"
    )
    prefs = commands.add(
        "prefs", "show or change what the agent may do", "prefs set idle_minutes=5"
    )
    acts = ["list", "get", "set", "preset"]
    prefs.add_argument("act", nargs="?", default="list", choices=acts, help="what to do (list)")
    prefs.add_argument("words", nargs="*", metavar="NAME[=VALUE]", help="which preferences")


def _add_rules(commands: Commands) -> None:
    rules = commands.add(
        "rules",
        "work only when a price, a temperature or a calendar allows it",
        "rules add Price below 0.25",
    )
    acts = ["list", "signal", "forget", "add", "remove", "match", "read"]
    rules.add_argument("act", nargs="?", default="list", choices=acts, help="what to do (list)")
    rules.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="signal NAME ADDRESS; forget NAME; add NAME below|above N; add NAME during|outside; "
        "remove NUMBER; match all|any; read NAME",
    )
    rules.add_argument("--entity", metavar="ID", help="of Home Assistant, as sensor.price")
    rules.add_argument("--pointer", metavar="PATH", help="in a JSON answer, as /data/{hour}/price")
    rules.add_argument("--word", metavar="WORD", help="of a calendar: only events with this word")
    rules.add_argument(
        "--token-file", metavar="FILE", help="with a token or password, readable by you alone"
    )
    rules.add_argument("--unit", metavar="UNIT", help="shown with the value, as €/kWh")
    rules.add_argument(
        "--every", dest="every_seconds", type=count, metavar="S", help="read it every S seconds"
    )
    rules.add_argument(
        "--old", dest="old_seconds", type=count, metavar="S", help="do not believe older values"
    )
    rules.add_argument("--resume", metavar="N", help="where work resumes (5 %% beyond the limit)")
    hook = commands.add(
        "hook", "let another program of yours pause the agent, with a token", "hook new kitchen"
    )
    hook.add_argument(
        "act", nargs="?", default="list", choices=["list", "new", "revoke"], help="what (list)"
    )
    hook.add_argument("name", nargs="?", default="", metavar="NAME", help="the program's")
