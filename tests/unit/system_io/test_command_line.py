"""The three command lines: the same options, exit codes and form of errors."""

from __future__ import annotations

import argparse
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from pleb_agent.cli import main as agent_main
from pleb_agent.cli.parser import make_parser as agent_parser
from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.cli.parser import make_parser as coordinator_parser
from pleb_project.cli import main as project_main
from pleb_project.cli.main import make_parser as project_parser
from pleb_shared.errors import InputError, PlebError
from pleb_system.command_line import Commands, Output, count, days, duration, number, run_command
from pleb_system.exit_codes import ExitCode
from tests.parsers import record_commands

PAGE = Path(__file__).parents[3] / "docs" / "exit-codes.md"
PROGRAMS = [record_commands(make) for make in (agent_parser, coordinator_parser, project_parser)]
MAINS = (agent_main, coordinator_main, project_main)
BAD = {0: ["logs"], 1: ["project", "list"], 2: ["status", "words"]}


@pytest.mark.parametrize(
    "parser",
    [pytest.param(one, id=one.prog) for _, commands in PROGRAMS for one in commands],
)
def test_every_command_has_an_example_and_the_common_options(parser):
    assert f"Example: {parser.prog}" in parser.epilog
    options = re.findall(r"^ +(?:-h, )?(--\w+)", parser.format_help(), re.MULTILINE)
    assert {"--home", "--json", "--debug"} <= set(options)


@pytest.mark.parametrize(
    ("parser", "commands"), [pytest.param(*one, id=one[0].prog) for one in PROGRAMS]
)
def test_every_help_and_the_page_list_the_same_exit_codes(parser, commands):
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == {c: c.meaning for c in ExitCode}
    for one in (parser, *commands):
        text = " ".join(one.format_help().split())
        assert all(f"{code:d} {code.meaning}" in text for code in ExitCode)


@pytest.mark.parametrize("number", range(3))
def test_every_program_tells_its_version(capsys, number):
    with pytest.raises(SystemExit) as ended:
        MAINS[number](["--version"])
    assert ended.value.code == ExitCode.DONE
    assert capsys.readouterr().out == f"{PROGRAMS[number][0].prog} {version('pleb-cluster')}\n"


@pytest.mark.parametrize(
    ("number", "words", "near"),
    [
        (0, ["statu"], "'status'"),
        (1, ["projects"], "'project'"),
        (1, ["unit", "shwo"], "'show'"),
        (2, ["publsh"], "'publish'"),
        (0, ["start", "--preset", "ful"], "'full'"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(capsys, number, words, near):
    with pytest.raises(SystemExit) as ended:
        MAINS[number](words)
    assert ended.value.code == ExitCode.WRONG_INPUT
    assert f"there is no '{words[-1]}'; did you mean {near}?" in capsys.readouterr().err


def test_a_word_that_is_near_nothing_is_answered_with_all(capsys):
    with pytest.raises(SystemExit):
        agent_main(["xyzzy"])
    assert "(choose from " in capsys.readouterr().err


def errors(base=PlebError):
    for error in base.__subclasses__():
        yield error
        yield from errors(error)


def test_every_error_has_an_exit_code_of_the_table():
    assert {error.exit_code for error in errors()} <= set(ExitCode)
    assert PlebError.exit_code == ExitCode.ERROR
    assert InputError.exit_code == ExitCode.WRONG_INPUT


@pytest.mark.parametrize("number", range(3))
def test_an_error_is_one_sentence_or_one_object_and_a_code(tmp_path, capsys, number):
    main, words = MAINS[number], [*BAD[number], "--home", str(tmp_path)]
    assert main(words) == ExitCode.WRONG_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"{PROGRAMS[number][0].prog}: ")
    assert main([*words, "--json"]) == ExitCode.WRONG_INPUT
    found = json.loads(capsys.readouterr().out)
    assert found["exit"] == ExitCode.WRONG_INPUT
    assert found["message"] in said.err


def failing(error, *words):
    def command(_: Output) -> int:
        raise error

    parser, added = Commands.of_program("p", "A program.", "its folder")
    added.add("act", "act", "act")
    return run_command("p", parser.parse_args(["act", *words]), command)


def test_debug_adds_the_traceback_and_keeps_the_code(capsys):
    assert failing(InputError("Wrong."), "--debug") == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("p: Wrong.\n")


def test_a_file_that_cannot_be_used_is_named(capsys):
    assert failing(PermissionError(13, "Permission denied", "/home/x")) == ExitCode.ERROR
    assert "/home/x cannot be used (Permission denied)" in capsys.readouterr().err
    with pytest.raises(OSError, match="no file"):
        failing(OSError("no file of ours"))


def test_an_interrupt_and_a_closed_pipe_are_no_errors(capsys):
    assert failing(KeyboardInterrupt()) == ExitCode.INTERRUPTED
    assert failing(BrokenPipeError()) == ExitCode.DONE
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("read", "text"), [(count, "0"), (count, "x"), (duration, "32d")])
def test_a_wrong_number_is_explained(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        read(text)


@pytest.mark.parametrize("kind", [count, days, duration, number])
@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "-1", "1e999", "inf", "nan", "-0.5", "", " ", "0x10", "1e" + "9" * 5000, "\xb2"],
    ids=lambda text: text[:6],
)
def test_numbers_of_any_length_are_refused_with_a_sentence(kind, text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind(text)
    assert len(str(caught.value)) < 200 or kind is duration


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (1, ["unit", "show"]),
        (1, ["unit", "list", "words", "--limit"]),
        (1, ["model", "show", "words", "--version"]),
        (1, ["model", "verify", "words", "--epoch"]),
        (1, ["host", "ban", "words", "1f", "--days"]),
        (1, ["invite", "new", "--days"]),
        (1, ["serve", "--port"]),
        (1, ["serve", "--workers"]),
        (0, ["start", "--units"]),
        (0, ["start", "--threads"]),
        (0, ["logs", "--lines"]),
        (2, ["try", ".", "--versions"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
@pytest.mark.parametrize("text", ["9" * 5000, "9" * 19, "1e999", "nan"], ids=lambda text: text[:6])
def test_no_argument_ends_in_a_traceback(program, words, text, capsys):
    with pytest.raises(SystemExit) as caught:
        MAINS[program]([*words, text])
    assert caught.value.code == ExitCode.WRONG_INPUT
    assert len(capsys.readouterr().err) < 4000
