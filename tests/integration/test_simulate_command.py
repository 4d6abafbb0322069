"""`pleb-coordinator simulate`: what a fleet would do with a project's settings."""

import json
import time

import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.layout import Home
from pleb_coordinator.simulation.attacks import ATTACKS
from pleb_coordinator.simulation.project import SmallProject, publish_small
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import Round
from pleb_system.exit_codes import ExitCode
from tests.postgres import shared_postgres


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


def test_where_the_time_is_too_short_for_a_version_it_says_what_to_give(capsys, tmp_path):
    simulate("--hosts", "8", "--hours", "0.1", "--unit-minutes", "60", "--home", str(tmp_path))
    text = capsys.readouterr().out
    assert "No version was made" in text
    assert "by 10 units of each" in text


def test_json_has_every_figure(capsys, tmp_path):
    simulate(
        *("--hosts", "8", "--hours", "0.2", "--unit-minutes", "1", "--home", str(tmp_path)),
        *("--attack", "same_lie", "--share", "0.25", "--instant", "--json"),
    )
    found = json.loads(capsys.readouterr().out)
    assert found["lies"] > 0
    assert {"units_per_hour", "rounds_minutes", "idle", "trusted_load"} <= found.keys()


@pytest.mark.parametrize(
    ("hosts", "minutes", "units", "lease_seconds"), [(8, 1, 64, 3600), (1000, 60, 1000, 14_400)]
)
def test_without_a_project_there_is_a_unit_for_each_host_and_time_for_it(
    hosts, minutes, units, lease_seconds, tmp_path, monkeypatch
):
    seen = []

    def note(settings, store):
        seen.append(settings)
        raise InputError("enough is seen")

    monkeypatch.setattr("pleb_coordinator.cli.simulate.opened_fleet", note)
    simulate("--hosts", f"{hosts}", "--unit-minutes", f"{minutes}", "--home", str(tmp_path))
    (settings,) = seen
    assert (settings.round.units, settings.round.quorum) == (units, units * 3 // 4)
    assert settings.lease_seconds == lease_seconds


def test_a_fleet_fares_alike_with_a_database_and_a_file(capsys, tmp_path):
    url = shared_postgres().new_database()
    words = ("--hosts", "8", "--hours", "0.5", "--unit-minutes", "2", "--home", str(tmp_path))
    found = []
    for store in ((), ("--store", url)):
        assert simulate(*words, *store, "--json") == ExitCode.DONE
        found.append(json.loads(capsys.readouterr().out))
    # not the same to the last unit: lots are drawn from rows in the order that a store gives
    assert found[0].keys() == found[1].keys()
    for one in found:
        assert one["versions"] > 0
        assert (one["honest_refused"], one["honest_bans"]) == (0, 0)
        assert min(one["cpu_seconds"], one["requests"]) > 0
    assert simulate(*words, "--store", url, "--json") == ExitCode.WRONG_INPUT
    assert "give an empty one" in capsys.readouterr().out


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


def test_rules_of_a_project_are_simulated_and_the_project_is_not_touched(capsys, tmp_path):
    home = Home(tmp_path)
    deps = deps_of(home, time.time, make_home(home))
    store = Store(home.store_file)
    publish_small(store, deps, SmallProject("words", Round(units=4, quorum=4, grace_seconds=0)))
    simulate(
        *("words", "--hosts", "6", "--hours", "0.4", "--unit-minutes", "1"),
        *("--home", str(tmp_path), "--json"),
    )
    found = json.loads(capsys.readouterr().out)
    assert found["in_model"] == 4 * found["versions"] > 0
    with store.read() as tx:
        project = tx.projects.find("words")
        assert (project.version, tx.hosts.of_project(project.id, limit=9)) == (0, [])
    store.close()


def test_unknown_project_is_refused(capsys, tmp_path):
    make_home(Home(tmp_path))
    assert simulate("words", "--home", str(tmp_path)) != ExitCode.DONE
    assert "words" in capsys.readouterr().err
