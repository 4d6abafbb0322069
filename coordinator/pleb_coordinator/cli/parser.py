"""The command line: names, arguments, help with an example for each command."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from pleb_coordinator.admin.table import TABLE
from pleb_coordinator.core.admins import AdminRole
from pleb_system.command_line import Commands, count, day, days, duration, number

__all__ = ["make_parser"]

_MOST_HOURS = 10_000
"""Of virtual time: more than a year."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser, commands = Commands.of_program(
        "pleb-coordinator",
        "Runs a coordinator: assigns units of work to volunteers' PCs, verifies the results and "
        "combines them into the shared model.",
        "the coordinator's folder",
    )
    _add_running(commands)
    _add_projects(commands)
    _add_units_and_hosts(commands)
    _add_models(commands)
    _add_simulation(commands)
    _add_admins(commands)
    for words, made in commands.parsers.items():
        if words in TABLE and TABLE[words].final:
            made.add_argument("--yes", action="store_true", help="do not ask again")
        if words in TABLE or words == "backup":
            made.add_argument(
                "--coordinator",
                metavar="URL",
                help="a coordinator that you logged in to (this machine's)",
            )
    return parser


def _add_running(commands: Commands) -> None:
    init = commands.add(
        "init", "create the home: configuration, keys, store", "init --url https://a.example"
    )
    serve = commands.add(
        "serve", "run the coordinator until Ctrl+C", "serve --host 0.0.0.0 --with-agent"
    )
    serve.add_argument("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=_port, metavar="N", help="port (7532); 0: any free one")
    init.add_argument(
        "--own-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="your own network, whose PCs may confirm each other (10.20.0.0/16); repeatable",
    )
    for parser in (init, serve):
        parser.add_argument("--url", metavar="URL", help="the address in attach links")
        parser.add_argument(
            "--store",
            metavar="URL",
            help="where a new home's rows are: postgresql://... (a file in the home)",
        )
        parser.add_argument(
            "--blobs",
            metavar="URL",
            help="where a new home's models, data and results are: s3://bucket/... (in the home)",
        )
        parser.add_argument(
            "--s3-endpoint", metavar="URL", help="the S3 server, if it is not Amazon's"
        )
    serve.add_argument(
        "--with-agent", action="store_true", help="also run a trusted agent on this machine"
    )
    serve.add_argument(
        "--agent-threads",
        type=_workers,
        default=1,
        metavar="N",
        help="threads of that agent (1): as many as most volunteers' have, results are equal",
    )
    serve.add_argument(
        "--tls", choices=("off", "self-signed"), help="self-signed: attach links pin it"
    )
    work = commands.add("work", "run one more background process", "work --home /srv/pleb")
    for parser in (serve, work):
        parser.add_argument(
            "--workers",
            type=_workers,
            default=1,
            metavar="N",
            help="threads that verify results and make versions, in the background process (1)",
        )
        parser.add_argument(
            "--clock-offset",
            type=_finite,
            default=0.0,
            metavar="S",
            help="move the clock by S seconds, for trials",
        )
    work.add_argument(
        "--metrics-port",
        type=_port,
        default=0,
        metavar="N",
        help="where Prometheus finds its numbers (nowhere)",
    )
    migrate = commands.add(
        "migrate",
        "update the store of an older release, or move a home's rows and files elsewhere",
        "migrate --to postgresql://pleb@db/pleb s3://bucket/pleb",
    )
    migrate.add_argument(
        "--to",
        nargs="+",
        metavar="PLACE",
        help="rows: postgresql://... or sqlite (in the home); all else: s3://... or files (there)",
    )
    migrate.add_argument(
        "--s3-endpoint", metavar="URL", help="the S3 server, if it is not Amazon's"
    )
    backup = commands.add(
        "backup",
        "back up a coordinator, which may be running",
        "backup /mnt/disk/pleb --every 6h --keep 14",
    )
    backup.add_argument(
        "folder", type=Path, metavar="TO", nargs="?", help="the folder of all backups"
    )
    backup.add_argument(
        "--again", action="store_true", help="one more, where the last one was made"
    )
    backup.add_argument(
        "--every", type=duration, metavar="TIME", help="go on, and make one as often as this"
    )
    backup.add_argument("--keep", type=count, metavar="N", help="remove all but the newest N")
    restore = commands.add(
        "restore",
        "make a new home of a backup; agents go on with it by themselves",
        "restore /mnt/disk/pleb --home /srv/pleb",
    )
    restore.add_argument(
        "folder", type=Path, metavar="FROM", help="a backup, or the folder of them (the newest)"
    )
    for parser in (backup, restore):
        parser.add_argument(
            "--keys", type=Path, metavar="DIR", help="where the keys are (the folder keys in it)"
        )
    commands.add(
        "compact", "remove at once what is not kept any more, and give back the room", "compact"
    )
    commands.add("status", "show the state of the coordinator and its projects", "status --json")
    commands.add(
        "overview",
        "show rates, rounds, hosts, refusals, storage and backups",
        "overview --json",
    )
    log = commands.add(
        "log", "show what happened in a project, or what operators did", "log words --limit 20"
    )
    log.add_argument(
        "project", metavar="PROJECT", nargs="?", help="whose events (with --audit: all)"
    )
    log.add_argument("--audit", action="store_true", help="who did what with these commands")
    log.add_argument("--limit", type=count, default=50, metavar="N", help="the newest N (50)")
    doctor = commands.add("doctor", "find what is wrong, and say how to fix it", "doctor")
    doctor.add_argument(
        "--blobs", type=number, default=200, metavar="N", help="rehash up to N blobs (200)"
    )


def _add_admins(commands: Commands) -> None:
    login = commands.add(
        "login",
        "become an admin of a coordinator elsewhere, with a code from there",
        "login https://a.example#CODE",
    )
    login.add_argument("address", metavar="URL", help="as `admin new` printed it, with the code")
    commands.add("open", "print a link to the operator's page, which works once", "open")
    admins = commands.group("admin", "Admins, who use the coordinator from elsewhere.")
    new = admins.add(
        "new", "let somebody log in; on the coordinator's machine", "new anna --role operator"
    )
    new.add_argument("name", metavar="NAME", help="what the audit log calls this admin")
    new.add_argument(
        "--role",
        choices=[role.value for role in AdminRole],
        default=AdminRole.VIEWER.value,
        help="what this admin may do (viewer)",
    )
    new.add_argument("--days", type=days, default=1.0, help="how long the code is valid (1)")
    admins.add("list", "list all admins", "list")
    admins.add("revoke", "take an admin's key and sessions back", "revoke anna").add_argument(
        "name", metavar="NAME"
    )


def _add_simulation(commands: Commands) -> None:
    parser = commands.add(
        "simulate",
        "show what a fleet would do with a project's settings, in virtual time",
        "simulate words --hosts 200 --hours 12",
    )
    parser.add_argument(
        "project", metavar="PROJECT", nargs="?", help="whose settings (the default ones)"
    )
    parser.add_argument("--hosts", type=count, default=60, metavar="N", help="volunteers (60)")
    parser.add_argument("--trusted", type=number, default=1, metavar="N", help="trusted hosts (1)")
    parser.add_argument("--hours", type=_hours, default=6.0, metavar="H", help="virtual time (6)")
    parser.add_argument(
        "--unit-minutes",
        type=_finite,
        default=5.0,
        metavar="M",
        help="how long a unit takes the median PC (5)",
    )
    parser.add_argument(
        "--on-hours", type=_finite, default=0.0, metavar="H", help="how long PCs stay on (always)"
    )
    parser.add_argument(
        "--off-hours", type=_finite, default=8.0, metavar="H", help="how long they are off then (8)"
    )
    parser.add_argument(
        "--faults",
        type=_finite,
        default=0.0,
        metavar="SHARE",
        help="part of honest results that bad memory spoils (0)",
    )
    parser.add_argument("--attack", metavar="NAME", help="what hostile hosts do; `list` shows all")
    parser.add_argument(
        "--share",
        type=_finite,
        default=0.1,
        metavar="SHARE",
        help="hostile part of the hosts (0.1)",
    )
    parser.add_argument("--instant", action="store_true", help="lies take no time")
    parser.add_argument("--seed", type=number, default=1, metavar="N", help="of all that is random")


def _add_projects(commands: Commands) -> None:
    projects = commands.group(
        "project", "Projects: list, show, pause, resume, archive, extend, delete."
    )
    projects.add("list", "list all projects", "list")
    for name, summary in (
        ("show", "show one project"),
        ("pause", "issue no more units of a project; results are still accepted"),
        ("resume", "resume a paused or archived project"),
        ("archive", "end a project: no unit is issued and nothing is done in the background"),
        ("extend", "go on to the last planned version, past the target and the patience"),
    ):
        projects.add(name, summary, f"{name} words").add_argument("project", metavar="PROJECT")
    delete = projects.add(
        "delete", "remove an archived project with all that belongs to it", "delete words"
    )
    delete.add_argument("project", metavar="PROJECT")
    families = commands.group("family", "Families: projects that are published together.")
    families.add("show", "show all members of an ensemble side by side", "show words").add_argument(
        "family", metavar="FAMILY"
    )
    invites = commands.group("invite", "Invites: create, list, revoke.")
    new = invites.add("new", "create an invite, which works once", "new --team lab --uses 12")
    new.add_argument("--role", choices=("host", "trusted", "publisher", "admin"), default="host")
    new.add_argument("--note", default="", help="who it is for")
    new.add_argument("--team", default="", help="the household or lab whose hosts are one voice")
    new.add_argument(
        "--proven", action="store_true", help="hosts count without exams from the start"
    )
    new.add_argument("--uses", type=count, default=1, metavar="N", help="for N hosts (1)")
    valid = new.add_mutually_exclusive_group()
    valid.add_argument("--days", type=days, default=7.0, help="how long it is valid (7)")
    valid.add_argument(
        "--until", type=day, metavar="DAY", help="the last day on which it is, as 2026-12-28"
    )
    invites.add("list", "list all invites, without their tokens", "list")
    invites.add("revoke", "revoke an unused invite", "revoke 1f2e3d").add_argument(
        "invite", metavar="INVITE", help="its token, or its number from the list"
    )
    keys = commands.group("key", "Online keys: list, rotate, delete.")
    keys.add("list", "list the online keys, and which projects delegate to each", "list")
    keys.add("rotate", "make a new online key, which researchers then delegate to", "rotate")
    keys.add("delete", "delete an earlier key that no project needs", "delete 1f2e3d").add_argument(
        "key", metavar="KEY", help="the beginning of its fingerprint"
    )


def _add_units_and_hosts(commands: Commands) -> None:
    units = commands.group("unit", "Units: list them, or show why one counted or not.")
    listed = units.add("list", "list a project's newest units", "list words")
    listed.add_argument("project", metavar="PROJECT")
    listed.add_argument("--limit", type=count, default=500, metavar="N", help="at most N (500)")
    shown = units.add(
        "show", "show a unit's results, how far apart they are, and the decision", "show 17"
    )
    shown.add_argument("unit", type=number, metavar="UNIT")
    cancel = units.add(
        "cancel", "take back a unit that is not decided; the round goes on without it", "cancel 17"
    )
    cancel.add_argument("unit", type=number, metavar="UNIT")
    hosts = commands.group("host", "Hosts: list, show, ban, unban, team, detach, delete.")
    listed = hosts.add("list", "list a project's hosts, those seen last first", "list words")
    listed.add_argument("project", metavar="PROJECT")
    listed.add_argument("--limit", type=count, default=200, metavar="N", help="at most N (200)")
    for name, summary in (
        ("show", "show one host"),
        ("ban", "refuse a host's requests"),
        ("unban", "end a host's ban"),
        ("team", "let a host's account join a team, whose hosts are one voice"),
        ("detach", "give what a host has in hand to others at once; it may come back"),
        ("delete", "forget a host that has gone; its account keeps its credit"),
    ):
        parser = hosts.add(name, summary, f"{name} words 1f2e3d")
        parser.add_argument("project", metavar="PROJECT")
        parser.add_argument("host", metavar="HOST", help="its name or first digits of its key")
        if name == "ban":
            parser.add_argument("--days", type=days, default=3650.0, help="how long (10 years)")
            parser.add_argument("--reason", default="no reason given.", help="shown to the host")
        if name == "team":
            parser.add_argument("team", metavar="TEAM", help='its name; "" leaves the team')

    for name, what in (("account", "accounts"), ("team", "teams")):
        people = commands.group(name, f"Volunteers' {what}, with their credit.")
        listed = people.add("list", f"list a project's {what}, most credit first", "list words")
        listed.add_argument("project", metavar="PROJECT")
        listed.add_argument("--limit", type=count, default=200, metavar="N", help="at most N (200)")


def _add_models(commands: Commands) -> None:
    models = commands.group("model", "Models: list versions, show, export, verify, roll back.")
    for name, summary in (
        ("list", "list a project's versions"),
        ("show", "show one version and the results it was made of"),
        ("export", "write a version as a safetensors state_dict"),
        ("verify", "recompute every version from the log, and compare"),
    ):
        more = " words.safetensors" if name == "export" else ""
        parser = models.add(name, summary, f"{name} words{more}")
        parser.add_argument("project", metavar="PROJECT")
        if name == "export":
            parser.add_argument("file", type=Path, metavar="FILE")
        default = "the current one" if name in {"show", "export"} else "all"
        parser.add_argument("--epoch", type=number, metavar="E", help=f"default: {default}")
        if name in {"show", "export"}:
            which = parser.add_mutually_exclusive_group()
            which.add_argument("--version", type=number, metavar="N", help="default: the newest")
            which.add_argument("--best", action="store_true", help="the best one on the holdout")
        if name == "export":
            parser.add_argument(
                "--ema",
                type=_decay,
                nargs="?",
                const=0.9,
                metavar="DECAY",
                help="the moving average of the versions up to that one (0.9 for each version)",
            )

    rollback = models.add(
        "rollback", "restore an earlier version as the newest one", "rollback words --to 12"
    )
    rollback.add_argument("project", metavar="PROJECT")
    rollback.add_argument(
        "--to", type=number, metavar="N", help="default: the last one that did well on the holdout"
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _hours(text: str) -> float:
    value = _finite(text)
    if value > _MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is more than {_MOST_HOURS} hours")
    return value


def _decay(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def _workers(text: str) -> int:
    found = number(text) if text.isdecimal() else 0
    if not 1 <= found <= 64:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of threads; use 1 to 64")
    return found


def _port(text: str) -> int:
    found = number(text) if text.isdecimal() else -1
    if not 0 <= found <= 65_535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a port; use 0 to 65535")
    return found
