"""Energy of the processor by powercap, of NVIDIA's cards by NVML, of the PC by the user's meter."""

from __future__ import annotations

import pytest

from pleb_agent.sensors.energy_meter import (
    CardMeter,
    FirstThatMeasures,
    PlugMeter,
    ProcessorMeter,
)
from tests.unit.agent.sensors.trees import UNREADABLE, plant

PID = 77


class Machine:
    """A kernel's files, whose counters the test moves."""

    def __init__(self, root, **zones: int) -> None:
        self.root = root
        self.zones = zones
        self.worked = 5.0
        self.seconds: dict[int, float | None] = {}
        self.busy = [1000, 200, 300, 9000, 50, 10, 20]
        self.write()

    def write(self) -> None:
        files: dict[str, object] = {
            "proc/stat": f"cpu  {' '.join(map(str, self.busy))} 0 0 0\ncpu0 1 1 1 1"
        }
        for number, (name, joules) in enumerate(self.zones.items()):
            folder = f"sys/class/powercap/intel-rapl:{number}"
            files |= {
                f"{folder}/name": name.replace("_", "-"),
                f"{folder}/energy_uj": joules * 1_000_000,
                f"{folder}/max_energy_range_uj": 999_999_999,
            }
        plant(self.root, files)

    def meter(self) -> ProcessorMeter:
        return ProcessorMeter(self.root, lambda pid: self.seconds.get(pid, self.worked))

    def passes(self, *, joules: int, own_seconds: float, busy_seconds: float) -> None:
        self.zones = {name: value + joules for name, value in self.zones.items()}
        self.worked += own_seconds
        self.busy[1] += round(busy_seconds * 100)  # the worker is nice
        self.write()


def test_a_worker_has_its_share_of_the_processors_energy(tmp_path):
    machine = Machine(tmp_path, package_0=100)
    meter = machine.meter()
    assert meter.joules(PID, 0.0) is None, "the first look only says where the counters are"
    machine.passes(joules=60, own_seconds=3.0, busy_seconds=4.0)
    assert meter.joules(PID, 3.0) == pytest.approx(45.0)
    machine.passes(joules=10, own_seconds=0.0, busy_seconds=2.0)
    assert meter.joules(PID, 0.1) == pytest.approx(0.0)


def test_two_packages_and_their_memory_count_and_their_parts_do_not(tmp_path):
    machine = Machine(tmp_path, package_0=1, package_1=1, dram=1, core=1, psys=1)
    meter = machine.meter()
    meter.joules(PID, 0.0)
    machine.passes(joules=10, own_seconds=2.0, busy_seconds=2.0)
    assert meter.joules(PID, 2.0) == pytest.approx(30.0)


def test_a_counter_that_begins_again(tmp_path):
    machine = Machine(tmp_path, package_0=990)
    meter = machine.meter()
    meter.joules(PID, 0.0)
    machine.passes(joules=-980, own_seconds=1.0, busy_seconds=1.0)
    assert meter.joules(PID, 1.0) == pytest.approx(20.0)


@pytest.mark.parametrize("text", [UNREADABLE, "", "many"])
def test_a_counter_that_only_root_may_read_measures_nothing(tmp_path, text):
    machine = Machine(tmp_path, package_0=1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    plant(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": text})
    meter = machine.meter()
    assert [meter.joules(PID, 1.0) for _ in range(3)] == [None] * 3


def test_a_machine_without_powercap_or_counters_measures_nothing(tmp_path):
    meter = ProcessorMeter(tmp_path, lambda _: 1.0)
    assert [meter.joules(PID, 1.0) for _ in range(3)] == [None] * 3


def test_another_worker_begins_anew(tmp_path):
    machine = Machine(tmp_path, package_0=1)
    meter = machine.meter()
    meter.joules(PID, 0.0)
    machine.passes(joules=10, own_seconds=1.0, busy_seconds=1.0)
    assert meter.joules(PID + 1, 1.0) is None
    assert meter.joules(None, 1.0) is None
    machine.seconds[PID] = None
    assert meter.joules(PID, 1.0) is None, "it has just died"


def test_a_worker_has_no_more_than_all(tmp_path):
    """Clock ticks of the two counters may differ by one."""
    machine = Machine(tmp_path, package_0=1)
    meter = machine.meter()
    meter.joules(PID, 0.0)
    machine.passes(joules=10, own_seconds=1.01, busy_seconds=1.0)
    assert meter.joules(PID, 1.0) == pytest.approx(10.0)


class Nvml:
    """The module `pynvml`, with a counter of millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.millijoules = 5_000
        self.fails = ""

    def _say(self, name, value):
        if self.fails == name:
            raise self.NVMLError
        return value

    def nvmlInit(self):
        self._say("init", None)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self._say("handle", index)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == 1
        return self._say("energy", self.millijoules)


def test_a_card_counts_while_the_worker_computes():
    nvml, now = Nvml(), [0.0]
    meter = CardMeter(1, lambda: nvml, lambda: now[0])
    assert meter.joules(PID, 0.0) is None
    now[0], nvml.millijoules = 10.0, 2_005_000
    assert meter.joules(PID, 9.0) == pytest.approx(1800.0)
    now[0], nvml.millijoules = 20.0, 2_405_000
    assert meter.joules(PID, 0.0) == 0.0


@pytest.mark.parametrize("fails", ["init", "handle", "energy"])
def test_a_card_without_a_counter_measures_nothing(fails):
    nvml = Nvml()
    nvml.fails = fails
    meter = CardMeter(1, lambda: nvml, iter(range(10)).__next__)
    assert [meter.joules(PID, 1.0) for _ in range(3)] == [None] * 3


def test_a_driver_that_was_loaded_anew_begins_anew():
    nvml = Nvml()
    meter = CardMeter(1, lambda: nvml, iter(map(float, range(10))).__next__)
    meter.joules(PID, 1.0)
    nvml.millijoules = 1
    assert meter.joules(PID, 1.0) is None
    nvml.millijoules = 3001
    assert meter.joules(PID, 1.0) == pytest.approx(3.0)


def test_which_cards_are_measured():
    assert CardMeter.of("cuda-2") is not None
    assert CardMeter.of("rocm-0") is None
    assert CardMeter.of("cpu") is None


def test_no_driver():
    meter = CardMeter(0, lambda: None)
    assert meter.joules(PID, 1.0) is None


def test_the_users_own_meter_comes_first_while_it_says_something(tmp_path):
    watts: list[float | None] = [80.0]
    machine = Machine(tmp_path, package_0=1)
    meter = FirstThatMeasures(PlugMeter(lambda: watts[0]), machine.meter())
    assert meter.joules(PID, 10.0) == pytest.approx(800.0)
    watts[0] = None
    machine.passes(joules=10, own_seconds=1.0, busy_seconds=1.0)
    assert meter.joules(PID, 1.0) == pytest.approx(10.0), "the other was read all the time"
    watts[0] = -3.0
    assert meter.joules(PID, 1.0) == 0.0
