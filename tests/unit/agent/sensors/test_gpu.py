"""Graphics processors: a fake of NVIDIA's library, and the kernel's files of AMD and Intel."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pleb_agent.core.readings import Gpu
from pleb_agent.sensors.gpu_drm import DrmGpus, pci_name
from pleb_agent.sensors.gpu_nvidia import NvidiaGpus, Nvml, load_nvml
from pleb_agent.sensors.system_sensors import AllGpus
from tests.unit.agent.sensors.trees import UNREADABLE, plant

WORKER = 4242
MIB = 2**20


class FakeNvml:
    """One device; `errors`: function name -> NVML's error number."""

    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1

    class NVMLError(Exception):
        def __init__(self, value):
            super().__init__(value)
            self.value = value

    def __init__(self):
        self.errors = {}
        self.starts = 0
        self.percent = 80
        self.samples = []
        self.asked_since = []

    def _say(self, name, value):
        if name in self.errors:
            raise self.NVMLError(self.errors[name])
        return value

    def nvmlInit(self):
        self.starts += 1
        self._say("init", None)

    def nvmlDeviceGetCount(self):
        return self._say("count", 1)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return self._say("name", "NVIDIA GeForce RTX 3060")

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._say("rates", SimpleNamespace(gpu=self.percent, memory=1))

    def nvmlDeviceGetMemoryInfo(self, handle):
        return self._say("memory", SimpleNamespace(used=3 * MIB, total=12 * MIB))

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._say("temperature", 71)

    def nvmlDeviceGetTemperatureThreshold(self, handle, threshold):
        return self._say("threshold", 95)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        held = [(WORKER, MIB), (99, 2 * MIB), (WORKER + 1, None)]
        return self._say("held", [SimpleNamespace(pid=p, usedGpuMemory=b) for p, b in held])

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        self.asked_since.append(since)
        return self._say("processes", self.samples)


def sample(pid, percent, at):
    return SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at)


def nvidia(fake, worker=WORKER):
    return NvidiaGpus(Nvml(lambda: fake), {"cuda-0": worker}.get)


def geforce(*reported, **more):
    """What is read of the fake's device."""
    others, used, total = reported
    return Gpu("NVIDIA GeForce RTX 3060", others, used, total, "cuda-0", **more)


def test_the_workers_part_is_not_the_others():
    fake = FakeNvml()
    fake.samples = [sample(WORKER, 70, 5), sample(99, 20, 6), sample(WORKER, 50, 7)]
    gpus = nvidia(fake)
    assert gpus.read() == (geforce(20.0, 3 * MIB, 12 * MIB, celsius=71, worker_bytes=MIB),)
    assert gpus.heat() == [(71_000, 95_000)]
    gpus.read()
    assert fake.asked_since == [0, 7]


def test_without_a_worker_all_is_the_others():
    fake = FakeNvml()
    assert nvidia(fake, None).read()[0].others_percent == 80.0
    assert fake.asked_since == []


def test_the_worker_may_have_done_nothing():
    fake = FakeNvml()
    fake.errors["processes"] = fake.NVML_ERROR_NOT_FOUND
    assert nvidia(fake).read()[0].others_percent == 80.0
    fake.errors.clear()
    fake.samples = [sample(99, 20, 6)]
    assert nvidia(fake).read()[0].others_percent == 80.0


def test_more_of_ours_than_of_all_is_nothing_of_others():
    fake = FakeNvml()
    fake.samples = [sample(WORKER, 95, 5)]
    assert nvidia(fake).read()[0].others_percent == 0.0


@pytest.mark.parametrize("code", [3, 4])
def test_what_the_device_does_not_report_is_unknown(code):
    fake = FakeNvml()
    calls = ("rates", "memory", "temperature", "threshold", "processes", "held")
    fake.errors = dict.fromkeys(calls, code)
    gpus = nvidia(fake)
    assert gpus.read() == (geforce(None, None, None),)
    assert gpus.heat() == [(None, None)]


def test_without_the_workers_part_the_load_of_others_is_unknown():
    fake = FakeNvml()
    fake.errors["processes"] = fake.NVML_ERROR_NOT_SUPPORTED
    assert nvidia(fake).read()[0].others_percent is None


@pytest.mark.parametrize("call", ["init", "count", "name", "rates"])
def test_a_lost_device_is_none_until_it_is_back(call):
    fake = FakeNvml()
    fake.errors[call] = fake.NVML_ERROR_GPU_IS_LOST
    gpus = nvidia(fake)
    assert gpus.read() == ()
    assert gpus.heat() == []
    fake.errors.clear()
    assert len(gpus.read()) == 1
    assert fake.starts == 2


def test_without_the_driver_nothing_is_loaded(tmp_path):
    assert NvidiaGpus(Nvml(lambda: None), lambda _: WORKER).read() == ()
    assert load_nvml("linux", {"linux": tmp_path / "missing"}) is None
    assert load_nvml("darwin") is None
    (tmp_path / "version").write_text("NVRM")
    module = load_nvml("linux", {"linux": tmp_path / "version"})
    assert module is not None
    for name in dir(FakeNvml):  # the fake keeps to the real library's names
        if name.startswith(("nvml", "NVML")):
            assert hasattr(module, name)
    for name in ("NVML_ERROR_NOT_FOUND", "NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_NO_PERMISSION"):
        assert getattr(module, name) == getattr(FakeNvml, name)
    assert module.NVMLError(6).value == 6


def card(number, vendor, **files):
    return {
        f"card{number}/device/vendor": vendor,
        f"card{number}/device/device": "0x73bf",
        f"card{number}-HDMI-A-1/status": "connected",
    } | {f"card{number}/{key.replace('__', '/')}": value for key, value in files.items()}


def drm(root, files, worker=None, clock=lambda: 0.0, name=None):
    return DrmGpus(
        {"rocm-0": worker}.get,
        plant(root, files),
        clock=clock,
        name_of=lambda vendor, device: name,
        names={"renderD128": "rocm-0"},
    )


RADEON = card(
    1,
    "0x1002",
    device__gpu_busy_percent=37,
    device__mem_info_vram_used=MIB,
    device__mem_info_vram_total=16 * MIB,
)


def test_amd(tmp_path):
    assert drm(tmp_path, RADEON, name="Radeon RX 6800").read() == (
        Gpu("AMD Radeon RX 6800", 37.0, MIB, 16 * MIB),
    )


def test_amd_by_its_own_name_or_number(tmp_path):
    assert drm(tmp_path, RADEON).read()[0].name == "AMD graphics 73bf"
    named = RADEON | {"card1/device/product_name": "Instinct MI50"}
    assert drm(tmp_path, named, name="x").read()[0].name == "AMD Instinct MI50"


def test_while_a_worker_runs_the_load_of_others_on_amd_is_unknown(tmp_path):
    assert drm(tmp_path, RADEON, worker=WORKER).read()[0].others_percent == 37.0  # not on this one
    (tmp_path / "card1/device/drm/renderD128").mkdir(parents=True)
    plant(tmp_path, {"card1/device/hwmon/hwmon3/temp1_input": 64_500})
    ours = drm(tmp_path, RADEON, worker=WORKER).read()[0]
    assert (ours.others_percent, ours.device, ours.celsius) == (None, "rocm-0", 64.5)
    assert drm(tmp_path, RADEON).read()[0].others_percent == 37.0


def test_a_sleeping_card_is_not_woken(tmp_path):
    files = RADEON | {"card1/device/power/runtime_status": "suspended"}
    assert drm(tmp_path, files).read() == (Gpu("AMD graphics 73bf", 0.0, None, None),)


def test_eio_and_garbage_are_not_known(tmp_path):
    files = RADEON | {"card1/device/gpu_busy_percent": UNREADABLE}
    files["card1/device/mem_info_vram_used"] = "?"
    assert drm(tmp_path, files).read()[0] == Gpu("AMD graphics 73bf", None, None, 16 * MIB)


@pytest.mark.parametrize(
    "file",
    [
        "gt__gt0__rc6_residency_ms",
        "power__rc6_residency_ms",
        "device__tile0__gt0__gtidle__idle_residency_ms",
    ],
)
def test_intel_counts_what_it_did_not_sleep(tmp_path, file):
    now = [100.0]
    sensor = drm(tmp_path, card(0, "0x8086", **{file: 50_000}), clock=lambda: now[0])
    assert sensor.read() == (Gpu("Intel graphics 73bf", None, None, None),)
    now[0] = 110.0
    plant(tmp_path, card(0, "0x8086", **{file: 57_500}))
    assert sensor.read()[0].others_percent == pytest.approx(25.0)
    now[0] = 120.0
    plant(tmp_path, card(0, "0x8086", **{file: 99_000}))
    assert sensor.read()[0].others_percent == 0.0


def test_intel_without_a_counter_is_not_known(tmp_path):
    assert drm(tmp_path, card(0, "0x8086")).read()[0].others_percent is None


def test_other_makers_and_connectors_are_left_out(tmp_path):
    files = card(0, "0x10de") | card(1, "garbage") | {"renderD128/device/vendor": "0x1002"}
    assert drm(tmp_path, files).read() == ()
    assert drm(tmp_path / "missing", {}).read() == ()


def test_all_drivers_together(tmp_path):
    gpus = AllGpus(nvidia(FakeNvml(), None), drm(tmp_path, RADEON)).read()
    assert [gpu.name for gpu in gpus] == ["NVIDIA GeForce RTX 3060", "AMD graphics 73bf"]


def test_names_come_from_the_systems_list(tmp_path):
    ids = tmp_path / "pci.ids"
    ids.write_text(
        "# a list\n1001  Kolter\n\t73bf  Wrong\n1002  AMD/ATI\n"
        "\t73bf  Navi 21 [Radeon RX 6800/6800 XT]\n\t\t1002 0e3a  Sub\n\t73c0  Plain\n8086  Intel\n"
    )
    lists = (tmp_path / "missing", ids)
    assert pci_name(0x1002, 0x73BF, lists) == "Radeon RX 6800/6800 XT"
    assert pci_name(0x1002, 0x73C0, lists) == "Plain"
    assert pci_name(0x8086, 0x73C0, lists) is None
    assert pci_name(0x8086, 0x73C0, ()) is None
