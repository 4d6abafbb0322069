"""A new version becomes the current one when it has said that it runs, and not before.

The versions are small programs: one that serves the API, one that ends at once, one that hangs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pleb_agent.updates.handover import AppFolder

RUNS = """
import http.server, json, os, pathlib, sys
home = pathlib.Path(sys.argv[sys.argv.index("--home") + 1])
version = pathlib.Path(sys.argv[0]).parent.name
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.path == "/api/status" and self.headers["authorization"] == "Bearer secret"
        self.send_response(200 if right else 403)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
control = {"pid": os.getpid(), "port": server.server_port, "token": "secret"}
(home / "agentd.json").write_text(json.dumps(control))
(home / "runs.new").write_text(f"{os.getpid()} {version} {sys.argv[1]}")
(home / "runs.new").rename(home / "runs")
server.serve_forever()
"""
ENDS = "import sys; sys.exit(3)"
HANGS = "import time; time.sleep(600)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


@pytest.fixture
def app(tmp_path: Path):
    folder = AppFolder(tmp_path / "app")
    write_version(folder, "0.1.0", RUNS)
    folder.make_current("0.1.0")
    (tmp_path / "home").mkdir()
    yield folder
    end_what_runs(tmp_path / "home")


def write_version(app: AppFolder, version: str, program: str) -> None:
    path = app.program(version)
    path.parent.mkdir(parents=True)
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)


def what_runs(home: Path) -> tuple[int, str, str]:
    pid, version, word = (home / "runs").read_text().split()
    return int(pid), version, word


def end_what_runs(home: Path) -> None:
    if not (home / "runs").exists():
        return
    pid, _, _ = what_runs(home)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def words(app: AppFolder, home: Path, new: str = "0.2.0", seconds: float = 20) -> list[str]:
    return [
        sys.executable, "-m", "pleb_agent.updates.handover",
        str(app.path), "0.1.0", new, str(home), str(seconds), "start", "--home", str(home),
    ]  # fmt: skip


def change_over(
    app: AppFolder, home: Path, new: str, seconds: float = 20
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words(app, home, new, seconds), stdin=subprocess.DEVNULL)


def catches_sigterm(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    raise AssertionError("no such line")


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_version_that_runs_becomes_current(app, tmp_path):
    write_version(app, "0.2.0", RUNS)
    write_version(app, "0.0.9", RUNS)
    process = change_over(app, tmp_path / "home", "0.2.0")
    assert process.wait(30) == 0
    pid, version, word = what_runs(tmp_path / "home")
    os.kill(pid, 0)
    assert (version, word) == ("0.2.0", "start")
    assert app.current_version() == "0.2.0"
    assert sorted(path.name for path in app.versions.iterdir()) == ["0.1.0", "0.2.0"]
    assert not app.bad_versions()


def test_a_service_manager_still_ends_the_agent_by_the_process_it_started(app, tmp_path):
    write_version(app, "0.2.0", RUNS)
    command = ["sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh", *words(app, tmp_path / "home")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    wait_until(lambda: app.current_version() == "0.2.0")
    wait_until(lambda: catches_sigterm(process.pid))
    process.terminate()
    assert process.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(what_runs(tmp_path / "home")[0], 0)


@pytest.mark.parametrize("program", [ENDS, HANGS, DEAF], ids=["ends", "hangs", "is deaf"])
def test_a_version_that_does_not_run_is_marked_and_the_old_one_starts(
    app, tmp_path, program, monkeypatch
):
    write_version(app, "0.2.0", program)
    process = change_over(app, tmp_path / "home", "0.2.0", seconds=1)
    try:
        wait_until((tmp_path / "home" / "runs").exists)
        pid, version, word = what_runs(tmp_path / "home")
        assert (version, word) == ("0.1.0", "start")
        assert pid == process.pid, "whoever waited for the agent waits for it still"
        assert app.current_version() == "0.1.0"
        assert app.bad_versions() == {"0.2.0"}
        assert [path.name for path in app.versions.iterdir()] == ["0.1.0"]
    finally:
        process.kill()
        process.wait()


def test_a_version_that_cannot_be_executed_is_marked(app, tmp_path):
    write_version(app, "0.2.0", RUNS)
    app.program("0.2.0").write_bytes(b"\x7fELF nonsense")
    process = change_over(app, tmp_path / "home", "0.2.0")
    try:
        wait_until((tmp_path / "home" / "runs").exists)
        assert what_runs(tmp_path / "home")[1] == "0.1.0"
        assert app.bad_versions() == {"0.2.0"}
    finally:
        process.kill()
        process.wait()


def test_another_agents_answer_does_not_count(app, tmp_path):
    """A control file of an agent that is not the new version's process."""
    write_version(app, "0.2.0", HANGS)
    other = subprocess.Popen([app.program("0.1.0"), "start", "--home", str(tmp_path / "home")])
    wait_until((tmp_path / "home" / "runs").exists)
    (tmp_path / "home" / "runs").unlink()
    process = change_over(app, tmp_path / "home", "0.2.0", seconds=1)
    try:
        wait_until((tmp_path / "home" / "runs").exists)
        assert app.current_version() == "0.1.0"
    finally:
        for running in (process, other):
            running.kill()
            running.wait()


def test_the_link_is_replaced_at_once(app, tmp_path):
    write_version(app, "0.2.0", RUNS)
    (app.path / "current.new").symlink_to("left by a power cut")
    app.make_current("0.2.0")
    assert app.current.readlink() == Path("versions/0.2.0")
    assert not (app.path / "current.new").is_symlink()


def test_damaged_marks_are_no_obstacle(app):
    (app.path / "bad-versions.json").write_text("[")
    assert app.bad_versions() == frozenset()
    app.mark_bad("0.5.0")
    assert json.loads((app.path / "bad-versions.json").read_text()) == ["0.5.0"]
