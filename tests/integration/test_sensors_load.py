"""The load of others on the real machine, beside whatever else runs on it.

Two sensors look at the same time: one knows a busy process as its worker, one does not. What they
differ by is that process's own share, however busy the machine is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from pleb_agent.sensors.load import LinuxLoad, PsutilLoad

pytestmark = pytest.mark.slow

SECONDS = 3.0
POINTS = 6.0
"""The kernel counts in hundredths of a second, and not all counters at the same moment."""
BUSY = "import os\nos.nice({nice})\nprint(os.getpid(), flush=True)\nwhile True: sum(range(10000))"


@contextmanager
def busy_stranger(nice: int = 0):
    """Run a process that is no child of ours; yield its id."""
    start = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", start, BUSY.format(nice=nice)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.wait(60)
    process = psutil.Process(pid)
    try:
        assert process.ppid() != os.getpid()
        yield process
    finally:
        process.kill()
        parent.stdout.close()


def seen_by_both(process, make):
    """Return what knowing the process changes, and the process's own share, both in percent."""
    knows, does_not = make(lambda: process.pid), make(lambda: None)
    knows.read()
    does_not.read()
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(SECONDS)
    with_it, without = does_not.read(), knows.read()
    took, passed = sum(process.cpu_times()[:2]) - before, time.monotonic() - began
    assert with_it is not None
    assert without is not None
    return with_it - without, 100 * took / passed / (os.cpu_count() or 1)


def times_of_all():
    """Return busy and idle seconds as a system counts them that knows no nice time or waits."""
    times = psutil.cpu_times()
    waits = ("nice", "iowait", "irq", "softirq", "steal")
    idle = times.idle + sum(getattr(times, name) for name in waits)
    return times.user + times.system, idle


def psutil_load(worker_pid):
    return PsutilLoad(worker_pid, seconds_of_all=times_of_all)


@pytest.mark.parametrize("make", [LinuxLoad, psutil_load])
def test_a_busy_stranger_counts_and_a_busy_worker_does_not(make):
    with busy_stranger() as process:
        difference, share = seen_by_both(process, make)
    assert share > 1
    assert difference == pytest.approx(share, abs=POINTS)


def test_a_nice_stranger_does_not_count():
    with busy_stranger(nice=19) as process:
        difference, _ = seen_by_both(process, LinuxLoad)
    assert abs(difference) < POINTS


def test_our_own_children_do_not_count():
    child = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(nice=0)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        sensor = LinuxLoad(lambda: None)
        sensor.read()
        files = {file.path for file in psutil.Process().open_files()}
        assert f"/proc/{child.pid}/stat" in files, "its counters are not read"
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
