"""What holds for every moment and every sequence of readings."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_agent.core.moment import Moment
from pleb_agent.core.override import NO_OVERRIDE, Override, OverrideKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import SETTLE_SECONDS, Action, PolicyMemory, PolicyReason, decide
from pleb_agent.core.readings import (
    NO_SESSION,
    Power,
    PowerSource,
    Presence,
    PresenceKind,
    Readings,
)
from pleb_agent.core.rules import BOOSTABLE, RULES
from tests.unit.agent.policy_moments import FREE, GIB, NOW, clock, gpu

READY_SOON = 1e-6
UNBOOSTABLE = RULES[: len(RULES) - len(BOOSTABLE)]

ages = st.sampled_from([-50.0, 0.0, 1.0, 59.0, 179.0, 180.0, 181.0, 3600.0])
overrides = st.one_of(
    st.just(NO_OVERRIDE),
    st.builds(
        Override,
        st.sampled_from([OverrideKind.PAUSE, OverrideKind.BOOST]),
        st.one_of(st.none(), st.floats(NOW - 10, NOW + 4000)),
    ),
)
presences = st.one_of(
    st.just(NO_SESSION),
    st.builds(
        Presence,
        st.sampled_from([PresenceKind.READABLE, PresenceKind.UNREADABLE]),
        ages.map(lambda age: NOW - age),
        st.booleans(),
        st.booleans(),
    ),
)
powers = st.builds(Power, st.sampled_from(PowerSource), st.one_of(st.none(), st.floats(0, 100)))
loads = st.one_of(st.none(), st.floats(0, 100))
sizes = st.sampled_from([0, GIB // 8, GIB, 3 * GIB, 5 * GIB])
rarely = st.sampled_from([False, False, False, True])
moments = st.builds(
    Readings,
    now=st.just(NOW),
    local_time=st.just(clock(NOW)),
    override=overrides,
    presence=presences,
    power=powers,
    suspending=rarely,
    shutting_down=rarely,
    cpu_others_percent=loads,
    gpus=loads.map(lambda load: (gpu(load),)),
    hottest_celsius=st.one_of(st.none(), st.floats(20, 110)),
    memory_available_bytes=st.one_of(st.none(), sizes),
    memory_total_bytes=st.one_of(st.none(), st.just(8 * GIB)),
    worker_memory_bytes=sizes,
    free_disk_bytes=st.sampled_from([0, GIB, 100 * GIB]),
    programs=st.sampled_from([frozenset(), frozenset(), frozenset({"steam"})]),
)
"""Any readings, of NOW."""
wants = st.builds(
    Preferences,
    on_battery=st.booleans(),
    battery_percent=st.integers(0, 100),
    while_in_use=st.booleans(),
    idle_minutes=st.sampled_from([0.0, 1.0, 3.0]),
    hours=st.sampled_from(["", "tue 14:00-14:15", "tue 14:16-15:00; wed 00:00-24:00"]),
    cpu_others_percent=st.one_of(st.none(), st.integers(1, 100)),
    gpu_others_percent=st.one_of(st.none(), st.integers(1, 100)),
    pause_on_fullscreen=st.booleans(),
    hottest_celsius=st.one_of(st.none(), st.integers(30, 120)),
    use_gpu=st.booleans(),
    memory_bytes_in_use=st.one_of(st.none(), st.just(GIB)),
)


def remembered(history, preferences):
    """Return what the policy remembers after looks at earlier moments."""
    memory = PolicyMemory()
    for back, readings in zip(range(len(history), 0, -1), history, strict=True):
        now = NOW - back * 7.0
        _, memory = decide(replace(readings, now=now), preferences, memory)
    return memory


@given(moments, wants, st.lists(moments, max_size=3))
@settings(max_examples=300)
def test_every_decision_is_whole(readings, preferences, history):
    decision, memory = decide(readings, preferences, remembered(history, preferences))
    assert 0 < decision.look_again_seconds < math.inf
    assert str(decision.sentence)
    assert memory.running is (decision.action is Action.RUN)
    assert (decision.action is Action.RUN) is (decision.reason is PolicyReason.READY)
    assert 1 <= decision.limits.share_percent <= 100


@given(moments, wants, st.lists(moments, max_size=3))
@settings(max_examples=300)
def test_nothing_runs_against_what_a_boost_cannot_override(readings, preferences, history):
    memory = remembered(history, preferences)
    decision, _ = decide(readings, preferences, memory)
    if any(rule(Moment(readings, preferences)) for rule in UNBOOSTABLE):
        assert decision.action is not Action.RUN
    if not readings.override.is_active(OverrideKind.BOOST, NOW) and any(
        rule(Moment(readings, preferences)) for rule in BOOSTABLE
    ):
        assert decision.action is not Action.RUN


@given(moments, wants, st.lists(moments, max_size=3), st.floats(0, 1))
@settings(max_examples=500)
def test_nothing_changes_by_time_alone_before_the_next_look(readings, preferences, history, share):
    decision, memory = decide(readings, preferences, remembered(history, preferences))
    now = NOW + share * (decision.look_again_seconds - READY_SOON)
    between = replace(readings, now=now, local_time=clock(now))
    again, _ = decide(between, preferences, memory)
    assert (again.action, again.reason) == (decision.action, decision.reason)
    assert again.limits == decision.limits


@given(moments, wants)
def test_a_boost_never_makes_it_worse(readings, preferences):
    plain = decide(replace(readings, override=NO_OVERRIDE), preferences)[0]
    boost = decide(replace(readings, override=Override(OverrideKind.BOOST)), preferences)[0]
    assert plain.action is not Action.RUN or boost.action is Action.RUN


STEADY = Preferences(use_gpu=True, on_battery=True)
swinging = st.fixed_dictionaries(
    {},
    optional={
        "cpu_others_percent": loads,
        "hottest_celsius": st.floats(60, 100),
        "power": powers,
        "suspending": st.booleans(),
        "gpus": loads.map(lambda load: (gpu(load),)),
        "programs": st.sampled_from([frozenset(), frozenset({"steam"})]),
        "free_disk_bytes": st.sampled_from([0, 100 * GIB]),
        "memory_available_bytes": st.sampled_from([0, 6 * GIB]),
    },
)


@given(st.lists(st.tuples(st.floats(0.1, 40), swinging), max_size=60))
@settings(max_examples=150)
def test_work_never_resumes_sooner_than_half_a_minute_after_it_stopped(steps):
    now, memory, stopped_at, resumed = NOW, decide(FREE, STEADY)[1], None, []
    for seconds, changes in steps:
        now += seconds
        decision, memory = decide(replace(FREE, now=now, **changes), STEADY, memory)
        if decision.action is not Action.RUN:
            stopped_at = now if stopped_at is None else stopped_at
        elif stopped_at is not None:
            assert now - stopped_at >= SETTLE_SECONDS
            resumed.append(now)
            stopped_at = None
    for at in resumed:
        assert sum(at <= other < at + 600 for other in resumed) <= 6
