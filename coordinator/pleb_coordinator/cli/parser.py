"""The command line: names, arguments, help with an example for each command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Add = Callable[[str, str, str], argparse.ArgumentParser]

__all__ = ["make_parser"]

_EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 error; 2 wrong argument, file or home; 3 not trusted; 4 refused; "
    "6 home in use; 8 doctor or verify found a fault; 130 interrupted."
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pleb-coordinator",
        description="Runs a coordinator: plans work for volunteers' PCs, checks what comes back "
        "and makes the shared model of it.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = _adder(commands, "pleb-coordinator")
    _running(add)
    _watching(add)
    _projects(commands)
    _fleet(commands)
    _models(commands)
    return parser


def _adder(commands: argparse._SubParsersAction[argparse.ArgumentParser], prefix: str) -> Add:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, metavar="DIR", help="the coordinator's folder")
    common.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    common.add_argument("--debug", action="store_true", help="log more; show tracebacks")

    def add(name: str, help_text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[common],
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=f"Example: {prefix} {example}. {_EXIT_CODES}",
        )

    return add


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> Add:
    group = commands.add_parser(name, help=help_text, description=help_text, epilog=_EXIT_CODES)
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    return _adder(actions, f"pleb-coordinator {name}")


def _running(add: Add) -> None:
    init = add("init", "make the home: configuration, keys, store", "init --url https://a.example")
    init.add_argument("--url", metavar="URL", help="the address in attach links")
    serve = add("serve", "run the coordinator until Ctrl+C", "serve --host 0.0.0.0 --with-agent")
    serve.add_argument("--host", metavar="ADDRESS", help="listen there (127.0.0.1)")
    serve.add_argument("--port", type=_port, metavar="N", help="listen there (7532); 0: any free")
    serve.add_argument("--url", metavar="URL", help="the address in attach links")
    serve.add_argument(
        "--with-agent", action="store_true", help="run a trusted agent on this machine too"
    )
    serve.add_argument(
        "--tls", choices=("off", "self-signed"), help="self-signed: pinned by attach links"
    )
    work = add("work", "run one more background process", "work --home /srv/pleb")
    for parser in (serve, work):
        parser.add_argument(
            "--clock-offset",
            type=float,
            default=0.0,
            metavar="S",
            help="move the clock by S seconds, for trials",
        )
    add("migrate", "bring an older store up to date", "migrate")


def _watching(add: Add) -> None:
    add("status", "show how the coordinator and its projects stand", "status --json")
    doctor = add("doctor", "look for what is wrong, and say what to do", "doctor")
    doctor.add_argument(
        "--blobs", type=int, default=200, metavar="N", help="hash so many blobs again (200)"
    )


def _projects(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _group(commands, "project", "Projects: list, show, pause, resume.")
    add("list", "list all projects", "list")
    for name, help_text in (
        ("show", "show one project"),
        ("pause", "give out no more units of a project; results are still taken"),
        ("resume", "go on with a paused project"),
    ):
        add(name, help_text, f"{name} words").add_argument("project", metavar="PROJECT")
    add = _group(commands, "invite", "Invites: make, list, revoke.")
    new = add("new", "make an invite; it works once", "new --role publisher")
    new.add_argument("--role", choices=("host", "trusted", "publisher", "admin"), default="host")
    new.add_argument("--note", default="", help="for whom it is")
    new.add_argument("--days", type=float, default=7.0, help="how long it works (7)")
    add("list", "list all invites, without their tokens", "list")
    add("revoke", "make an unused invite worthless", "revoke 1f2e3d").add_argument(
        "invite", metavar="INVITE", help="its token, or its number from the list"
    )


def _fleet(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _group(commands, "unit", "Units: list them, or show why one counted or not.")
    units = add("list", "list a project's newest units", "list words")
    units.add_argument("project", metavar="PROJECT")
    units.add_argument("--limit", type=int, default=500, metavar="N", help="at most N (500)")
    shown = add("show", "tell who said what, how far apart they were, what followed", "show 17")
    shown.add_argument("unit", type=int, metavar="UNIT")
    add = _group(commands, "host", "Hosts: list, show, ban, unban.")
    add("list", "list a project's hosts", "list words").add_argument("project", metavar="PROJECT")
    for name, help_text in (
        ("show", "show one host"),
        ("ban", "answer a host no more"),
        ("unban", "let a banned host in again"),
    ):
        parser = add(name, help_text, f"{name} words 1f2e3d")
        parser.add_argument("project", metavar="PROJECT")
        parser.add_argument("host", metavar="HOST", help="its fingerprint's beginning, or its name")
        if name == "ban":
            parser.add_argument("--days", type=float, default=3650.0, help="how long (10 years)")
            parser.add_argument("--reason", default="banned by the operator")


def _models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _group(commands, "model", "Models: list versions, show, export, verify.")
    for name, help_text in (
        ("list", "list a project's versions"),
        ("show", "show one version and what made it"),
        ("export", "write a version as a safetensors state_dict"),
        ("verify", "make every version once more from the log, and compare"),
    ):
        more = " words.safetensors" if name == "export" else ""
        parser = add(name, help_text, f"{name} words{more}")
        parser.add_argument("project", metavar="PROJECT")
        if name == "export":
            parser.add_argument("file", type=Path, metavar="FILE")
        if name in {"show", "export"}:
            parser.add_argument("--version", type=int, metavar="N", help="the newest otherwise")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; one is 0 to 65535")
    return int(text)
