"""Mains, batteries, docks and UPSs as the kernel shows them on machines that people have."""

from __future__ import annotations

import shutil

import pytest

from pleb_agent.core.readings import Power, PowerSource
from pleb_agent.sensors.power import ChargerWatch, LinuxPower
from tests.unit.agent.sensors.trees import UNREADABLE, plant, supply

MAINS, BATTERY, UPS, UNKNOWN = (
    PowerSource.MAINS,
    PowerSource.BATTERY,
    PowerSource.UPS,
    PowerSource.UNKNOWN,
)


def ac(online: object, name: str = "AC") -> dict[str, object]:
    return supply(name, type="Mains", online=online)


def usb(online: object, name: str, kind: str = "USB") -> dict[str, object]:
    return supply(name, type=kind, online=online)


def battery(status: object, name: str = "BAT0", **files: object) -> dict[str, object]:
    given = files or {"energy_now": 30_000_000, "energy_full": 40_000_000}
    return supply(name, type="Battery", present=1, status=status, **given)


MOUSE = supply(
    "hidpp_battery_0",
    type="Battery",
    scope="Device",
    status="Discharging",
    online=1,
    present=1,
    capacity=5,
)
HEADSET = supply("ps-controller", type="Battery", scope="Device", status="Charging", capacity=80)

CASES = {
    "desktop without any supply": ({}, MAINS, None),
    "desktop with a wireless mouse": (MOUSE, MAINS, None),
    "desktop with a mouse and a charging headset": (MOUSE | HEADSET, MAINS, None),
    "desktop whose USB-C ports take no power": (
        usb(0, "ucsi-source-psy-1") | usb(0, "ucsi-source-psy-2"),
        MAINS,
        None,
    ),
    "laptop on mains, charging": (ac(1) | battery("Charging"), MAINS, 75.0),
    "laptop on mains, full": (ac(1) | battery("Full"), MAINS, 75.0),
    "laptop on mains, resting at a threshold": (ac(1) | battery("Not charging"), MAINS, 75.0),
    "laptop on mains, state unknown": (ac(1) | battery("Unknown"), MAINS, 75.0),
    "laptop on battery": (ac(0) | battery("Discharging"), BATTERY, 75.0),
    "laptop on battery with a mouse": (ac(0) | battery("Discharging") | MOUSE, BATTERY, 75.0),
    "just pulled out, still full": (ac(0) | battery("Full"), BATTERY, 75.0),
    "just pulled out, still at the threshold": (ac(0) | battery("Not charging"), BATTERY, 75.0),
    "charger off, state unknown": (ac(0) | battery("Unknown"), BATTERY, 75.0),
    "no charger is listed, charging": (battery("Charging"), MAINS, 75.0),
    "no charger is listed, resting": (battery("Not charging"), MAINS, 75.0),
    "no charger is listed, discharging": (battery("Discharging"), BATTERY, 75.0),
    "no charger is listed, state unknown": (battery("Unknown"), UNKNOWN, 75.0),
    "ThinkPad on mains: one charges, one rests": (
        ac(1)
        | battery("Not charging", energy_now=20_000_000, energy_full=20_000_000)
        | battery("Charging", "BAT1", energy_now=10_000_000, energy_full=80_000_000),
        MAINS,
        30.0,
    ),
    "ThinkPad on battery: one discharges, one waits": (
        ac(0)
        | battery("Unknown", energy_now=20_000_000, energy_full=20_000_000)
        | battery("Discharging", "BAT1", energy_now=40_000_000, energy_full=80_000_000),
        BATTERY,
        60.0,
    ),
    "the second battery is pulled out": (
        ac(0)
        | battery("Discharging")
        | supply("BAT1", type="Battery", present=0, status="Unknown", capacity=0),
        BATTERY,
        75.0,
    ),
    "the only battery is pulled out": (
        ac(1) | supply("BAT0", type="Battery", present=0, status="Unknown"),
        MAINS,
        None,
    ),
    "charge instead of energy": (
        ac(0) | battery("Discharging", charge_now=1_000_000, charge_full=4_000_000),
        BATTERY,
        25.0,
    ),
    "one reports energy, one charge: their percents": (
        ac(0)
        | battery("Discharging", energy_now=1, energy_full=2, capacity=50)
        | battery("Discharging", "BAT1", charge_now=1, charge_full=4, capacity=30),
        BATTERY,
        40.0,
    ),
    "percent alone": (ac(0) | battery("Discharging", capacity=42), BATTERY, 42.0),
    "a full capacity of 0 is broken: percent": (
        ac(0) | battery("Discharging", energy_now=5, energy_full=0, capacity=42),
        BATTERY,
        42.0,
    ),
    "more energy than when full": (
        ac(1) | battery("Full", energy_now=41, energy_full=40),
        MAINS,
        100.0,
    ),
    "a percent beyond reason is none": (
        ac(0) | battery("Discharging", capacity=65535),
        BATTERY,
        None,
    ),
    "dock with three USB supplies, one online": (
        ac(0)
        | usb(0, "ucsi-source-psy-USBC000:001", "USB_C")
        | usb(1, "ucsi-source-psy-USBC000:002", "USB_PD")
        | usb(0, "ucsi-source-psy-USBC000:003")
        | battery("Charging"),
        MAINS,
        75.0,
    ),
    "USB-PD charger that is too weak": (
        ac(0) | usb(1, "usb", "USB_PD_DRP") | battery("Discharging"),
        MAINS,
        75.0,
    ),
    "programmable supply says 2": (ac(0) | usb(2, "usb", "USB") | battery("Full"), MAINS, 75.0),
    "tablet on a wireless pad": (
        usb(1, "wireless", "Wireless") | battery("Not charging"),
        MAINS,
        75.0,
    ),
    "UPS, mains there": (
        supply("ups", type="UPS", status="Charging", capacity=100),
        MAINS,
        100.0,
    ),
    "UPS, full": (supply("ups", type="UPS", status="Full", capacity=100), MAINS, 100.0),
    "UPS, power cut": (supply("ups", type="UPS", status="Discharging", capacity=64), UPS, 64.0),
    "UPS, power cut, and a desktop's USB-C port": (
        usb(0, "ucsi") | supply("ups", type="UPS", status="Discharging", capacity=64),
        UPS,
        64.0,
    ),
    "UPS as large as the laptop's battery": (
        ac(1) | battery("Full") | supply("ups", type="UPS", status="Full", capacity=10),
        MAINS,
        75.0,
    ),
    "EIO from the charger, discharging": (ac(UNREADABLE) | battery("Discharging"), BATTERY, 75.0),
    "EIO from the charger, charging": (ac(UNREADABLE) | battery("Charging"), MAINS, 75.0),
    "EIO from the charger, state unknown": (ac(UNREADABLE) | battery("Unknown"), UNKNOWN, 75.0),
    "EIO from the charger, full": (ac(UNREADABLE) | battery("Full"), UNKNOWN, 75.0),
    "garbage from the charger, state unknown": (ac("?") | battery("Unknown"), UNKNOWN, 75.0),
    "EIO from the battery's state, charger off": (ac(0) | battery(UNREADABLE), BATTERY, 75.0),
    "EIO from the battery's state, charger on": (ac(1) | battery(UNREADABLE), MAINS, 75.0),
    "EIO from the battery's energy": (
        ac(0) | battery("Discharging", energy_now=UNREADABLE, energy_full=40, capacity=33),
        BATTERY,
        33.0,
    ),
    "garbage from the battery's energy": (
        ac(0) | battery("Discharging", energy_now="-", energy_full="x"),
        BATTERY,
        None,
    ),
    "EIO from everything's kind": (supply("BAT0", type=UNREADABLE, status="Full"), UNKNOWN, None),
}


@pytest.mark.parametrize("case", CASES)
def test_power_is_read_rightly(tmp_path, case):
    files, source, percent = CASES[case]
    read = LinuxPower(plant(tmp_path, files)).read()
    assert read.source is source
    assert read.percent == (None if percent is None else pytest.approx(percent))


def test_a_kernel_without_power_supplies_is_unknown(tmp_path):
    assert LinuxPower(tmp_path / "missing").read() == Power(UNKNOWN, None)


def test_the_watch_sees_the_charger_come_and_go(tmp_path):
    watch = ChargerWatch(plant(tmp_path, ac(1) | battery("Full") | MOUSE))
    first = watch.read()
    assert watch.read() == first == (b"1\n",)
    plant(tmp_path, ac(0))
    assert watch.read() != first


def test_the_watch_survives_a_dock_that_goes_and_finds_one_that_comes(tmp_path):
    plant(tmp_path, ac(0) | usb(1, "dock", "USB_PD"))
    watch = ChargerWatch(tmp_path)
    before = watch.read()
    shutil.rmtree(tmp_path / "dock")
    (tmp_path / "AC" / "online").unlink()
    plant(tmp_path, ac(0))
    assert [watch.read() for _ in range(20)][-1] != before
    plant(tmp_path, usb(1, "dock", "USB_PD"))
    assert any(watch.read() == before for _ in range(20))
