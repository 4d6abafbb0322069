"""`serve` as an operator runs it: real processes, signals, restarts, TLS."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


def cli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pleb_coordinator.cli", *map(str, arguments)]


@contextmanager
def serving(
    home: Path, *options: object, errors: IO[str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = cli("serve", "--home", home, "--port", 0, "--json", *options)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill() if process.poll() is None else None
        process.communicate()


def wait_for(what, seconds=15):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def get(url: str, path: str = "/health") -> int:
    return httpx.get(url + path, timeout=60, trust_env=False).status_code


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_seconds_also_while_somebody_waits(tmp_path, number):
    with serving(tmp_path / "home") as (process, said):
        assert get(said["url"]) == 200
        host, port = said["url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: c\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            start = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 0
            assert time.monotonic() - start < 6
        for pid in (said["http_pid"], said["jobs_pid"]):
            assert not alive(pid)
        assert not (tmp_path / "home" / "listening.json").exists()


def test_whoever_dies_is_started_again_on_the_same_port(tmp_path):
    with serving(tmp_path / "home") as (process, said):
        assert get(said["url"]) == 200
        for _ in range(2):
            children = {child.pid for child in psutil.Process(process.pid).children()}
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            assert get(said["url"]) == 200  # the socket outlives the process: the caller waits
            wait_for(lambda: len(psutil.Process(process.pid).children()) == 2)


def test_processes_that_work_are_back_soon_however_often_they_are_killed(tmp_path):
    log = tmp_path / "home" / "logs" / "jobs.jsonl"

    def readiness():
        return log.exists() and log.read_text().count("The background process is ready")

    with (
        (tmp_path / "errors").open("w") as errors,
        serving(tmp_path / "home", errors=errors) as (process, said),
    ):
        for times in range(1, 6):
            assert get(said["url"]) == 200
            wait_for(lambda: readiness() == times, seconds=60)  # noqa: B023
            for child in psutil.Process(process.pid).children():
                child.kill()
        assert get(said["url"]) == 200
    waits = re.findall("restarts in ([0-9.]+) s", (tmp_path / "errors").read_text())
    assert sorted(set(waits)) == ["0.2", "0.4", "0.8"], waits


def test_children_end_with_a_killed_parent_and_the_port_is_free_again(tmp_path):
    home = tmp_path / "home"
    with serving(home) as (process, said):
        assert get(said["url"]) == 200
        process.kill()
        process.wait()
        port = said["url"].rsplit(":", 1)[1]
        with serving(home, "--port", port) as (_, again):
            assert again["url"] == said["url"]
            assert get(said["url"]) == 200
            wait_for(lambda: not alive(said["http_pid"]) and not alive(said["jobs_pid"]))
            assert get(said["url"]) == 200


def test_one_home_is_served_once(tmp_path):
    with serving(tmp_path / "home") as (running, _):
        second = cli("serve", "--home", tmp_path / "home", "--port", 0)
        done = subprocess.run(second, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 6
        assert f"(process {running.pid}) uses {tmp_path / 'home'}" in done.stderr


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = cli("serve", "--home", tmp_path / "home", "--port", port)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"Port {port} is in use" in done.stderr


def test_a_self_signed_certificate_is_the_one_that_links_pin(tmp_path):
    with serving(tmp_path / "home", "--tls", "self-signed") as (_, said):
        assert said["url"].startswith("https://127.0.0.1:")
        port = int(said["url"].rsplit(":", 1)[1])
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
        shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        written = json.loads((tmp_path / "home" / "listening.json").read_text())
        assert written["certificate"] == shown
        context = ssl.create_default_context(cadata=pem)
        answer = httpx.get(said["url"] + "/coordinator", verify=context, trust_env=False)
        assert answer.json()["protocols"] == [1]


def test_the_commands_of_a_running_coordinator(tmp_path):
    home = tmp_path / "home"

    def ask(*arguments: object) -> Any:
        command = cli(*arguments, "--home", home, "--json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, json.loads(done.stdout)

    with serving(home) as (_, said):
        assert ask("status") == (0, {"running": True, "url": said["url"], "projects": []})
        assert ask("project", "list") == (0, [])
        code, invite = ask("invite", "new", "--role", "publisher")
        assert (code, len(invite["token"])) == (0, 48)
        assert [i["state"] for i in ask("invite", "list")[1]] == ["open"]
        assert ask("invite", "revoke", invite["token"]) == (0, {"revoked": True})
        assert [i["state"] for i in ask("invite", "list")[1]] == ["revoked"]
        assert ask("invite", "revoke", "nothing")[0] == 2
        code, report = ask("doctor")
        assert code == 0, report
        (home / "keys" / "online.key").chmod(0o644)
        code, report = ask("doctor")
        assert code == 8
        assert [c["name"] for c in report["checks"] if not c["good"]] == ["online key"]


def test_the_background_process_runs_several_loops_and_stops_with_all_of_them(tmp_path):
    with serving(tmp_path / "home", "--workers", 3) as (process, said):
        # each loop has a thread, and so has the checkpoint of the store's log
        wait_for(lambda: psutil.Process(said["jobs_pid"]).num_threads() >= 4)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not alive(said["jobs_pid"])


@pytest.mark.parametrize("workers", ["0", "65", "many"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(tmp_path, workers):
    command = cli("serve", "--home", tmp_path / "home", "--workers", workers)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "1 to 64" in done.stderr
