"""Prometheus' numbers of each process on a port of its own, and the dashboard that shows them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from pleb_coordinator.api.counters import RequestCounters
from pleb_coordinator.api.job_metrics import job_lines, standing_still
from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.metrics_server import MetricsServer, process_lines
from pleb_coordinator.api.metrics_text import family
from pleb_coordinator.api.project_metrics import ProjectMetrics
from pleb_coordinator.home.config import CoordinatorConfig, Metrics
from pleb_coordinator.home.layout import Home, LastBackup
from pleb_coordinator.jobs.loop import JobCounters, Jobs, run_jobs
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_shared.protocol.messages import Role
from tests.integration.http_world import http_world
from tests.integration.steps_world import World

DASHBOARD = Path(__file__).parents[2] / "installers" / "coordinator" / "grafana.json"
SAMPLE = re.compile(r'^(pleb_[a-z_]+)(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? (-?[0-9.e+-]+|NaN)$')


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path, units=2, quorum=2, holdout=True)
    trusted = found.volunteer("trusted", role=Role.TRUSTED)
    while found.project.version < 2:
        found.work(trusted)
    return found


def lines_of_projects(world):
    home = Home(world.home)
    home.last_backup_file.write_bytes(
        msgspec.json.encode(LastBackup(world.clock.now - 60, "/mnt", 0.0))
    )
    store = Store(home.store_file)
    numbers = world.deps.numbers
    metrics = ProjectMetrics(store, home, LinkBase("http://x"), numbers, world.clock)
    found = list(metrics.lines())
    store.close()
    return found


def all_lines(world):
    """What a coordinator with both processes says."""
    counters = JobCounters()
    Jobs(world.store, world.deps, counters=counters).run_due()
    counters.done["verify"] += 1
    counters.seconds["verify"] += 0.5
    counters.failures["tiny"] += 1
    counters.passed_at = time.monotonic()
    requests = RequestCounters()
    requests.served("work", 200, 0.01)
    requests.refusals["malformed"] += 1
    yield from lines_of_projects(world)
    yield from job_lines(
        "serve", dict(counters.done), dict(counters.seconds), counters.failures, counters.passed_at
    )
    yield from requests.text({"waiters": 1.0, "listeners": 0.0}).splitlines()
    yield from process_lines("http")


def value(lines, start):
    [found] = [line for line in lines if line.startswith(start)]
    return float(found.rpartition(" ")[2])


def get(port, path):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_every_line_is_prometheus_text(world):
    for line in all_lines(world):
        assert line.startswith("# ") or SAMPLE.match(line), line


def test_what_projects_say(world):
    lines = lines_of_projects(world)
    assert value(lines, 'pleb_version{project="tiny"}') == 2
    assert value(lines, 'pleb_results{project="tiny",verdict="verified"}') >= 4
    assert value(lines, 'pleb_project_state{project="tiny",state="active"}') == 1
    assert value(lines, 'pleb_round_units{project="tiny",which="needed"}') == 2
    assert value(lines, 'pleb_versions_kept{project="tiny",kept="exact"}') == 3
    assert value(lines, 'pleb_version_bytes{project="tiny",what="results"}') > 0
    assert value(lines, "pleb_backup_age_seconds") == 60
    world.clock.now += 100
    assert value(lines_of_projects(world), 'pleb_version_age_seconds{project="tiny"}') == 100


def test_every_expression_of_the_dashboard_names_metrics_and_labels_that_there_are(world):
    known: dict[str, set[str]] = {}
    for line in all_lines(world):
        if match := SAMPLE.match(line):
            known.setdefault(match[1], set()).update(re.findall(r'([a-z_]+)="', match[2] or ""))
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    expressions = [target["expr"] for target in targets]
    assert len(expressions) > 25
    for target in targets:
        names = re.findall(r"pleb_[a-z_]+", target["expr"])
        assert names, target
        for name in names:
            assert name in known, target
        labels = set().union(*(known[name] for name in names))
        used = re.findall(r"\{\{([a-z]+)\}\}", target["legendFormat"])
        used += re.findall(r"([a-z]+)=~", target["expr"])
        grouped = re.findall(r"by \(([a-z]+)\)", target["expr"])
        assert set(used) | set(grouped) <= labels, target
        if grouped:
            assert set(used) <= set(grouped), target
    shown = set(re.findall(r"pleb_[a-z_]+", " ".join(expressions)))
    assert {
        "pleb_waiting",
        "pleb_refusals_total",
        "pleb_trusted_queue",
        "pleb_backup_age_seconds",
    } <= shown
    [query] = [v["query"] for v in dashboard["templating"]["list"] if v["name"] == "project"]
    assert set(re.findall(r"pleb_[a-z_]+", query)) <= known.keys()
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places), "no panel lies on another"
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in dashboard["panels"])


def test_labels_are_escaped():
    [_, _, line] = family("pleb_x", "gauge", "X.", [({"a": 'q"\\\n'}, 1.5)])
    assert line == 'pleb_x{a="q\\"\\\\\\n"} 1.5'


def test_a_server_answers_and_says_what_is_wrong():
    wrong = [""]
    with MetricsServer(("127.0.0.1", 0), lambda: iter(["a 1", "b 2"]), lambda: wrong[0]) as server:
        assert get(server.port, "/metrics") == (200, "a 1\nb 2\n")
        assert get(server.port, "/health") == (200, "ok\n")
        assert get(server.port, "/ready") == (200, "ready\n")
        wrong[0] = "The disk is full."
        assert get(server.port, "/ready") == (503, "The disk is full.\n")
        assert get(server.port, "/projects/tiny/work")[0] == 404
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
            silent.sendall(b"\x00" * 100_000 + b"\r\n\r\n")
            assert b"HTTP" in silent.recv(1000), "an answer, not an end"
        assert get(server.port, "/health")[0] == 200
        with pytest.raises(InputError, match=r"coordinator\.toml"):
            MetricsServer(("127.0.0.1", server.port), lambda: iter([]))
    with pytest.raises(ConnectionRefusedError):
        get(server.port, "/health")


def test_a_background_process_that_stands_still_is_not_ready():
    assert standing_still(0.0)
    assert not standing_still(time.monotonic())
    assert "for 1000 s" in standing_still(time.monotonic() - 1000)


def test_a_loop_counts_what_it_does(world):
    counters, stop = JobCounters(), threading.Event()
    loop = threading.Thread(
        target=run_jobs,
        args=(Store(world.place), world.deps, stop),
        kwargs={"counters": counters},
    )
    with world.store.write() as tx:
        tx.projects.set_restoring(1, 1, None)
    loop.start()
    try:
        end = time.monotonic() + 60
        while not (counters.done["rollback"] and counters.passed_at) and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        stop.set()
        loop.join()
    assert counters.done["rollback"] == 1
    assert counters.seconds["rollback"] > 0
    assert counters.done["plan.commit"] >= 1


def test_with_a_port_of_their_own_the_numbers_are_not_public(tmp_path):
    async def answers(home, config):
        async with http_world(home, config=config) as http:
            assert "pleb_version" in "\n".join(http.web.metrics_lines())
            assert not http.web.fault()
            return (await http.client.get("/metrics")).status_code

    for port in (0, 9):
        home = tmp_path / str(port)
        home.mkdir()
        config = CoordinatorConfig(metrics=Metrics(port=port))
        assert asyncio.run(answers(home, config)) == (404 if port else 200)
