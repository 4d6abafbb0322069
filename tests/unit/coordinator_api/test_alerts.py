"""Alerts and the watch on our own clock: what is told, when, and how often."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from pleb_coordinator.api.clock_watch import ClockWatch
from pleb_coordinator.cli.alerts import Alert, Alerter
from pleb_coordinator.home.config import Alerts
from pleb_coordinator.home.layout import Home
from pleb_coordinator.home.machine import note_clock, read_machine
from pleb_shared.protocol.status import ProjectStatus

NOW = 1_800_000_000.0


def status(level, cause="all_refuse", sentence="All 3 PCs refuse.", project="words"):
    empty = msgspec.json.decode(b'{"project": "words"}', type=ProjectStatus)
    return msgspec.structs.replace(
        empty, project=project, waiting_level=level, waiting_for=cause, waiting=sentence
    )


class Watched:
    def __init__(self, **settings):
        self.now = NOW
        self.reported: list[str] = []
        alerts = Alerts(after_seconds=60, **settings)
        self.alerter = Alerter(alerts, list, self.reported.append, clock=lambda: self.now)

    def after(self, seconds, *statuses):
        self.now += seconds
        return [(a.event, a.project, a.cause) for a in self.alerter.due(list(statuses))]


def test_trouble_that_lasts_is_told_once_and_so_is_its_end():
    watched = Watched()
    assert watched.after(0, status("stuck")) == []
    assert watched.after(59, status("stuck")) == []
    assert watched.after(1, status("stuck")) == [("stuck", "words", "all_refuse")]
    assert watched.after(600, status("stuck")) == []
    assert watched.after(1, status("working")) == [("goes_on", "words", "all_refuse")]
    assert watched.after(1, status("working")) == []


def test_trouble_that_passes_is_not_told():
    watched = Watched()
    watched.after(0, status("stuck"))
    assert watched.after(30, status("working")) == []
    watched.after(30, status("stuck"))
    assert watched.after(59, status("stuck")) == []


def test_another_cause_is_told_and_projects_are_told_apart():
    watched = Watched()
    other = status("slow", project="other")
    watched.after(0, status("stuck"), other)
    assert watched.after(60, status("stuck"), other) == [("stuck", "words", "all_refuse")]
    assert watched.after(5, status("stuck", "disk_full"), other) == [
        ("stuck", "words", "disk_full")
    ]


ALERT = Alert("stuck", "words", "disk_full", "The coordinator's disk is full.", NOW)


def test_the_command_gets_the_alert_and_its_failure_is_reported(tmp_path):
    script = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", script, str(tmp_path / "heard")])
    watched = Watched(command=command)
    watched.alerter.deliver(ALERT)
    assert json.loads((tmp_path / "heard").read_text())["sentence"] == ALERT.sentence
    assert watched.reported == []
    for wrong in ("/no/such/program", shlex.join([sys.executable, "-c", "raise SystemExit(3)"])):
        watched = Watched(command=wrong)
        watched.alerter.deliver(ALERT)
        assert "[alerts]" in watched.reported[0]


def test_the_webhook_gets_the_alert_and_its_failure_is_reported():
    heard = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204 if self.path == "/good" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for path, failures in (("good", 0), ("bad", 1)):
            watched = Watched(webhook=f"http://127.0.0.1:{server.server_port}/{path}")
            watched.alerter.deliver(ALERT)
            assert len(watched.reported) == failures
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [alert["cause"] for alert in heard] == ["disk_full", "disk_full"]


def clock_watch():
    said = []
    return ClockWatch(lambda ahead, at: said.append((ahead, at))), said


def test_when_most_networks_say_so_our_clock_is_wrong():
    watch, said = clock_watch()
    watch.note("192.0.2.1", NOW - 7200, NOW)
    assert said == [], "one network may have a wrong clock"
    watch.note("198.51.100.2", NOW - 7100, NOW)
    watch.note("203.0.113.3", NOW - 7000, NOW + 1)
    assert said[0][0] == pytest.approx(7150)
    for number in range(1, 9):  # it was set right
        watch.note(f"192.0.2.{number}", NOW + 700, NOW + 700)
    assert said[-1][0] == 0.0


def test_a_few_wrong_clocks_among_many_and_our_own_machine_say_nothing():
    watch, said = clock_watch()
    for number in range(1, 9):
        watch.note(f"192.0.2.{number}", NOW, NOW)
    watch.note("198.51.100.1", NOW - 9000, NOW)
    watch.note("198.51.100.2", NOW - 9000, NOW)
    for _ in range(9):
        watch.note("127.0.0.1", NOW - 9000, NOW)
    assert said == []


def test_what_was_noted_of_the_clock_is_forgotten_after_a_while(tmp_path):
    home = Home(tmp_path)
    assert read_machine(home, NOW).clock_ahead_seconds == 0
    note_clock(home.clock_file, 7200.0, NOW)
    assert read_machine(home, NOW + 60).clock_ahead_seconds == 7200
    assert read_machine(home, NOW + 3600).clock_ahead_seconds == 0
    assert not read_machine(home, NOW).disk_is_full
