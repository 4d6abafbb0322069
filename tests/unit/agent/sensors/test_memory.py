"""Memory from a kernel that the tests write."""

from __future__ import annotations

import os

from pleb_agent.sensors.memory import LinuxMemory, Memory, PsutilMemory
from tests.unit.agent.sensors.trees import UNREADABLE, plant

GIB = 2**30
MEMINFO = (
    f"MemTotal:       {16 * GIB // 1024} kB\nMemFree:        1024 kB\n"
    f"MemAvailable:   {10 * GIB // 1024} kB\nBuffers:        3 kB"
)


def test_total_available_and_the_workers(tmp_path):
    plant(tmp_path, {"proc/meminfo": MEMINFO, "proc/77/statm": "5000 1000 10 1 0 90 0"})
    pid: list[int | None] = [77]
    sensor = LinuxMemory(lambda: pid[0], tmp_path)
    page = os.sysconf("SC_PAGE_SIZE")
    assert sensor.read() == Memory(16 * GIB, 10 * GIB, 1000 * page)
    pid[0] = None
    assert sensor.read().worker == 0
    plant(tmp_path, {"proc/78/statm": "5000 7 10 1 0 90 0"})
    pid[0] = 78
    assert sensor.read().worker == 7 * page
    pid[0] = 79  # gone already
    assert sensor.read().worker == 0


def test_unreadable_is_not_known(tmp_path):
    assert LinuxMemory(lambda: None, tmp_path).read() == Memory(None, None, 0)
    plant(tmp_path, {"proc/meminfo": "MemTotal: many kB\nMemAvailable"})
    assert LinuxMemory(lambda: None, tmp_path).read() == Memory(None, None, 0)


def group(**files: object) -> dict[str, object]:
    kernel = {"proc/self/cgroup": "1:name=systemd:/x\n0::/user.slice/app", "proc/meminfo": MEMINFO}
    return kernel | {
        f"sys/fs/cgroup/user.slice/{name.replace('__', '/')}".replace("~", "."): text
        for name, text in files.items()
    }


def test_a_groups_limit_counts_where_it_is_smaller(tmp_path):
    files = group(
        **{
            "memory~max": 4 * GIB,
            "memory~current": 3 * GIB,
            "memory~stat": f"anon 1\ninactive_file {GIB}",
            "app__memory~max": "max",
            "app__memory~current": GIB,
        }
    )
    sensor = LinuxMemory(lambda: None, plant(tmp_path, files))
    assert sensor.read() == Memory(4 * GIB, 2 * GIB)
    plant(tmp_path, {"sys/fs/cgroup/user.slice/memory.current": 5 * GIB})
    assert sensor.read() == Memory(4 * GIB, 0)


def test_the_smallest_of_nested_limits(tmp_path):
    files = group(
        **{
            "memory~max": 4 * GIB,
            "memory~current": GIB,
            "app__memory~max": 2 * GIB,
            "app__memory~current": GIB,
        }
    )
    assert LinuxMemory(lambda: None, plant(tmp_path, files)).read() == Memory(2 * GIB, GIB)


def test_a_limit_beyond_the_machine_is_none(tmp_path):
    files = group(**{"memory~max": 64 * GIB, "memory~current": GIB})
    assert LinuxMemory(lambda: None, plant(tmp_path, files)).read() == Memory(16 * GIB, 10 * GIB)


def test_a_limit_whose_use_is_unknown_still_bounds(tmp_path):
    files = group(**{"memory~max": 4 * GIB, "memory~current": UNREADABLE})
    assert LinuxMemory(lambda: None, plant(tmp_path, files)).read() == Memory(4 * GIB, 10 * GIB)


def test_the_real_machine():
    here = LinuxMemory(os.getpid).read()
    assert here.total is not None
    assert here.available is not None
    assert 0 < here.worker < here.total
    by_psutil = PsutilMemory(os.getpid).read()
    assert by_psutil.total is not None
    assert here.total <= by_psutil.total
    assert abs(by_psutil.worker - here.worker) < 2**24
    assert PsutilMemory(lambda: 2**22 + 1).read().worker == 0
