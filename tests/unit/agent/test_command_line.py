"""What the command line says to people."""

from __future__ import annotations

import json
import time

from pleb_agent.cli import main
from pleb_agent.cli.parser import parse
from pleb_agent.cli.show import clock_time, log_line, status_lines

NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


def test_a_line_of_the_log_is_written_for_people():
    entry = {"time": NOON, "level": "info", "logger": "pleb", "event": "report", "id": 3}
    assert log_line(json.dumps(entry) + "\n") == ("2026-11-24 12:00:00  info  report  id=3")
    assert log_line("no JSON\x1b[2J\n").startswith("no JSON")
    assert "\x1b" not in log_line(json.dumps(entry | {"project": "\x1b[2J"}))
    for broken in ("[]", "{}", '{"time": "x", "level": "info", "event": "e"}'):
        assert log_line(broken) == broken


def test_a_time_has_its_date_when_it_is_not_today():
    assert clock_time(NOON + 60, NOON) == "12:01"
    assert clock_time(NOON + 86_400, NOON) == "2026-11-25 12:00"


def test_a_unit_that_has_not_begun_counts_no_steps():
    unit = {
        "kind": "calibrate", "assignment": 4, "project": "words", "version": 0,
        "steps_done": 0, "steps_total": 0, "loss": None, "device": "cpu", "capability": "AVX2",
    }  # fmt: skip
    project = {
        "project": "words", "url": "https://example.org", "latest_version": 3, "problem": "",
        "counters": {"units_done": 1.0},
    }  # fmt: skip
    view = {"activity": "working", "sentence": "Working.", "unit": unit, "projects": [project]}
    _, second, third = status_lines(view)
    assert second == "  calibrate unit of words, version 0: not started, on CPU (AVX2)"
    assert "1 unit done" in third


def test_status_says_from_where_files_came_and_who_is_near():
    counters = {"bytes_from_coordinator": 2.0**20, "bytes_from_neighbours": 3.0 * 2**30}
    project = {
        "project": "words", "url": "https://example.org", "latest_version": 3, "problem": "",
        "counters": counters,
    }  # fmt: skip
    view = {
        "activity": "idle", "sentence": "Idle.", "unit": None, "projects": [project],
        "sharing": {"neighbours": 2, "sent_bytes": 5 * 2**20},
    }  # fmt: skip
    *_, files, near = status_lines(view)
    said = "files: 1 MB from the coordinator, 3 GB from neighbours, 0 B from mirrors"
    assert files.strip() == said
    said = "neighbours: 2 agents near by with a project in common, which got 5 MB from here"
    assert near.strip() == said
    counters["bytes_from_internet"] = 2.0**20
    internet = {"others": 3, "sent_bytes": 2**20, "message": {"text": "They reach this PC."}}
    sharing = {"neighbours": 0, "sent_bytes": 0, "internet": internet}
    *_, files, _, far = status_lines(view | {"sharing": sharing})
    assert files.endswith(", 0 B from mirrors, 1 MB from other volunteers")
    assert far.strip() == "other volunteers: 3 known, which got 1 MB. They reach this PC."
    del counters["bytes_from_neighbours"], counters["bytes_from_internet"]
    assert len(status_lines(view | {"sharing": None})) == 2, "nothing to say"


def test_preferences_are_listed_unless_something_else_is_asked_for(tmp_path, capsys):
    assert parse(["prefs"]).act == "list"
    home = ["--home", str(tmp_path)]
    assert main(["prefs", "set", *home, "idle_minutes=5", "proxy="]) == 0
    assert capsys.readouterr().out == "idle_minutes = 5 min\nproxy = (empty)\n"


def test_a_pause_says_when_it_ends(tmp_path, capsys):
    assert main(["pause", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("The agent is paused; ")
    assert main(["pause", "--home", str(tmp_path), "--for", "1h"]) == 0
    assert capsys.readouterr().out.startswith("The agent is paused until ")


def test_one_device_is_paused_and_resumed(tmp_path, capsys):
    home = ["--home", str(tmp_path)]
    assert main(["pause", *home, "--device", "cpu", "--for", "1h"]) == 0
    assert capsys.readouterr().out.startswith("Paused: cpu until ")
    assert main(["status", *home]) == 0
    assert "paused" not in capsys.readouterr().out  # the agent as a whole is not
    assert main(["resume", *home, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "Resumed.\n"
    assert main(["pause", *home, "--device", "cuda-77"]) != 0
    assert "no device 'cuda-77'; it has cpu" in capsys.readouterr().err


def test_devices_are_listed_without_an_agent(tmp_path, capsys):
    assert main(["devices", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("  cpu (CPU)")
