"""How long a process that dies waits for its next start; what the command line says."""

from __future__ import annotations

import argparse

import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.cli.parser import make_parser
from pleb_coordinator.cli.supervisor import LONGEST_BACKOFF_SECONDS, STEADY_SECONDS, Child


def test_a_child_that_dies_again_and_again_waits_ever_longer():
    child = Child("HTTP", ["true"])
    waits = [child.died(0.1 * n) for n in range(12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == LONGEST_BACKOFF_SECONDS
    assert waits == sorted(waits)


def test_one_that_ran_steadily_starts_again_at_once():
    child = Child("HTTP", ["true"], backoff_seconds=8.0)
    assert child.died(STEADY_SECONDS) == 0.0
    assert child.start_at == STEADY_SECONDS


def commands(parser, path=()):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, (*path, name))
            return
    yield path, parser


@pytest.mark.parametrize(
    ("path", "parser"),
    [pytest.param(*pair, id="-".join(pair[0])) for pair in commands(make_parser())],
)
def test_every_command_has_an_example_and_the_common_options(path, parser):
    assert f"Example: pleb-coordinator {' '.join(path)}" in parser.epilog
    assert "Exit codes: 0 done" in parser.epilog
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"--home", "--json", "--debug"} <= options


def test_an_error_is_one_sentence_and_a_code(tmp_path, capsys):
    assert main(["project", "list", "--home", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "pleb-coordinator init" in said.err
    assert main(["project", "list", "--home", str(tmp_path), "--json"]) == 2
    assert '"exit":2' in capsys.readouterr().out
