"""Giving way: every way is tried, a refusal is reported, and Linux really does all four."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from pleb_agent.worker.priority import give_way, linux_ways, mac_ways, windows_ways

if TYPE_CHECKING:
    from pathlib import Path

MEASURE = """
import json, os
from pathlib import Path
import psutil
from pleb_agent.worker.priority import give_way, system_ways
outcome = give_way(system_ways())
print(json.dumps({
    "outcome": outcome,
    "policy": os.sched_getscheduler(0) == os.SCHED_IDLE,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "io": psutil.Process().ionice().ioclass == psutil.IOPRIO_CLASS_IDLE,
    "autogroup": Path("/proc/self/autogroup").read_text().split()[-1],
}))
"""


class FakeKernel32:
    """Knows that a process is in one priority class, and that background mode is entered once."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.classes: list[int] = []

    def GetCurrentProcess(self) -> int:
        return -1

    def SetPriorityClass(self, handle: int, priority: int) -> int:
        if self.refuses or handle != -1 or priority in self.classes:
            return 0
        self.classes.append(priority)
        return 1


class FakeLibSystem:
    """Takes the QoS classes of pthread/qos.h and nothing else."""

    def __init__(self) -> None:
        self.qos_class = 0x15

    def pthread_set_qos_class_self_np(self, qos_class: int, relative: int) -> int:
        if qos_class not in {0x21, 0x19, 0x15, 0x11, 0x09} or relative > 0:
            return errno.EINVAL
        self.qos_class = qos_class
        return 0


def test_linux_gives_way_in_all_four_ways() -> None:
    child = subprocess.run(
        [sys.executable, "-c", MEASURE],
        check=True,
        capture_output=True,
        start_new_session=True,
    )
    assert json.loads(child.stdout) == {
        "outcome": {"nice": "set", "autogroup": "set", "scheduler": "set", "io": "set"},
        "policy": True,
        "nice": 19,
        "io": True,
        "autogroup": "19",
    }


def test_a_kernel_without_autogroups_is_reported(tmp_path: Path) -> None:
    ways = linux_ways(tmp_path / "none" / "autogroup")
    outcome = give_way({"autogroup": ways["autogroup"]})
    assert "No such file" in outcome["autogroup"]


def test_windows_gets_the_idle_class_and_background_mode() -> None:
    kernel32 = FakeKernel32()
    assert set(give_way(windows_ways(kernel32)).values()) == {"set"}
    assert kernel32.classes == [0x40, 0x100000]


def test_a_refusal_is_reported_and_raises_nothing() -> None:
    outcome = give_way(windows_ways(FakeKernel32(refuses=True)))
    assert set(outcome.values()) == {"Windows refused the priority"}


def test_macos_gets_background_quality_of_service() -> None:
    lib_system = FakeLibSystem()
    background = mac_ways(lib_system)["quality of service"]
    assert give_way({"quality of service": background}) == {"quality of service": "set"}
    assert lib_system.qos_class == 0x09


def test_a_low_priority_is_no_idle_one() -> None:
    """With an idle one a trusted host on a busy server would never run."""
    measure = MEASURE.replace("system_ways", "low_ways")
    child = subprocess.run(
        [sys.executable, "-c", measure],
        check=True,
        capture_output=True,
        start_new_session=True,  # the file is empty for a session that has no autogroup
    )
    found = json.loads(child.stdout)
    assert found["outcome"] == {"nice": "set"}
    assert (found["policy"], found["nice"], found["io"]) == (False, 10, False)
