"""The command line: names, arguments, help with an example for each command."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from pleb_coordinator.admin.table import TABLE
from pleb_coordinator.cli.parser_groups import (
    add_admins,
    add_mirrors,
    add_models,
    add_packages,
    add_projects,
    add_units_and_hosts,
)
from pleb_system.command_line import Commands, count, duration, number

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
    add_projects(commands)
    add_units_and_hosts(commands)
    add_models(commands)
    add_mirrors(commands)
    add_packages(commands)
    _add_simulation(commands)
    add_admins(commands)
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
    serve.add_argument(
        "--host",
        metavar="ADDRESS",
        help="address to listen on (127.0.0.1); :: for every IPv4 and IPv6 address",
    )
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


def _add_simulation(commands: Commands) -> None:
    parser = commands.add(
        "simulate",
        "show what a fleet would do with a project's settings, in virtual time",
        "simulate words --hosts 200 --hours 12",
    )
    parser.add_argument(
        "project",
        metavar="PROJECT",
        nargs="?",
        help="whose settings (a unit for each host)",
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
        "--store",
        default="",
        metavar="URL",
        help="an empty database that takes the rows, postgresql://... (a file in memory)",
    )
    parser.add_argument(
        "--share",
        type=_finite,
        default=0.1,
        metavar="SHARE",
        help="hostile part of the hosts (0.1)",
    )
    parser.add_argument("--instant", action="store_true", help="lies take no time")
    parser.add_argument("--seed", type=number, default=1, metavar="N", help="of all that is random")


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
