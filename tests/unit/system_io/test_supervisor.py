"""Child processes: restarted when they end, stopped together, gone when their parent is killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from pleb_system.backoff import Backoff, Restarts
from pleb_system.leash import leashed
from pleb_system.processes import is_alive, start_detached, stop_processes
from pleb_system.ready import ReadyPipe, ReadySignal
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


class PlayedClock:
    """Stands still unless it is set forward."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


READY = "from pleb_system.ready import *; import argparse; p = argparse.ArgumentParser(); "
READY += "add_ready_option(p); ReadySignal(p.parse_args().ready_to).say(); "


def test_a_machine_that_starts_no_process_for_a_moment_ends_nothing(watched, monkeypatch):
    reports: list[str] = []
    other = Child("other", SLEEP)
    child = Child("short", [sys.executable, "-c", ""], says_ready=True, restarts=Restarts(QUICK))
    started, descriptors = subprocess.Popen, psutil.Process().num_fds()

    def none_for_a_moment(command, **options):
        if "-c" in command and "" in command and sum("cannot" in line for line in reports) < 5:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return started(command, **options)

    watched(child, other, report=reports.append)
    monkeypatch.setattr(subprocess, "Popen", none_for_a_moment)
    until(lambda: sum("cannot" in line for line in reports) == 5)
    until(lambda: "ended" in reports[-1])
    assert "Resource temporarily unavailable" in next(line for line in reports if "cannot" in line)
    assert other.process is not None
    assert other.process.poll() is None
    assert psutil.Process().num_fds() < descriptors + 6


@pytest.mark.parametrize(("script", "waits"), [(READY, [0.8] * 4), ("", [6.4, 12.8, 25.6, 30.0])])
def test_a_child_that_was_ready_is_not_taken_for_one_that_cannot_start(watched, script, waits):
    reports: list[str] = []
    clock = PlayedClock()
    restarts = Restarts(Backoff(first_seconds=0.2, longest_seconds=30.0))
    for _ in range(5):
        restarts.delay_seconds(0.0)
    command = [sys.executable, "-c", script + "raise SystemExit(3)"]
    child = Child("HTTP", command, says_ready=True, restarts=restarts)
    watched(child, report=reports.append, clock=clock)
    for number, wait in enumerate(waits, 1):
        until(lambda: len(reports) == number)  # noqa: B023
        assert reports[-1].endswith(f"it restarts in {wait:.1f} s.")
        clock.now += wait


def test_a_child_that_nobody_listens_to_any_more_says_so_in_vain():
    pipe = ReadyPipe()
    signal = ReadySignal(os.dup(pipe.descriptor))
    pipe.hand_over()
    assert not pipe.close()
    for _ in range(2):
        signal.say()
    ReadySignal(None).say()


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
