"""The hottest processor, from sensors of machines that people have."""

from __future__ import annotations

import pytest

from pleb_agent.sensors.temperature import (
    UNKNOWN_TEMPERATURE,
    DriverTemperature,
    LinuxTemperature,
    Temperature,
    hottest,
)
from tests.unit.agent.sensors.trees import UNREADABLE, plant


def chip(number: int, name: str, **files: object) -> dict[str, object]:
    return {f"hwmon/hwmon{number}/name": name} | {
        f"hwmon/hwmon{number}/{key}": value for key, value in files.items()
    }


INTEL = chip(
    3,
    "coretemp",
    temp1_input=61_000,
    temp1_label="Package id 0",
    temp1_crit=100_000,
    temp2_input=70_000,
    temp2_label="Core 0",
    temp2_crit=100_000,
)
RYZEN = chip(2, "k10temp", temp1_input=75_000, temp1_label="Tctl", temp2_input=55_000) | {
    "hwmon/hwmon2/temp2_label": "Tdie"
}
RADEON = chip(
    4,
    "amdgpu",
    temp1_input=66_000,
    temp1_label="edge",
    temp1_crit=94_000,
    temp2_input=92_000,
    temp2_label="junction",
    temp2_crit=105_000,
)
NOISE = (
    chip(0, "nvme", temp1_input=84_850, temp1_label="Composite", temp1_crit=84_850)
    | chip(1, "iwlwifi_1", temp1_input=90_000)
    | chip(5, "BAT0", in0_input=12, temp1_input=88_000)
    | chip(6, "nct6798", temp1_input=127_000, temp1_label="SYSTIN")
    | chip(7, "acpitz", temp1_input=95_000)
    | chip(8, "pch_cannonlake", temp1_input=93_000)
)
ZONES = {
    "thermal/thermal_zone0/type": "acpitz",
    "thermal/thermal_zone0/temp": 99_000,
    "thermal/thermal_zone1/type": "cpu-thermal",
    "thermal/thermal_zone1/temp": 58_000,
    "thermal/thermal_zone1/trip_point_0_type": "passive",
    "thermal/thermal_zone1/trip_point_0_temp": 70_000,
    "thermal/thermal_zone1/trip_point_1_type": "critical",
    "thermal/thermal_zone1/trip_point_1_temp": 110_000,
}

CASES = {
    "nothing": ({}, UNKNOWN_TEMPERATURE),
    "only disks, Wi-Fi, batteries and boards": (NOISE, UNKNOWN_TEMPERATURE),
    "Intel: the package": (INTEL | NOISE, Temperature(61.0, 39.0)),
    "AMD: the die, not the offset": (RYZEN | NOISE, Temperature(55.0, None)),
    "AMD without a die: what there is": (
        chip(2, "k10temp", temp1_input=75_000, temp1_label="Tctl"),
        Temperature(75.0, None),
    ),
    "a GPU that is hotter, by its edge": (INTEL | RADEON, Temperature(66.0, 28.0)),
    "the nearest to its limit is not the hottest": (
        INTEL | chip(4, "amdgpu", temp1_input=60_000, temp1_label="edge", temp1_crit=90_000),
        Temperature(61.0, 30.0),
    ),
    "a GPU that sleeps": (
        INTEL | RADEON | {"hwmon/hwmon4/device/power/runtime_status": "suspended"},
        Temperature(61.0, 39.0),
    ),
    "Raspberry Pi": (chip(0, "cpu_thermal", temp1_input=48_312), Temperature(48.312, None)),
    "ThinkPad: by label": (
        chip(0, "thinkpad", temp1_input=51_000, temp1_label="CPU", temp3_input=93_000),
        Temperature(51.0, None),
    ),
    "ThinkPad without labels": (chip(0, "thinkpad", temp1_input=51_000), UNKNOWN_TEMPERATURE),
    "zones where hwmon has none": (NOISE | ZONES, Temperature(58.0, 52.0)),
    "zones are not asked where hwmon reports": (INTEL | ZONES, Temperature(61.0, 39.0)),
    "broken sensors": (
        chip(0, "coretemp", temp1_input=0, temp2_input=-273_000, temp3_input=255_000),
        UNKNOWN_TEMPERATURE,
    ),
    "EIO and garbage": (
        chip(0, "coretemp", temp1_input=UNREADABLE, temp2_input="hot", temp3_input=40_000),
        Temperature(40.0, None),
    ),
    "a critical temperature of 0 is none": (
        chip(0, "coretemp", temp1_input=50_000, temp1_crit=0),
        Temperature(50.0, None),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_temperature(tmp_path, case):
    files, expected = CASES[case]
    sensor = LinuxTemperature(plant(tmp_path, files))
    assert sensor.read() == expected
    assert sensor.read() == expected


def test_it_follows_the_sensor(tmp_path):
    sensor = LinuxTemperature(plant(tmp_path, INTEL))
    sensor.read()
    plant(tmp_path, {"hwmon/hwmon3/temp1_input": 97_000})
    assert sensor.read() == Temperature(97.0, 3.0)


def test_a_driver_that_is_loaded_later_is_found(tmp_path):
    sensor = LinuxTemperature(tmp_path)
    assert sensor.read() == UNKNOWN_TEMPERATURE
    plant(tmp_path, INTEL)
    assert [sensor.read() for _ in range(30)][-1] == Temperature(61.0, 39.0)


def test_graphics_drivers_add_their_own(tmp_path):
    heat = [(83_000, 87_000)]
    assert LinuxTemperature(plant(tmp_path, INTEL), lambda: heat).read() == Temperature(83.0, 4.0)
    assert DriverTemperature(lambda: heat).read() == Temperature(83.0, 4.0)
    assert DriverTemperature(list).read() == UNKNOWN_TEMPERATURE
    assert hottest([(None, 90_000)]) == UNKNOWN_TEMPERATURE
