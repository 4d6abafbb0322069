"""The load of others, from counters of a kernel that the tests write."""

from __future__ import annotations

import os

import pytest

from pleb_agent.sensors.load import Counters, LinuxLoad, PsutilLoad, parse_cpu_line, parse_process
from tests.unit.agent.sensors.trees import plant

WORKER = 4242
CARDS_WORKER = 8888
SECOND = 100  # ticks


class Kernel:
    """Two cores' counters and the processes' own."""

    def __init__(self, root):
        self.root = root
        self.cpu = dict.fromkeys(
            ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), 1000
        )
        self.processes = {}
        self.own_seconds = 0.0
        self.write()

    def write(self):
        words = " ".join(str(value) for value in self.cpu.values())
        plant(self.root, {"stat": f"cpu  {words} 0 0\ncpu0 1 2 3 4\nintr 99"})
        for pid, (name, nice, user, system) in self.processes.items():
            head = f"{pid} ({name}) S 1 1 1 0 -1 4194304 9 9 9 9"
            tail = "0 0 20 " + f"{nice} 8 0 12345 1000000 250 18446744073709551615"
            plant(self.root, {f"{pid}/stat": f"{head} {user} {system} {tail}"})

    def passes(self, **ticks):
        for name, value in ticks.items():
            self.cpu[name] += value
        self.write()

    def process(self, pid, name="python", nice=0, user=0, system=0):
        self.processes[pid] = (name, nice, user, system)
        self.write()

    def sensor(self, worker=lambda: WORKER):
        return LinuxLoad(worker, proc=self.root, own_seconds=lambda: self.own_seconds)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return Kernel(tmp_path)


def test_the_first_read_returns_nothing(kernel):
    assert kernel.sensor().read() is None


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ({"idle": 200}, 0.0),
        ({"user": 100, "idle": 100}, 50.0),
        ({"user": 200}, 100.0),
        ({"system": 50, "irq": 10, "softirq": 40, "idle": 100}, 50.0),
        ({"iowait": 150, "idle": 50}, 0.0),
        ({"nice": 200}, 0.0),
        ({"nice": 100, "user": 50, "idle": 50}, 25.0),
        ({"user": 50, "steal": 100, "idle": 50}, 50.0),
        ({}, None),
    ],
)
def test_what_counts_as_load(kernel, ticks, expected):
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(**ticks)
    assert sensor.read() == expected


def test_the_nice_worker_is_not_the_others(kernel):
    kernel.process(WORKER, nice=19, user=5000, system=500)
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(nice=90, system=10, user=20, idle=80)
    kernel.process(WORKER, nice=19, user=5090, system=510)
    assert sensor.read() == pytest.approx(10.0)


def test_a_worker_that_is_not_nice_is_subtracted_too(kernel):
    kernel.process(WORKER, user=5000, system=500)
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(user=110, system=10, idle=80)
    kernel.process(WORKER, user=5090, system=510)
    assert sensor.read() == pytest.approx(10.0)


def test_a_worker_that_begins_later_counts_from_its_birth(kernel):
    pid: list[int] = []
    sensor = kernel.sensor(lambda: pid[0] if pid else None)
    sensor.read()
    pid.append(WORKER)
    kernel.passes(user=100, idle=100)
    kernel.process(WORKER, user=100)
    assert sensor.read() == 0.0


def test_our_own_work_is_not_the_others(kernel):
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(user=60, idle=140)
    kernel.own_seconds = 0.5
    assert sensor.read() == pytest.approx(5.0)


def test_children_of_agentd_and_of_the_worker_are_ours(kernel, tmp_path):
    me = os.getpid()
    plant(tmp_path, {f"{me}/task/{me}/children": "77", f"{WORKER}/task/{WORKER}/children": "78"})
    for pid in (WORKER, 77, 78):
        kernel.process(pid)
    sensor = kernel.sensor()
    sensor.read()
    seen = []
    for second in range(1, 21):  # idle ones are looked at every tenth time only
        for pid in (77, 78):
            kernel.process(pid, user=40 * second)
        kernel.passes(user=80, idle=120)
        seen.append(sensor.read())
    assert seen[:9] == [40.0] * 9
    assert seen[13:] == [0.0] * 7


def test_ours_can_never_make_the_load_negative(kernel):
    kernel.process(WORKER)
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(user=1, idle=199)
    kernel.process(WORKER, user=50)
    assert sensor.read() == 0.0


def test_a_worker_that_ends_leaves_no_trace(kernel):
    kernel.process(WORKER, user=5000)
    sensor = kernel.sensor()
    sensor.read()
    del kernel.processes[WORKER]
    (kernel.root / str(WORKER) / "stat").write_text("")
    kernel.passes(user=20, idle=180)
    assert sensor.read() == pytest.approx(10.0)


def test_the_window_is_four_seconds(kernel):
    sensor = kernel.sensor()
    sensor.read()
    seen = []
    for _ in range(5):
        kernel.passes(user=200)
        seen.append(sensor.read())
    for _ in range(4):
        kernel.passes(idle=200)
        seen.append(sensor.read())
    assert seen == [100.0] * 5 + [75.0, 50.0, 25.0, 0.0]


def test_after_a_long_gap_only_the_gap_counts(kernel):
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(user=200)
    sensor.read()
    kernel.passes(idle=60 * 2 * SECOND)
    assert sensor.read() == 0.0


def test_an_unreadable_kernel_is_not_idle(kernel):
    sensor = kernel.sensor()
    sensor.read()
    kernel.passes(user=200)
    assert sensor.read() == 100.0
    (kernel.root / "stat").write_text("garbage")
    assert sensor.read() is None
    kernel.passes(idle=200)
    assert sensor.read() is None
    kernel.passes(idle=200)
    assert sensor.read() == 0.0


def test_files_of_other_forms_are_not_understood():
    assert parse_cpu_line(b"") is None
    assert parse_cpu_line(b"cpu  1 2 3\n") is None
    assert parse_cpu_line(b"cpu  a b c d e f g h\n") is None
    assert parse_cpu_line(b"cpu0 1 2 3 4 5 6 7 8\n") is None
    assert parse_cpu_line(b"cpu  1 2 3 4 5 6 7 8 9 9\n") == Counters(1 + 3 + 6 + 7, 28)
    assert parse_process(b"1 (x) S 1") is None


def test_a_program_may_have_any_name():
    stat = b"7 (a) b ) 1 2) S 1 1 1 0 -1 0 0 0 0 0 30 4 0 0 20 0 1 0 1 1 1"
    assert parse_process(stat) == 34


def test_elsewhere_the_worker_and_agentd_are_subtracted():
    times, seconds = [(20.0, 100.0)], {os.getpid(): 1.0, WORKER: 5.0}
    sensor = PsutilLoad(
        lambda: WORKER,
        pids_on_cards=lambda: [CARDS_WORKER],
        seconds_of_all=lambda: times[0],
        seconds_of=seconds.get,
        cores=2,
    )
    seconds[CARDS_WORKER] = 0.0
    assert sensor.read() is None
    times[0] = (21.2, 100.8)
    seconds |= {os.getpid(): 1.1, WORKER: 5.4, CARDS_WORKER: 0.5}
    assert sensor.read() == pytest.approx(10.0)
    del seconds[WORKER]
    times[0] = (23.2, 100.8)
    assert sensor.read() == pytest.approx(100 * 2.2 / 4)


def test_elsewhere_the_window_moves_on():
    times = [(0, 0)]
    sensor = PsutilLoad(
        lambda: None, seconds_of_all=lambda: times[0], seconds_of=lambda _: None, cores=1
    )
    sensor.read()
    times[0] = (4, 0)
    assert sensor.read() == 100.0
    times[0] = (4, 4)
    assert sensor.read() == 0.0
