"""Child processes: restarted when they end, stopped together, gone when their parent is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest

from pleb_system.backoff import Backoff, Restarts
from pleb_system.leash import leashed
from pleb_system.processes import is_alive, start_detached, stop_processes
from pleb_system.supervisor import Child, Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True);"
    "time.sleep(60)"
)
QUICK = Backoff(first_seconds=0.01)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def line_of(process):
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def watched():
    """Run a supervisor in a thread; it is stopped after the test."""
    stop, threads = threading.Event(), []

    def watch(*children, **more):
        supervisor = Supervisor(list(children), stop, **{"report": lambda _: None} | more)
        supervisor.start()
        threads.append(threading.Thread(target=supervisor.watch))
        threads[-1].start()
        return supervisor

    yield watch
    stop.set()
    for thread in threads:
        thread.join()


def test_a_child_that_ends_is_reported_and_started_again(watched, tmp_path):
    reports: list[str] = []
    script = f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); raise SystemExit(3)"
    child = Child("HTTP", [sys.executable, "-c", script], restarts=Restarts(QUICK))
    watched(child, report=reports.append)
    until(lambda: len(reports) >= 2)
    assert (tmp_path / "starts").read_text().startswith("xx")
    assert "HTTP process ended with code 3" in reports[0]


def test_children_are_stopped_together_and_more_is_called_in_each_round():
    stop = threading.Event()
    children = [Child(name, SLEEP, quiet=True) for name in "ab"]
    supervisor = Supervisor(children, stop, lambda _: None, each_round=[stop.set])
    supervisor.start()
    pids = [child.pid or 0 for child in children]
    assert all(map(is_alive, pids))
    supervisor.watch()
    assert stop.is_set()
    assert not any(map(is_alive, pids))


def test_a_process_that_ignores_a_polite_request_is_killed():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        line_of(process)
        stop_processes([process], 0.1)
        assert process.returncode == -9
    stop_processes([process], 0.1)  # harmless


def test_a_child_on_a_leash_ends_when_its_parent_is_killed():
    script = (
        "import subprocess, sys; from pleb_system.leash import leashed\n"
        f"child = subprocess.Popen(leashed({SLEEP!r})); print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pid = int(line_of(parent))
        until(lambda: psutil.Process(pid).cmdline() == SLEEP)  # the leash became the program
        parent.kill()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_a_leash_whose_parent_is_gone_already_ends_at_once():
    command = leashed(SLEEP)
    command[3] = "1"  # the process that started it, as it believes
    assert subprocess.run(command, timeout=20, check=False).returncode == 0


def test_a_detached_program_has_its_own_session_and_no_streams(tmp_path):
    script = (
        "import os, sys; f = open(sys.argv[1] + '.part', 'w');"
        "f.write(f'{os.getsid(0) == os.getpid()} {sys.stdin.read()!r} {os.environ[\"MORE\"]}');"
        "f.close(); os.replace(sys.argv[1] + '.part', sys.argv[1])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "said")]
    start = f"from pleb_system.processes import *; start_detached({command!r}, MORE='more')"
    subprocess.run([sys.executable, "-c", start], check=True)  # it is gone when the program runs
    until((tmp_path / "said").exists)
    assert (tmp_path / "said").read_text() == "True '' more"
    with pytest.raises(OSError, match="nowhere"):
        start_detached(["/nowhere/at/all"])
