"""Quiet, balanced, full."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.preferences import Preferences, default_preferences
from pleb_agent.core.presets import CUSTOM, PRESETS, preset_of, with_preset
from pleb_agent.core.readiness import Action, PolicyReason, decide
from pleb_agent.core.readings import NO_SESSION, Power, PowerSource
from pleb_shared.errors import InputError
from tests.unit.agent.policy_moments import FREE, RANKS, gpu

MINE = Preferences(threads=3, hours="mon 00:00-24:00", pause_programs=["steam"], use_gpu=True)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 64])
def test_balanced_is_the_default(cores):
    assert with_preset(default_preferences(cores), "balanced", cores) == default_preferences(cores)
    assert preset_of(default_preferences(cores), cores) == "balanced"


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, (1, 1, 1)), (2, (1, 1, 2)), (4, (1, 2, 4)), (15, (3, 7, 15))]
)
def test_threads_are_shares_of_the_cores(cores, threads):
    given_threads = [with_preset(MINE, name, cores).threads for name in PRESETS]
    assert tuple(given_threads) == threads


@given(st.sampled_from(sorted(PRESETS)), st.sampled_from(sorted(PRESETS)), st.integers(1, 256))
def test_the_last_preset_counts_and_the_rest_stays(first, second, cores):
    preferences = with_preset(with_preset(MINE, first, cores), second, cores)
    assert preferences == with_preset(MINE, second, cores)
    assert preset_of(preferences, cores) == second
    unnamed = set(Preferences.__struct_fields__) - {"threads", *PRESETS[second].values}
    kept = msgspec.structs.asdict(MINE)
    assert {name: kept[name] for name in unnamed} == {
        name: value
        for name, value in msgspec.structs.asdict(preferences).items()
        if name in unnamed
    }


@pytest.mark.parametrize("name", PRESETS)
def test_each_names_the_same_and_is_within_the_ranges(name):
    assert set(PRESETS[name].values) == set(PRESETS["full"].values)
    preferences = with_preset(Preferences(), name, 8)
    assert msgspec.convert(msgspec.to_builtins(preferences), Preferences) == preferences


def test_other_values_are_custom():
    assert preset_of(Preferences(threads=4, idle_minutes=4), 8) == CUSTOM
    assert preset_of(Preferences(threads=3), 8) == CUSTOM


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'loud'; take one of quiet, balanced, full"):
        with_preset(MINE, "loud", 8)


HARM = {
    PolicyReason.SHUTTING_DOWN,
    PolicyReason.SUSPENDING,
    PolicyReason.PAUSED_BY_USER,
    PolicyReason.DISK_FULL,
    PolicyReason.MEMORY_SHORT,
    PolicyReason.TOO_HOT,
}


CHOSEN = {
    PolicyReason.PROGRAM_RUNS,
    PolicyReason.OUTSIDE_HOURS,
    PolicyReason.SIGNALS,
    PolicyReason.PAUSED_BY_PROGRAM,
}
"""Only the user sets them; no preset does."""


@pytest.mark.parametrize(
    "rank", [rank for rank in RANKS if rank[0] not in CHOSEN], ids=lambda rank: rank[0].value
)
def test_full_without_a_session_stops_for_the_user_and_for_harm_only(rank):
    reason, read, preferred = rank
    readings = replace(FREE, **(read | {"presence": NO_SESSION}))
    preferences = msgspec.structs.replace(
        with_preset(Preferences(use_gpu=True), "full", 4), **preferred
    )
    readings = (
        readings if reason is not PolicyReason.TOO_HOT else replace(readings, hottest_celsius=95.0)
    )
    decision, _ = decide(readings, preferences)
    assert (decision.action is not Action.RUN) is (reason in HARM)


def test_full_runs_on_an_empty_battery_of_a_loaded_machine():
    readings = replace(
        FREE,
        presence=NO_SESSION,
        power=Power(PowerSource.BATTERY, 0.0),
        cpu_others_percent=100.0,
        gpus=(gpu(100.0),),
    )
    full = with_preset(Preferences(use_gpu=True), "full", 2)
    assert decide(readings, full)[0].action is Action.RUN
