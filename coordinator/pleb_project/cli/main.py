"""The parser, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from pleb_project.cli import commands
from pleb_shared.errors import PlebError
from pleb_shared.protocol.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main", "make_parser"]

EXIT_CODES: Final = """\
exit codes:
  0 done   1 failed   2 the project, a file or an argument is wrong   3 not to be trusted
  4 the coordinator refused   5 the coordinator does not answer   6 the check found a fault
  7 a process that was started failed   8 the demo missed its aim   130 stopped by Ctrl-C
"""
_INTERRUPTED: Final = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except PlebError as error:
        if arguments.debug:
            traceback.print_exc()
        print(shown(f"pleb-project: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pleb-project: stopped.", file=sys.stderr)
        return _INTERRUPTED
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pleb-project",
        description="Define, check, try, publish and follow a project of Pleb-Cluster.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], summary: str, example: str
    ) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[:1].upper()}{summary[1:]}.",
            epilog=f"example:\n  pleb-project {example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        _common(sub)
        return sub

    new = command("new", commands.new, "write a project to start from", "new my-project")
    new.add_argument("folder", type=Path)

    check = command("check", commands.check, "export the model and measure a unit", "check .")
    _project_arguments(check)

    attempt = command(
        "try", commands.try_out, "train some versions on this PC", "try . --versions 3"
    )
    _project_arguments(attempt)
    attempt.add_argument("--versions", type=_positive, default=5, help="how many (default: 5)")

    publish = command(
        "publish",
        commands.publish,
        "sign the project and hand it to a coordinator",
        "publish . --to https://pleb.example.org --invite TOKEN",
    )
    _project_arguments(publish)
    publish.add_argument(
        "--to", required=True, metavar="URL", help="the coordinator; URL#FINGERPRINT pins it"
    )
    publish.add_argument("--invite", metavar="TOKEN", help="a publisher's invite by the operator")
    publish.add_argument(
        "--new-epoch", action="store_true", help="start again from version 0 with a new model"
    )
    publish.add_argument(
        "--unchecked", action="store_true", help="publish although the check found a fault"
    )

    renew = command(
        "renew", commands.renew, "delegate to the coordinator for another 30 days", "renew digits"
    )
    _link_argument(renew)

    status = command("status", commands.status, "show how training goes", "status digits --watch")
    _link_argument(status)
    status.add_argument("--watch", action="store_true", help="go on until the project is finished")

    export = command(
        "export",
        commands.export,
        "download the model as a safetensors state_dict",
        "export digits digits.safetensors",
    )
    _link_argument(export)
    export.add_argument("file", type=Path, help="the file to write, which must not exist")

    demo = command(
        "demo",
        commands.demo,
        "train a model with a coordinator and three agents, one of which lies",
        "demo --keep",
    )
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")
    demo.add_argument("--stop", action="store_true", help="end a demo that was left running")
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    home = Path(platformdirs.user_data_dir("pleb-project", appauthor=False))
    parser.add_argument(
        "--home", type=Path, default=home, help="keys and records of this PC (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")


def _project_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: this folder")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace what project.toml says, such as training.versions=3",
    )


def _link_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT|LINK", help="name or link of a project")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not at least 1"
        raise argparse.ArgumentTypeError(message)
    return number
