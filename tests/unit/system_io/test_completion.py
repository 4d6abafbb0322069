"""Shell completion of the three programs, by a real bash."""

from __future__ import annotations

import subprocess

import pytest

from pleb_agent.cli.parser import make_parser as agent_parser
from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.cli.parser import make_parser as coordinator_parser
from pleb_project.cli.main import make_parser as project_parser
from pleb_system.completion import SHELLS, completion_script


def completed(parser, *words):
    """Return what bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in (parser.prog, *words))
    name = "_" + parser.prog.replace("-", "_")
    tried = (
        f"{completion_script(parser, 'bash')}\n"
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; {name}\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", tried], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ([""], {"host", "login", "overview"}),
        (["ho"], {"host"}),
        (["host", ""], {"ban", "detach"}),
        (["host", "b"], {"ban"}),
        (["host", "ban", "--"], {"--days", "--reason", "--coordinator", "--json"}),
        (["host", "ban", "words", "--rea"], {"--reason"}),
        (["admin", "new", "anna", "--role", ""], {"viewer", "publisher", "operator"}),
        (["admin", "new", "anna", "--role", "o"], {"operator"}),
        (["--comp"], {"--completion"}),
        (["--completion", ""], set(SHELLS)),
    ],
)
def test_what_is_offered(words, some):
    offered = completed(coordinator_parser(), *words)
    assert some <= offered
    assert all(word.startswith(words[-1]) for word in offered)


@pytest.mark.parametrize("words", [["x"], ["host", "x"], ["host", "ban", ""]])
def test_nothing_is_offered_where_nothing_is_known(words):
    assert completed(coordinator_parser(), *words) == set()


@pytest.mark.parametrize("make", [agent_parser, project_parser, coordinator_parser])
def test_every_program_has_scripts_for_all_shells(make):
    parser = make()
    assert "status" in completed(parser, "")
    for shell in SHELLS:
        assert parser.prog in completion_script(parser, shell)


def test_the_program_prints_the_script(capsys):
    with pytest.raises(SystemExit) as ended:
        coordinator_main(["--completion", "bash"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == completion_script(coordinator_parser(), "bash")
