"""The machine's size and its graphics processors."""

from __future__ import annotations

import psutil

from pleb_agent.sensors.machine import free_disk_bytes, read_gpu_names, read_machine
from pleb_agent.sensors.nvml import Nvml
from tests.unit.agent.sensors.test_gpu import FakeNvml
from tests.unit.agent.sensors.trees import plant


def test_the_real_machine(tmp_path):
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 < machine.available_bytes <= machine.memory_bytes
    assert free_disk_bytes(tmp_path) > 0


def test_whoever_asks_often_uses_up_no_files():
    """The page asks at each look at the preferences; agentd may have some 1,000 files open."""
    read_machine()
    before = psutil.Process().num_fds()
    for _ in range(50):
        read_machine()
    assert psutil.Process().num_fds() <= before


def test_graphics_processors_are_named_without_waking_them(tmp_path):
    plant(
        tmp_path,
        {
            "proc/driver/nvidia/gpus/0000:01:00.0/information": (
                "Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 130"
            ),
            "sys/class/drm/card0/device/vendor": "0x8086",
            "sys/class/drm/card0/device/device": "0xffff",
            "sys/class/drm/card1/device/vendor": "0x10de",
        },
    )
    names = read_gpu_names("linux", tmp_path)
    assert names == ("NVIDIA GeForce RTX 3060", "Intel graphics ffff")
    assert read_gpu_names("linux", tmp_path / "missing") == ()


def test_elsewhere_the_driver_is_asked():
    fake = FakeNvml()
    assert read_gpu_names("win32", nvml=Nvml(lambda: fake)) == ("NVIDIA GeForce RTX 3060",)
    assert read_gpu_names("darwin") == ()
