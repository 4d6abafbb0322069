"""The user's pause and boost over restarts, and clocks that are set."""

from __future__ import annotations

import pytest

from pleb_agent.control.overrides import Overrides
from pleb_agent.core.override import NO_OVERRIDE, OverrideKind
from pleb_agent.journal.journal import Journal

HOUR = 3600.0


class Clocks:
    def __init__(self):
        self.wall, self.steady = 1_800_000_000.0, 50.0

    def pass_by(self, seconds, set_by=0.0):
        self.wall += seconds + set_by
        self.steady += seconds


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def open_overrides(journal, clocks):
    return Overrides(journal, lambda: clocks.wall, lambda: clocks.steady)


def boosted(overrides, clocks):
    return overrides.current.is_active(OverrideKind.BOOST, clocks.wall)


@pytest.mark.parametrize("set_by", [-3 * HOUR, -20 * 365 * 86_400.0])
def test_setting_the_clock_back_does_not_lengthen_a_boost(journal, clocks, set_by):
    overrides = open_overrides(journal, clocks)
    overrides.boost(clocks.wall + HOUR)
    clocks.pass_by(HOUR / 2, set_by)
    assert boosted(overrides, clocks)
    clocks.pass_by(HOUR / 2)
    assert not boosted(overrides, clocks)


def test_a_boost_ends_while_the_machine_sleeps(journal, clocks):
    overrides = open_overrides(journal, clocks)
    overrides.boost(clocks.wall + HOUR)
    clocks.pass_by(60, 2 * HOUR)
    assert not boosted(overrides, clocks)


def test_a_boost_and_a_pause_outlive_the_process(journal, clocks):
    open_overrides(journal, clocks).boost(clocks.wall + HOUR)
    clocks.pass_by(HOUR / 2)
    again = open_overrides(journal, clocks)
    assert boosted(again, clocks)
    clocks.pass_by(HOUR / 2 + 1)
    assert not boosted(again, clocks)
    again.pause(None)
    clocks.pass_by(100 * HOUR)
    assert open_overrides(journal, clocks).current.is_active(OverrideKind.PAUSE, clocks.wall)


def test_a_pause_of_devices_outlives_the_process_and_ends_by_itself(journal, clocks):
    overrides = open_overrides(journal, clocks)
    overrides.pause(clocks.wall + HOUR, ["cuda-1", "cuda-0"])
    overrides.pause(None, ["rocm-0"])
    again = open_overrides(journal, clocks)
    assert [name for name, _ in again.device_pauses] == ["cuda-0", "cuda-1", "rocm-0"]
    assert again.in_force.kind is OverrideKind.NONE
    again.resume(["cuda-1"])
    assert [name for name, _ in again.device_pauses] == ["cuda-0", "rocm-0"]
    clocks.pass_by(HOUR)
    assert [name for name, _ in open_overrides(journal, clocks).device_pauses] == ["rocm-0"]


def test_to_resume_all_resumes_devices_too_and_to_end_a_boost_does_not(journal, clocks):
    overrides = open_overrides(journal, clocks)
    overrides.pause(None, ["cuda-0"])
    overrides.boost(clocks.wall + HOUR)
    overrides.resume()
    assert not boosted(overrides, clocks)
    assert overrides.device_pauses
    overrides.pause(None)
    overrides.resume()
    assert not overrides.device_pauses


def test_another_programs_pause_is_apart_from_the_users(journal, clocks):
    found = open_overrides(journal, clocks)
    found.pause(None)
    found.pause_by_hook(clocks.wall + 60, "guests")
    found.resume_by_hook()
    assert found.in_force.kind is OverrideKind.PAUSE, "the user's own goes on"
    found.pause_by_hook(None, "guests")
    again = open_overrides(journal, clocks)
    assert (again.hook.reason, again.hook.kind) == ("guests", OverrideKind.PAUSE)
    again.resume()
    assert again.hook == NO_OVERRIDE
    assert again.in_force == NO_OVERRIDE


def test_the_end_of_a_boost_leaves_another_programs_pause(journal, clocks):
    found = open_overrides(journal, clocks)
    found.pause_by_hook(None, "guests")
    found.boost(clocks.wall + 60)
    found.resume()
    assert found.hook.reason == "guests"
