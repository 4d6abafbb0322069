"""The command line: names, arguments, help with an example for each; `main` runs one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from pleb_system.command_line import Commands, count, parse, run_command

if TYPE_CHECKING:
    import argparse

    from pleb_system.command_line import Output

__all__ = ["main", "make_parser"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = parse(make_parser(), argv)

    def run(output: Output) -> int:
        from pleb_project.cli.commands import COMMANDS, warn
        from pleb_project.server.records import Home

        path = options.home or Path(platformdirs.user_data_dir("pleb-project", appauthor=False))
        home = Home(path.expanduser().absolute())
        try:
            return COMMANDS[options.command](home, options, output)
        finally:
            if options.command not in {"new", "try", "demo"}:
                warn(home, output)

    return run_command("pleb-project", options, run)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser, commands = Commands.of_program(
        "pleb-project",
        "Defines, checks, tries, publishes and follows a project of Pleb-Cluster.",
        "folder of keys and records",
    )
    new = commands.add(
        "new", "write a project to start from", "new my-project --template language-model"
    )
    new.add_argument("folder", type=Path, nargs="?")
    new.add_argument(
        "--template", default="classifier", metavar="NAME", help="what it is (classifier)"
    )
    new.add_argument("--list", action="store_true", help="name the templates")
    check = commands.add("check", "export the model and measure a unit", "check .")
    attempt = commands.add("try", "train some versions on this PC", "try . --versions 3")
    attempt.add_argument("--versions", type=count, default=5, help="how many (5)")
    publish = commands.add(
        "publish",
        "sign the project and send it to a coordinator",
        "publish . --to https://pleb.example.org --invite TOKEN",
    )
    publish.add_argument(
        "--to", required=True, metavar="URL", help="the coordinator; URL#FINGERPRINT pins it"
    )
    publish.add_argument("--invite", metavar="TOKEN", help="a publisher's invite by the operator")
    publish.add_argument(
        "--new-epoch",
        action="store_true",
        help="start again from version 0; needed if model, data or training have changed",
    )
    publish.add_argument(
        "--unchecked", action="store_true", help="publish although the check found a fault"
    )
    _add_passphrase(publish, of_new_key=True)
    for measuring in (check, publish):
        measuring.add_argument(
            "--cpu-minutes",
            type=float,
            default=2.0,
            metavar="N",
            help="how long its steps may take; more measures what is estimated otherwise (2)",
        )
    for with_folder in (check, attempt, publish):
        _add_folder(with_folder)
    _add_renewing(commands)
    _add_reading_commands(commands)
    evaluate = commands.add(
        "evaluate",
        "measure an ensemble's members and the mean of their predictions",
        "evaluate . --best",
    )
    distill = commands.add(
        "distill",
        "write a student that learns what an ensemble predicts, to be published",
        "distill . --best",
    )
    for of_ensemble in (evaluate, distill):
        _add_version(of_ensemble.add_mutually_exclusive_group())
        _add_folder(of_ensemble)
        of_ensemble.add_argument(
            "--project", metavar="PROJECT|LINK", help="its name or attach link (the project file's)"
        )
    distill.add_argument(
        "--values", action="store_true", help="models return values, not scores of classes"
    )
    for of_published in _add_changing(commands):
        of_published.add_argument("project", metavar="PROJECT|LINK", help="its name or attach link")
    demo = commands.add(
        "demo",
        "train a model with a coordinator, two agents and three liars",
        "demo --keep",
    )
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")
    demo.add_argument("--stop", action="store_true", help="stop a demo that was left running")
    _add_keys(commands)
    return parser


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: this folder")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override project.toml, for example training.versions=3",
    )


def _add_reading_commands(commands: Commands) -> None:
    status = commands.add("status", "show the training's progress", "status digits --watch")
    status.add_argument("--watch", action="store_true", help="until the project is finished")
    _add_reading(status)
    export = commands.add(
        "export",
        "download the model as a safetensors state_dict",
        "export digits digits.safetensors --best",
    )
    _add_version(export.add_mutually_exclusive_group())
    export.add_argument(
        "--ema",
        type=_decay,
        nargs="?",
        const=0.9,
        metavar="DECAY",
        help="the moving average of the versions up to that one (0.9 for each version)",
    )
    _add_reading(export)
    for of_published in (status, export):
        of_published.add_argument("project", metavar="PROJECT|LINK", help="its name or attach link")
    export.add_argument(
        "file", type=Path, help="the file to write (of an ensemble: a folder); it must not exist"
    )


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--reading",
        type=Path,
        metavar="FILE",
        help="of a private project: what `pleb-agent reader` wrote for you as a member",
    )


def _add_version(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--version",
        default="newest",
        metavar="VERSION",
        help="a number, best or newest (newest); EPOCH/VERSION: of an earlier epoch",
    )
    group.add_argument("--best", action="store_true", help="the best one on the holdout")


def _decay(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def _add_renewing(commands: Commands) -> None:
    renew = commands.add(
        "renew", "let the coordinator issue work for another 30 days", "renew digits"
    )
    renew.add_argument(
        "project", metavar="PROJECT|LINK", nargs="?", help="default: all published from here"
    )
    renew.add_argument(
        "--due", action="store_true", help="only those that have less than 20 days left"
    )
    renew.add_argument("--watch", action="store_true", help="stay, and renew whatever becomes due")
    automatic = commands.add(
        "autorenew", "renew once a day while this PC is on, by the system's timer", "autorenew on"
    )
    automatic.add_argument("state", choices=("on", "off", "show"))
    _add_passphrase(renew)
    _add_passphrase(automatic)


def _add_keys(commands: Commands) -> None:
    keys = commands.group("key", "Keys: show, rotate, revoke, set a passphrase.")
    show = keys.add("show", "show a project's keys, and which were replaced or revoked", "show p")
    rotate = keys.add(
        "rotate", "replace the root key; nobody has to attach again", "rotate digits --revoke"
    )
    rotate.add_argument(
        "--revoke", action="store_true", help="also refuse first attachments by links with the old"
    )
    revoke = keys.add(
        "revoke", "let nothing count any more that a key signs", "revoke digits 1f2e3d4c"
    )
    passphrase = keys.add(
        "passphrase", "set, change or remove the root key's passphrase", "passphrase digits"
    )
    passphrase.add_argument(
        "--new-passphrase-file", type=Path, metavar="FILE", help="the new one is its first line"
    )
    _add_passphrase(rotate, of_new_key=True)
    _add_passphrase(revoke)
    _add_passphrase(passphrase, of_new_key=True)
    for parser in (show, rotate, revoke, passphrase):
        parser.add_argument("project", metavar="PROJECT|LINK", help="its name or attach link")
    revoke.add_argument(
        "key", metavar="KEY", help="the beginning of its fingerprint, as `key show` prints it"
    )


def _add_changing(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add what changes a published project's course; return the commands."""
    pause = commands.add(
        "pause", "have no work issued for a while", 'pause digits --because "The data change."'
    )
    resume = commands.add("resume", "have work issued again, also of an archived one", "resume p")
    archive = commands.add("archive", "end a project; its versions stay", "archive digits")
    move = commands.add(
        "move",
        "go on with a project at another coordinator, which agents follow",
        "move digits --to https://pleb.example.org --invite TOKEN",
    )
    move.add_argument(
        "--to", required=True, metavar="URL", help="the coordinator; URL#FINGERPRINT pins it"
    )
    move.add_argument("--invite", metavar="TOKEN", help="a publisher's invite by its operator")
    source = move.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="mirror",
        metavar="URL",
        help="a mirror, if the old coordinator is lost; the open round is lost with it",
    )
    source.add_argument(
        "--now", action="store_true", help="do not wait until the open round is finished"
    )
    for ending in (pause, archive):
        ending.add_argument("--because", default="", metavar="TEXT", help="why: volunteers read it")
    for of_published in (pause, resume, archive, move):
        _add_passphrase(of_published)
    return [pause, resume, archive, move]


def _add_passphrase(parser: argparse.ArgumentParser, *, of_new_key: bool = False) -> None:
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="the root key's passphrase is its first line (else: PLEB_PASSPHRASE, keyring, asked)",
    )
    if of_new_key:
        parser.add_argument(
            "--no-passphrase", action="store_true", help="make a root key without a passphrase"
        )
