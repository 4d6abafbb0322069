"""The command line: names, arguments, help with an example for each; `main` runs one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from pleb_system.command_line import Commands, count, run_command

if TYPE_CHECKING:
    import argparse

    from pleb_system.command_line import Output

__all__ = ["main", "make_parser"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/exit-codes.md)."""
    options = make_parser().parse_args(argv)

    def run(output: Output) -> int:
        from pleb_project.cli.commands import COMMANDS
        from pleb_project.server.records import Home

        path = options.home or Path(platformdirs.user_data_dir("pleb-project", appauthor=False))
        home = Home(path.expanduser().absolute())
        return COMMANDS[options.command](home, options, output)

    return run_command("pleb-project", options, run)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser, commands = Commands.of_program(
        "pleb-project",
        "Defines, checks, tries, publishes and follows a project of Pleb-Cluster.",
        "folder of keys and records",
    )
    new = commands.add("new", "write a project to start from", "new my-project")
    new.add_argument("folder", type=Path)
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
    for with_folder in (check, attempt, publish):
        with_folder.add_argument(
            "folder", type=Path, nargs="?", default=Path(), help="default: this folder"
        )
        with_folder.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="override project.toml, for example training.versions=3",
        )
    renew = commands.add("renew", "delegate to the coordinator for another 30 days", "renew digits")
    status = commands.add("status", "show the training's progress", "status digits --watch")
    status.add_argument("--watch", action="store_true", help="until the project is finished")
    export = commands.add(
        "export",
        "download the model as a safetensors state_dict",
        "export digits digits.safetensors",
    )
    for of_published in (renew, status, export):
        of_published.add_argument("project", metavar="PROJECT|LINK", help="its name or attach link")
    export.add_argument("file", type=Path, help="the file to write; it must not exist")
    demo = commands.add(
        "demo",
        "train a model with a coordinator and three agents, one of which lies",
        "demo --keep",
    )
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")
    demo.add_argument("--stop", action="store_true", help="stop a demo that was left running")
    return parser
