"""The frame of a command line: parser, common options, help, output, errors, exit codes."""

from __future__ import annotations

import argparse
import difflib
import errno
import math
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from pleb_shared.errors import PlebError
from pleb_shared.protocol.shown import shown, shown_line
from pleb_system.completion import SHELLS, completion_script
from pleb_system.durations import end_of_day, parse_duration
from pleb_system.exit_codes import ExitCode
from pleb_system.start_up import end_fast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "Commands",
    "Output",
    "count",
    "day",
    "days",
    "duration",
    "number",
    "parse",
    "run_command",
    "table",
]

_NO_ROOM = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_HELP_WIDTH = 96
_SHOWN = 40
"""Characters of an argument that is refused."""
_MOST_DIGITS = 19
_MOST_DAYS = 36_500
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
"""In argparse's message."""
_EMPTY_OPTION = re.compile(r"-[-\w]+=--")
_QUOTED = re.compile(r"[\w-]+")


class Parser(argparse.ArgumentParser):
    """Suggests the nearest word for one that is none of the choices."""

    @override
    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        if found := _INVALID_CHOICE.search(message):
            near = difflib.get_close_matches(found[1], _QUOTED.findall(found[2]), n=1)
            if near:
                hint = f"there is no {found[1]!r}; did you mean {near[0]!r}?"
                message = message[: found.start()] + hint
        super().error(message)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line; one that is wrong ends the program with a sentence.

    `argv`: None is what the program was started with.
    """
    words = sys.argv[1:] if argv is None else argv
    for place, word in enumerate(words, start=1):
        try:
            word.encode()
        except UnicodeEncodeError:  # bytes that are no text: neither stored nor shown
            parser.error(f"argument {place} is not UTF-8")
        if _EMPTY_OPTION.fullmatch(word):  # argparse would take it for an empty list
            parser.error(f"argument {place}: {word!r} has no value")
    return parser.parse_args(words)


class ShowVersion(argparse.Action):
    """Prints the program's version and exits; it is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, find: Callable[[], str]) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")
        self._find = find

    @override
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"{parser.prog} {self._find()}")
        parser.exit()


class ShowCompletion(argparse.Action):
    """Prints the script that completes the program's words in a shell, and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(
            option_strings,
            dest,
            choices=SHELLS,
            metavar="SHELL",
            help="print what completes commands in bash, zsh or fish, and exit",
        )

    @override
    def __call__(
        self, parser: argparse.ArgumentParser, _: object, values: Any, *__: object
    ) -> NoReturn:
        sys.stdout.write(completion_script(parser, values))
        parser.exit()


def installed_version() -> str:
    """Return the version of the package that is installed."""
    from importlib.metadata import version

    return version("pleb-cluster")


class Commands:
    """The commands of a program or of a group; each gets an example and the common options."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        dest: str,
        home: str,
        parsers: dict[str, argparse.ArgumentParser] | None = None,
    ) -> None:
        self._program = parser.prog
        self._home = home
        self.parsers: dict[str, argparse.ArgumentParser] = {} if parsers is None else parsers
        """Those of all commands of the program, by the words after its name."""
        self._added = parser.add_subparsers(dest=dest, required=True, metavar=dest.upper())

    @classmethod
    def of_program(
        cls,
        program: str,
        description: str,
        home: str,
        version: Callable[[], str] = installed_version,
    ) -> tuple[argparse.ArgumentParser, Commands]:
        """Return a program's parser and its commands. `home` says what the home is."""
        parser = Parser(program, **_texts(description))
        parser.add_argument("--version", action=ShowVersion, find=version)
        parser.add_argument("--completion", action=ShowCompletion)
        parser.set_defaults(action=None)  # the commands of a group set it
        return parser, cls(parser, "command", home)

    def group(self, name: str, description: str) -> Commands:
        """Add a group of commands, whose names are actions."""
        parser = self._added.add_parser(name, help=description, **_texts(description))
        return Commands(parser, "action", self._home, self.parsers)

    def add(self, name: str, summary: str, example: str) -> argparse.ArgumentParser:
        """Add a command. `example` is what may follow the program's name or the group's."""
        sentence = f"{summary[0].upper()}{summary[1:]}."
        texts = _texts(sentence, f"Example: {self._program} {example}\n\n")
        parser = self._added.add_parser(name, help=summary, **texts)
        parser.add_argument("--home", type=Path, metavar="DIR", help=self._home)
        parser.add_argument("--json", action="store_true", help="answer in JSON, for programs")
        parser.add_argument("--debug", action="store_true", help="log more; show tracebacks")
        self.parsers[parser.prog.partition(" ")[2]] = parser
        return parser


def _texts(description: str, example: str = "") -> dict[str, Any]:
    codes = "; ".join(f"{code:d} {code.meaning}" for code in ExitCode)
    return {
        "description": textwrap.fill(description, _HELP_WIDTH),
        "epilog": example + textwrap.fill(f"Exit codes: {codes}.", _HELP_WIDTH),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


class Output:
    """Prints results to the standard output, progress and errors to the standard error."""

    def __init__(self, program: str, *, as_json: bool) -> None:
        self.program = program
        self.as_json = as_json

    def result(self, value: Any, lines: str | Iterable[str]) -> None:
        """Print the command's result: `value` as one line of JSON, or `lines` for people."""
        if self.as_json:
            import msgspec

            print(msgspec.json.encode(value).decode(), flush=True)
        else:
            text = shown(lines) if isinstance(lines, str) else "\n".join(map(shown_line, lines))
            print(text, flush=True)

    def progress(self, sentence: str) -> None:
        """Print what happens now, for people who wait."""
        print(shown(sentence), file=sys.stderr, flush=True)

    def error(self, error: PlebError) -> None:
        """Print why the command failed and what to do."""
        if self.as_json:
            name, code = type(error).__name__, int(error.exit_code)
            self.result({"error": name, "message": str(error), "exit": code}, "")
        else:
            self.progress(f"{self.program}: {error}")


def run_command(program: str, options: argparse.Namespace, command: Callable[[Output], int]) -> int:
    """Run one command and return its exit code; what goes wrong becomes one sentence."""
    output = Output(program, as_json=options.json)
    end_fast()
    try:
        return command(output)
    except PlebError as error:
        found = error
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        return ExitCode.DONE
    except OSError as error:
        if error.errno in _NO_ROOM:
            found = PlebError("There is no room left on the disk: free some space, and try again.")
        elif error.filename is None:
            raise
        else:
            found = PlebError(
                f"{error.filename} cannot be used ({error.strerror}): check its permissions and "
                "the free disk space, move whatever else is in its place, or give another folder "
                "with --home."
            )
        found.__cause__ = error
    if options.debug:
        import traceback

        traceback.print_exception(found)
    output.error(found)
    return found.exit_code


def count(text: str) -> int:
    """Return a number of things, for `add_argument`."""
    found = number(text) if text.isdecimal() else 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not a whole number above 0")
    return found


def number(text: str) -> int:
    """Return a number that things are named by, for `add_argument`: 0 or more, of 63 bits."""
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not a whole number of 63 bits")
    return int(text)


def days(text: str) -> float:
    """Return a time in days, for `add_argument`."""
    try:
        found = float(text) if len(text) <= _MOST_DIGITS else math.inf
    except ValueError:
        found = math.nan
    if not 0 < found <= _MOST_DAYS:
        most = f"{_MOST_DAYS:,}"
        raise argparse.ArgumentTypeError(
            f"{text[:_SHOWN]!r} is not a number of days over 0 and at most {most}"
        )
    return found


def duration(text: str) -> float:
    """Return a duration's seconds, for `add_argument`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def day(text: str) -> float:
    """Return when a day is over, in seconds since 1970, for `add_argument`."""
    try:
        return end_of_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def table(head: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> list[str]:
    """Return aligned lines, or the sentence `empty` where there are no rows."""
    texts = [[shown_line(str(cell)) for cell in row] for row in rows]
    if not texts:
        return [empty]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in ([*head], *texts)
    ]
