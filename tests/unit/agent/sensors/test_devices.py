"""Which cards are found, from trees as the drivers of several PCs show them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.devices import FoundDevice, is_device_name
from pleb_agent.sensors.devices import devices_named, find_cards
from pleb_shared.errors import InputError
from tests.unit.agent.sensors.trees import plant

if TYPE_CHECKING:
    from pathlib import Path

NVIDIA = "proc/driver/nvidia/gpus"
KFD = "sys/class/kfd/kfd/topology/nodes"
DRM = "sys/class/drm"
UUID = "GPU-dae76d0e-3414-958a-8f3e-fc6682b36f31"


def test_cards_of_three_makers(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            f"{NVIDIA}/0000:41:00.0/information": (
                f"Model: \t\t NVIDIA H200\nGPU UUID: \t {UUID}\nDevice Minor: \t 0\n"
            ),
            f"{NVIDIA}/0000:01:00.0/information": (
                "Model: \t NVIDIA RTX 4060\nGPU UUID: GPU-????????-????\nDevice Minor: 1\n"
            ),
            f"{KFD}/0/properties": "cpu_cores_count 16\nsimd_count 0\ndrm_render_minor 0\n",
            f"{KFD}/1/properties": "simd_count 120\nunique_id 255\ndrm_render_minor 129\n",
            f"{DRM}/renderD129/device/vendor": "0x1002\n",
            f"{DRM}/renderD129/device/device": "0x73bf\n",
            f"{DRM}/renderD129/device/product_name": "Radeon RX 6800\n",
            f"{DRM}/renderD130/device/vendor": "0x8086\n",
            f"{DRM}/renderD130/device/device": "0x56a0\n",
            f"{DRM}/renderD130/device/product_name": "Arc A770\n",
            f"{DRM}/card0/device/vendor": "0x8086\n",
        },
    )
    found = find_cards(tmp_path, "linux")
    assert found == [
        FoundDevice(
            "cuda-0", "NVIDIA RTX 4060", ("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm")
        ),
        FoundDevice(
            "cuda-1", "NVIDIA H200", ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"), UUID
        ),
        FoundDevice(
            "rocm-0",
            "AMD Radeon RX 6800",
            ("/dev/kfd", "/dev/dri/renderD129"),
            "GPU-00000000000000ff",
        ),
        FoundDevice("xpu-0", "Intel Arc A770", ("/dev/dri/renderD130",)),
    ]
    assert all(is_device_name(one.name) for one in found)


@pytest.mark.parametrize("system", ["linux", "win32", "darwin", "freebsd14"])
def test_a_pc_without_cards_has_none(tmp_path: Path, system: str) -> None:
    nvml = lambda: SimpleNamespace(devices=lambda _: [])  # noqa: E731
    assert find_cards(tmp_path, system, "x86_64", nvml) == []  # type: ignore[arg-type]


def test_a_driver_that_says_nothing_still_has_its_card(tmp_path: Path) -> None:
    (tmp_path / NVIDIA / "0000:01:00.0").mkdir(parents=True)
    assert [one.name for one in find_cards(tmp_path, "linux")] == ["cuda-0"]


def test_windows_asks_the_management_library_and_macos_its_architecture(tmp_path: Path) -> None:
    cards = [SimpleNamespace(name="RTX 3060"), SimpleNamespace(name="RTX 3060")]
    nvml = lambda: SimpleNamespace(devices=lambda _: cards)  # noqa: E731
    found = find_cards(tmp_path, "win32", "AMD64", nvml)  # type: ignore[arg-type]
    assert [(one.name, one.title) for one in found] == [
        ("cuda-0", "RTX 3060"),
        ("cuda-1", "RTX 3060"),
    ]
    assert [one.name for one in find_cards(tmp_path, "darwin", "arm64")] == ["mps-0"]


def test_names_of_devices_are_this_pcs() -> None:
    cards = [FoundDevice("cuda-0", "a"), FoundDevice("xpu-0", "b")]
    assert devices_named(["cards"], cards) == ["cuda-0", "xpu-0"]
    assert devices_named(["cpu", "xpu-0"], cards) == ["cpu", "xpu-0"]
    with pytest.raises(InputError, match="it has cpu, cuda-0, xpu-0"):
        devices_named(["cuda-1"], cards)
    with pytest.raises(InputError, match="no graphics card"):
        devices_named(["cards"], [])
