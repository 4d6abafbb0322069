"""The parts of the demo: what it shows and what counts as success."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import psutil
import pytest
from rich.console import Console

from pleb_project.demo.outcome import count_contributions, outcome_of, refused_results
from pleb_project.demo.run import example_folder, find_kept, keep, stop_demo
from pleb_project.demo.screen import Screen, plain_line, render
from pleb_project.server.status import decode_status, status_lines
from pleb_shared.errors import InputError, PlebError, Refusal

STATUS = {
    "project": "digits",
    "state": "active",
    "version": 8,
    "versions_planned": 8,
    "target": {"metric": "accuracy", "value": 0.969, "direction": "at_least"},
    "target_reached_at_version": 5,
    "metrics": {"accuracy": 0.98, "loss": 0.1},
    "metrics_version": 8,
    "series": [{"version": 8, "train_loss": 0.2, "metrics": {"accuracy": 0.98}, "made_at": 1.0}],
    "round": {"units": 4, "quorum": 3, "valid": 1, "opened_at": 1.0, "quorum_at": None},
    "hosts": [
        {"host": "a" * 64, "name": name, "role": role, "state": state, "verified": v, "refused": r}
        for name, role, state, v, r in [
            ("liar", "host", "banned", 0, 3),
            ("trusted", "trusted", "active", 30, 0),
            ("honest", "host", "probation", 20, 0),
        ]
    ],
    "counts": {"hosts": 3, "verified": 50, "refused": 3, "in_flight": 1},
    "units": [
        {
            "unit": 4,
            "kind": "train",
            "results": [
                {
                    "name": "liar",
                    "verdict": "invalid",
                    "reason": {"code": "trusted_host_disagrees"},
                },
                {"name": "honest", "verdict": "valid"},
            ],
        }
    ],
    "a_field_of_the_future": 1,
}


def answer(**changes):
    return json.dumps(STATUS | changes).encode()


def outcome(counted=None, central=0.985, **changes):
    status = decode_status(answer(**changes))
    return outcome_of(status, counted or {"honest": 32}, central, 100.04, ("liar",))


def test_the_last_line_has_exactly_these_keys():
    assert msgspec.to_builtins(outcome({"trusted": 12, "honest": 20})) == {
        "project": "digits",
        "version": 8,
        "test_accuracy": 0.98,
        "central_accuracy": 0.985,
        "target": 0.969,
        "units_verified": 32,
        "results_refused": 3,
        "liar_refused": 3,
        "liar_results_in_model": 0,
        "honest_refused": 0,
        "seconds": 100.0,
    }
    assert outcome().succeeded


@pytest.mark.parametrize(
    "found",
    [
        lambda: outcome(metrics={"accuracy": 0.96}),
        lambda: outcome({"honest": 31, "liar": 1}),
        lambda: outcome(hosts=[{"host": "a" * 64, "name": "liar", "role": "host", "refused": 0}]),
        lambda: outcome(hosts=[{"host": "a" * 64, "name": "honest", "role": "host", "refused": 1}]),
    ],
    ids=["target missed", "a lie in the model", "no lie refused", "an honest host refused"],
)
def test_what_makes_the_demo_fail(found):
    assert not found().succeeded


def test_only_results_that_were_proven_wrong_count_as_refused():
    refused = refused_results(decode_status(answer()), ("liar",))
    assert list(refused) == [4]
    name, reason = refused[4]
    assert name == "liar"
    assert "trusted host" in reason
    assert refused_results(decode_status(answer()), ("honest",)) == {}
    assert refused_results(decode_status(answer(units=[])), ("liar",)) == {}


def test_the_screen_shows_every_host_the_trusted_one_first():
    status = decode_status(answer())
    assert plain_line(status) == "version 8/8  accuracy 0.9800  verified 50  refused 3"
    stream = io.StringIO()
    Console(file=stream, width=100).print(render(status, ["liar"]))
    lines = stream.getvalue().splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["trusted", "honest", "liar"]
    assert "another host repeats" in lines[1]
    assert "process ended" in lines[2]


def test_without_a_terminal_only_changes_are_printed():
    stream = io.StringIO()
    status = decode_status(answer(metrics={}))
    with Screen(Console(file=stream, force_terminal=False)) as screen:
        screen.show(status, [])
        screen.show(status, [])
    assert stream.getvalue() == "version 8/8  accuracy -  verified 50  refused 3\n"


def test_a_status_is_shown_as_lines():
    lines = status_lines(decode_status(answer()))
    assert lines[0] == "digits: active, version 8 of 8 (version 8: accuracy 0.98  loss 0.1)"
    assert "target accuracy >= 0.969: reached at version 5" in lines[1]


@pytest.mark.parametrize(
    ("changes", "finished"),
    [({}, True), ({"metrics_version": 7}, False), ({"version": 7, "metrics_version": 7}, False)],
)
def test_finished_means_that_the_last_version_is_measured(changes, finished):
    assert decode_status(answer(**changes)).finished == finished


def test_a_status_of_another_form_is_refused():
    with pytest.raises(Refusal, match="cannot be read"):
        decode_status(b"{}")


def test_the_examples_are_found():
    assert (example_folder("digits") / "project.toml").is_file()
    assert (example_folder("liar") / "liar.py").is_file()
    with pytest.raises(InputError, match="is missing"):
        example_folder("nothing")


def test_a_kept_demo_is_stopped_and_its_folder_removed(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        keep(tmp_path / "home", folder, "http://127.0.0.1:1", [process.pid])
        assert find_kept(tmp_path / "home") is not None
        assert stop_demo(tmp_path / "home") == "http://127.0.0.1:1"
        assert not psutil.pid_exists(process.pid)
    assert not folder.exists()
    assert find_kept(tmp_path / "home") is None
    with pytest.raises(InputError, match="No demo was left running"):
        stop_demo(tmp_path / "home")


def test_another_process_with_the_same_number_is_left_alone(tmp_path):
    home = tmp_path / "home"
    keep(home, tmp_path / "demo", "http://h", [os.getpid()])
    written = json.loads((home / "demo.json").read_text())
    written["processes"][0][1] -= 1000
    (home / "demo.json").write_text(json.dumps(written))
    stop_demo(home)
    assert psutil.pid_exists(os.getpid())


UNITS: list[dict[str, Any]] = [
    {"assignments": [{"assignment": 1, "host": "a" * 64, "host_name": "honest"}]},
    {
        "assignments": [
            {"assignment": 2, "host": "b" * 64, "host_name": "liar"},
            {"assignment": 3, "host": "c" * 64, "host_name": ""},
            {"assignment": 4, "host": None},
        ]
    },
]


def test_contributions_are_counted_from_the_record():
    inputs = [{"assignment": 1}, {"assignment": 3}]
    assert count_contributions(inputs, UNITS) == {"honest": 1, "c" * 64: 1}
    assert count_contributions([*inputs, {"assignment": 2}], UNITS)["liar"] == 1


def test_an_input_without_a_recorded_host_is_an_error():
    with pytest.raises(PlebError, match=r"who gave results \[4, 5\]"):
        count_contributions([{"assignment": 4}, {"assignment": 5}], UNITS)
