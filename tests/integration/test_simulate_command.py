"""`pleb-coordinator simulate`: what a fleet would do with a project's settings."""

import json

import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.simulation.attacks import ATTACKS
from pleb_system.exit_codes import ExitCode


def simulate(*arguments):
    return main(["simulate", *arguments])


def test_it_says_how_a_fleet_fares(capsys, tmp_path):
    code = simulate(
        "--hosts", "8", "--hours", "0.3", "--unit-minutes", "1", "--home", str(tmp_path)
    )
    assert code == ExitCode.DONE
    text = capsys.readouterr().out
    assert "units an hour in the model" in text
    assert "Rounds:" in text


def test_json_has_every_figure(capsys, tmp_path):
    simulate(
        *("--hosts", "8", "--hours", "0.2", "--unit-minutes", "1", "--home", str(tmp_path)),
        *("--attack", "same_lie", "--share", "0.25", "--instant", "--json"),
    )
    found = json.loads(capsys.readouterr().out)
    assert found["lies"] > 0
    assert {"units_per_hour", "rounds_minutes", "idle", "trusted_load"} <= found.keys()


def test_attacks_are_listed(capsys, tmp_path):
    assert simulate("--attack", "list", "--home", str(tmp_path)) == ExitCode.DONE
    text = capsys.readouterr().out
    assert all(name in text for name in ATTACKS)


@pytest.mark.parametrize(
    "arguments",
    [("--attack", "unknown"), ("--share", "2"), ("--hours", "0"), ("--unit-minutes", "-1")],
)
def test_what_makes_no_sense_is_refused(arguments, capsys, tmp_path):
    assert simulate(*arguments, "--home", str(tmp_path)) != ExitCode.DONE
    assert capsys.readouterr().err
