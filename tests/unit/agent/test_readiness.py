"""Every rule of the policy, its rank, its sentence and the time of the next look."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import (
    OF_ONE,
    Action,
    PolicyReason,
    WorkerLimits,
    decide,
    seconds_allowed,
)
from pleb_agent.core.readings import Power, PowerSource, Presence, PresenceKind, Readings
from tests.unit.agent.policy_moments import (
    FREE,
    GIB,
    NOW,
    PREFERENCES,
    RANKS,
    boosted,
    clock,
    later,
    someone,
)

UNREADABLE = Presence(PresenceKind.UNREADABLE, problem="The compositor does not report input.")
BATTERY = {"on_battery": True, "battery_percent": 60}


def look(readings=FREE, preferences=PREFERENCES, **changes):
    return decide(readings, msgspec.structs.replace(preferences, **changes))[0]


def objecting(rank):
    reason, read, preferred = rank
    return reason, replace(FREE, **read), msgspec.structs.replace(PREFERENCES, **preferred)


def test_a_free_desktop_works():
    decision = look()
    assert (decision.action, decision.reason) == (Action.RUN, PolicyReason.READY)
    assert decision.limits == WorkerLimits(share_percent=100, memory_bytes=4 * GIB)


def test_the_clock_of_these_tests_is_right():
    assert (clock(NOW).weekday, clock(NOW).minute) == (1, 14 * 60 + 14)


def test_every_reason_has_its_moment():
    ranked = {reason for reason, _, _ in RANKS}
    others = {
        PolicyReason.READY,
        PolicyReason.STARTING,
        PolicyReason.INPUT_UNREADABLE,
        PolicyReason.SETTLING,
    }
    assert ranked | others | OF_ONE == set(PolicyReason)


@pytest.mark.parametrize("rank", RANKS, ids=lambda rank: rank[0].value)
def test_every_reason_objects_alone(rank):
    reason, readings, preferences = objecting(rank)
    decision = look(readings, preferences)
    stops = {
        PolicyReason.SHUTTING_DOWN,
        PolicyReason.SUSPENDING,
        PolicyReason.DISK_FULL,
        PolicyReason.MEMORY_SHORT,
    }
    assert decision.reason is reason
    assert decision.action is (Action.STOP if reason in stops else Action.PAUSE)
    assert str(decision.sentence).endswith(".")
    assert decision.look_again_seconds > 0


@pytest.mark.parametrize(("upper", "lower"), list(itertools.combinations(RANKS, 2)))
def test_the_first_in_rank_decides(upper, lower):
    if "presence" in upper[1] and "presence" in lower[1]:
        readings = replace(FREE, presence=someone(60.0, fullscreen=True))
    else:
        readings = replace(FREE, **(upper[1] | lower[1]))
    decision = look(readings, msgspec.structs.replace(PREFERENCES, **(upper[2] | lower[2])))
    assert decision.reason is upper[0]


BOOSTABLE = {rank[0] for rank in RANKS[6:]}


OTHERS = [rank for rank in RANKS if rank[0] is not PolicyReason.PAUSED_BY_USER]
"""A boost takes the place of a pause: there is one override."""


@pytest.mark.parametrize("rank", OTHERS, ids=lambda rank: rank[0].value)
def test_a_boost_overrides_comfort_but_not_harm(rank):
    reason, readings, preferences = objecting(rank)
    decision = look(boosted(readings), preferences)
    assert decision.reason is (PolicyReason.READY if reason in BOOSTABLE else reason)
    if decision.action is Action.RUN:
        assert "60 more min" in str(decision.sentence)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"override": Override(OverrideKind.PAUSE)}, "until you resume"),
        ({"override": Override(OverrideKind.PAUSE, NOW + 600)}, "10 more min"),
        ({"override": Override(OverrideKind.PAUSE, NOW + 9000)}, "150 more min"),
        ({"override": Override(OverrideKind.PAUSE, NOW + 57_360)}, "16 more h"),
        ({"override": Override(OverrideKind.PAUSE, NOW + 5)}, "1 more min"),
        ({"free_disk_bytes": GIB // 2}, "512 MB.*disk.*1 GB"),
        ({"memory_available_bytes": GIB // 8}, "410 MB.*128 MB"),
        ({"worker_memory_bytes": 5 * GIB}, "5 GB of memory.*4 GB.*memory_bytes_idle"),
        ({"hottest_celsius": 90.4}, "90 °C.*82 °C"),
        ({"power": Power(PowerSource.BATTERY, 90.0)}, "On battery"),
        ({"power": Power(PowerSource.UPS, 90.0)}, "UPS"),
        ({"programs": frozenset({"steam"})}, "steam"),
        ({"programs": frozenset({"vlc", "blender", "steam"})}, "blender and 2 more"),
        ({"presence": someone(60.0)}, "3 min after"),
        ({"presence": UNREADABLE}, "The compositor does not report input. .*while_in_use"),
        ({"cpu_others_percent": 75.0}, "75 %.*45 %"),
    ],
)
def test_sentences_have_their_values(changes, words):
    assert re.search(words, str(look(replace(FREE, **changes)).sentence))


@pytest.mark.parametrize(
    ("hours", "words", "seconds"),
    [
        ("tue 15:00-18:00", "at 15:00", 46 * 60),
        ("mon 15:00-18:00", "on Monday at 15:00", (6 * 1440 + 46) * 60),
        ("tue 00:00-14:14", "on Tuesday at 00:00", (6 * 1440 + 586) * 60),
    ],
)
def test_the_sentence_of_the_hours_says_when_they_begin(hours, words, seconds):
    decision = look(hours=hours)
    assert words in str(decision.sentence)
    assert decision.look_again_seconds == seconds


@pytest.mark.parametrize(
    ("changes", "preferred", "seconds"),
    [
        ({"override": Override(OverrideKind.PAUSE, NOW + 7200)}, {}, 7200),
        ({"override": Override(OverrideKind.PAUSE)}, {}, 60),
        ({"presence": someone(60.0)}, {}, 120),
        ({"presence": someone(-500.0)}, {}, 180),
        ({"presence": someone(60.0)}, {"hours": "tue 14:00-14:15"}, 60),
        ({"presence": someone(150.0)}, {"while_in_use": True}, 30),
        ({"hottest_celsius": 95.0}, {}, 60),
        ({}, {}, 60),
        ({}, {"hours": "tue 14:00-14:15"}, 60),
        ({"override": Override(OverrideKind.BOOST, NOW + 20)}, {}, 20),
        ({"hottest_celsius": 95.0, "override": Override(OverrideKind.BOOST, NOW + 20)}, {}, 20),
        (
            {"programs": frozenset({"x"}), "override": Override(OverrideKind.BOOST, NOW + 20)},
            {},
            20,
        ),
        ({"now": NOW + 50, "local_time": clock(NOW + 50)}, {"hours": "tue 14:00-14:15"}, 10),
    ],
)
def test_the_next_look_is_when_time_alone_changes_the_answer(changes, preferred, seconds):
    assert look(replace(FREE, **changes), **preferred).look_again_seconds == seconds


# -- who is there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("presence", "reason"),
    [
        (Presence(PresenceKind.NO_SESSION), PolicyReason.READY),
        (someone(179.0), PolicyReason.IN_USE),
        (someone(180.0), PolicyReason.READY),
        (someone(0.0, locked=True), PolicyReason.READY),
        (someone(0.0, locked=True, fullscreen=True), PolicyReason.READY),
        (someone(3600.0, fullscreen=True), PolicyReason.FULLSCREEN),
        (UNREADABLE, PolicyReason.INPUT_UNREADABLE),
        (replace(UNREADABLE, starting=True), PolicyReason.STARTING),
        (replace(UNREADABLE, locked=True), PolicyReason.READY),
    ],
)
def test_who_uses_the_pc(presence, reason):
    assert look(replace(FREE, presence=presence)).reason is reason


def test_idle_minutes_of_zero_are_never_in_use():
    assert look(replace(FREE, presence=someone(0.0)), idle_minutes=0).reason is PolicyReason.READY


def test_fullscreen_may_be_allowed():
    readings = replace(FREE, presence=someone(fullscreen=True))
    assert look(readings, pause_on_fullscreen=False).reason is PolicyReason.READY


@pytest.mark.parametrize("presence", [someone(10.0), UNREADABLE])
def test_work_while_in_use_is_slower(presence):
    decision = look(
        replace(FREE, presence=presence),
        while_in_use=True,
        cpu_percent_in_use=40,
        gpu_percent_in_use=30,
    )
    assert decision.action is Action.RUN
    assert decision.limits == WorkerLimits(share_percent=40, memory_bytes=2 * GIB)
    assert "at 40 %" in str(decision.sentence)


def test_a_boost_takes_the_limits_of_an_idle_pc():
    decision = look(boosted(replace(FREE, presence=someone(10.0))), while_in_use=True)
    assert decision.limits == WorkerLimits(share_percent=100, memory_bytes=4 * GIB)


def test_memory_ceilings_may_be_chosen():
    chosen = {"memory_bytes_in_use": GIB, "memory_bytes_idle": 3 * GIB}
    in_use = replace(FREE, presence=someone(10.0))
    assert look(**chosen).limits.memory_bytes == 3 * GIB
    assert look(in_use, while_in_use=True, **chosen).limits.memory_bytes == GIB
    unknown = replace(FREE, memory_total_bytes=None)
    assert look(unknown).limits.memory_bytes is None
    assert look(unknown, **chosen).limits.memory_bytes == 3 * GIB


# -- single readings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "preferred"),
    [
        ({"power": Power(PowerSource.UNKNOWN)}, {}),
        ({"power": Power(PowerSource.BATTERY, 60.0)}, BATTERY),
        ({"power": Power(PowerSource.BATTERY, None)}, BATTERY),
        ({"power": Power(PowerSource.BATTERY, 0.0)}, BATTERY | {"battery_percent": 0}),
        ({"cpu_others_percent": None}, {}),
        ({"cpu_others_percent": 60.0}, {}),
        ({"cpu_others_percent": 100.0}, {"cpu_others_percent": None}),
        ({"cpu_others_percent": 100.0, "presence": Presence(PresenceKind.NO_SESSION)}, {}),
        ({"gpus": ()}, {}),
        ({"gpus": (replace(FREE.gpus[0], others_percent=None),)}, {}),
        ({"gpus": (replace(FREE.gpus[0], others_percent=99.0),)}, {}),
        ({"hottest_celsius": None}, {}),
        ({"hottest_celsius": 150.0}, {"hottest_celsius": None}),
        ({"hottest_celsius": 79.0, "critical_headroom_celsius": 6.0}, {}),
        ({"hottest_celsius": 79.0, "critical_headroom_celsius": 1.0}, {"hottest_celsius": None}),
        ({"memory_available_bytes": None}, {}),
        ({"memory_available_bytes": int(8 * GIB * 0.05)}, {}),
        ({"memory_available_bytes": GIB // 4, "memory_total_bytes": 3 * GIB}, {}),
        ({"memory_available_bytes": GIB // 4, "memory_total_bytes": None}, {}),
        ({"memory_total_bytes": None, "worker_memory_bytes": 64 * GIB}, {}),
        ({"worker_memory_bytes": 4 * GIB}, {}),
        ({"free_disk_bytes": GIB}, {}),
        ({"override": Override(OverrideKind.PAUSE, NOW)}, {}),
    ],
)
def test_what_does_not_object(changes, preferred):
    assert look(replace(FREE, **changes), **preferred).action is Action.RUN


@pytest.mark.parametrize(
    ("changes", "preferred", "reason"),
    [
        ({"power": Power(PowerSource.BATTERY, 59.9)}, BATTERY, PolicyReason.ON_BATTERY),
        ({"power": Power(PowerSource.UPS, None)}, BATTERY, PolicyReason.ON_BATTERY),
        ({"hottest_celsius": 90.0}, {}, PolicyReason.TOO_HOT),
        ({"hottest_celsius": 79.0, "critical_headroom_celsius": 5.0}, {}, PolicyReason.TOO_HOT),
        ({"hottest_celsius": 90.0, "critical_headroom_celsius": 30.0}, {}, PolicyReason.TOO_HOT),
        ({"memory_available_bytes": GIB // 4 - 1, "memory_total_bytes": GIB}, {}, None),
        ({"worker_memory_bytes": 4 * GIB + 1}, {}, None),
        ({"worker_memory_bytes": GIB + 1}, {"memory_bytes_idle": GIB}, None),
    ],
)
def test_what_just_objects(changes, preferred, reason):
    decision = look(replace(FREE, **changes), **preferred)
    assert decision.reason is (reason or PolicyReason.MEMORY_SHORT)


def test_the_ups_objects_to_a_boost_too():
    decision = look(boosted(replace(FREE, power=Power(PowerSource.UPS, 100.0))))
    assert (decision.action, decision.reason) == (Action.STOP, PolicyReason.ON_BATTERY)


def test_a_headless_host_with_the_defaults_runs():
    assert look(Readings(now=NOW), Preferences()).action is Action.RUN


# -- stop fast, resume slowly ---------------------------------------------------------------


def story(steps, preferences=PREFERENCES):
    """Look at each (seconds later, changes to the free desktop); return the reasons."""
    memory, reasons = decide(FREE, preferences)[1], []
    for seconds, changes in steps:
        decision, memory = decide(replace(later(FREE, seconds), **changes), preferences, memory)
        reasons.append(decision.reason)
    return reasons


Changes = dict[str, Any]
HOT: Changes = {"hottest_celsius": 90.0}
BUSY: Changes = {"cpu_others_percent": 70.0}
READY, SETTLING = PolicyReason.READY, PolicyReason.SETTLING


def test_heat_has_two_thresholds():
    steps = [(0, HOT), (9, {"hottest_celsius": 82.0}), (20, {"hottest_celsius": 81.9}), (51, {})]
    assert story(steps) == [PolicyReason.TOO_HOT, PolicyReason.TOO_HOT, SETTLING, READY]


def test_charge_has_two_thresholds():
    preferences = msgspec.structs.replace(PREFERENCES, **BATTERY)
    steps = [
        (seconds, {"power": Power(PowerSource.BATTERY, percent)})
        for seconds, percent in [(0, 60.0), (9, 59.0), (18, 64.9), (27, 65.0), (57, 65.0)]
    ]
    battery = PolicyReason.ON_BATTERY
    assert story(steps, preferences) == [READY, battery, battery, SETTLING, READY]


def test_load_has_two_thresholds():
    steps: list[tuple[float, Changes]]
    steps = [(0, BUSY), (9, {"cpu_others_percent": 46.0}), (20, {"cpu_others_percent": 45.0})]
    assert story(steps) == [PolicyReason.CPU_BUSY, PolicyReason.CPU_BUSY, SETTLING]


@pytest.mark.parametrize(
    "changes",
    [
        HOT,
        BUSY,
        {"presence": someone(fullscreen=True)},
        {"presence": UNREADABLE},
        {"programs": frozenset({"steam"})},
        {"power": Power(PowerSource.BATTERY, 90.0)},
        {"free_disk_bytes": 0},
        {"memory_available_bytes": 0},
        {"suspending": True},
    ],
)
def test_what_comes_and_goes_must_stay_away(changes):
    away: list[tuple[float, Changes]] = [(2, {}), (31.9, {}), (32, {})]
    assert story([(1, changes), *away])[1:] == [SETTLING, SETTLING, READY]
    again = story([(1, changes), (2, {}), (20, changes), (21, {}), (50.9, {}), (51, {})])
    assert again[3:] == [SETTLING, SETTLING, READY], "the wait begins again"


@pytest.mark.parametrize("changes", [BUSY, {"presence": UNREADABLE}])
def test_before_work_has_begun_nothing_has_to_settle(changes):
    _, memory = decide(replace(FREE, **changes), PREFERENCES)
    assert decide(later(FREE, 1), PREFERENCES, memory)[0].action is Action.RUN


def test_each_recent_stop_doubles_the_wait_up_to_five_minutes():
    waits, memory, now = [], decide(FREE, PREFERENCES)[1], 0.0
    for _ in range(6):
        _, memory = decide(replace(later(FREE, now), **BUSY), PREFERENCES, memory)
        decision, memory = decide(later(FREE, now + 1), PREFERENCES, memory)
        waits.append(decision.look_again_seconds)
        now += 1 + decision.look_again_seconds
        decision, memory = decide(later(FREE, now), PREFERENCES, memory)
        assert decision.action is Action.RUN
    assert waits == [30, 60, 120, 240, 300, 300]
    _, memory = decide(replace(later(FREE, now + 1801), **BUSY), PREFERENCES, memory)
    decision, memory = decide(later(FREE, now + 1802), PREFERENCES, memory)
    assert decision.look_again_seconds == 30, "long ago is forgotten"


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [({"presence": someone(0.0)}, 180), ({"override": Override(OverrideKind.PAUSE, NOW + 60)}, 60)],
)
def test_what_has_its_own_wait_waits_no_longer(changes, seconds):
    memory = decide(FREE, PREFERENCES)[1]
    decision, memory = decide(replace(FREE, **changes), PREFERENCES, memory)
    assert decision.look_again_seconds == seconds
    decision, _ = decide(later(replace(FREE, **changes), seconds), PREFERENCES, memory)
    assert decision.action is Action.RUN


def test_input_pauses_at_once_also_while_settling():
    assert story([(1, BUSY), (2, {}), (3, {"presence": someone(0.0)})])[2] is PolicyReason.IN_USE


@pytest.mark.parametrize(
    "acted",
    [
        lambda readings, preferences: (boosted(readings), preferences),
        lambda readings, preferences: (
            readings,
            msgspec.structs.replace(preferences, idle_minutes=1.0),
        ),
    ],
)
def test_a_manual_change_does_not_wait(acted):
    _, memory = decide(FREE, PREFERENCES)
    _, memory = decide(replace(FREE, **BUSY), PREFERENCES, memory)
    decision, memory = decide(later(FREE, 5), PREFERENCES, memory)
    assert decision.reason is SETTLING
    readings, preferences = acted(later(FREE, 6), PREFERENCES)
    decision, _ = decide(readings, preferences, memory)
    assert decision.action is Action.RUN


def test_a_manual_change_does_not_forget_recent_stops():
    _, memory = decide(FREE, PREFERENCES)
    for seconds in (1, 2):
        _, memory = decide(replace(later(FREE, seconds), **BUSY), PREFERENCES, memory)
        acted = boosted(later(FREE, seconds))
        decision, memory = decide(acted, PREFERENCES, memory)
        assert decision.action is Action.RUN
    _, memory = decide(replace(later(FREE, 3), **BUSY), PREFERENCES, memory)
    decision, _ = decide(later(FREE, 4), PREFERENCES, memory)
    assert decision.look_again_seconds == 120


def test_resuming_by_hand_does_not_wait():
    paused = replace(FREE, override=Override(OverrideKind.PAUSE))
    _, memory = decide(FREE, PREFERENCES)
    _, memory = decide(replace(paused, **BUSY), PREFERENCES, memory)
    _, memory = decide(later(paused, 5), PREFERENCES, memory)
    decision, _ = decide(later(FREE, 6), PREFERENCES, memory)
    assert decision.action is Action.RUN


def test_a_worker_over_its_ceiling_stays_away_for_ten_minutes():
    large: Changes = {"worker_memory_bytes": 5 * GIB}
    gone: Changes = {"worker_memory_bytes": 0}
    reasons = story([(0, large), (1, gone), (599, gone), (600, gone)])
    assert reasons == [PolicyReason.MEMORY_SHORT] * 3 + [READY]
    _, memory = decide(replace(FREE, **large), PREFERENCES)
    decision, _ = decide(replace(later(FREE, 590), **gone), PREFERENCES, memory)
    assert decision.look_again_seconds == 10


def test_a_worker_too_large_for_a_pc_in_use_resumes_when_it_is_idle():
    preferences = msgspec.structs.replace(PREFERENCES, while_in_use=True)
    in_use: Changes = {"presence": someone(0.0), "worker_memory_bytes": 3 * GIB}
    _, memory = decide(replace(FREE, **in_use), preferences)
    gone = replace(FREE, **in_use | {"worker_memory_bytes": 0})
    decision, memory = decide(later(gone, 1), preferences, memory)
    assert decision.reason is PolicyReason.MEMORY_SHORT
    assert re.search("3 GB of memory.*2 GB.*in use", str(decision.sentence))
    assert decision.look_again_seconds == 60
    decision, memory = decide(later(gone, 170), preferences, memory)
    assert decision.look_again_seconds == 10
    assert decide(later(gone, 180), preferences, memory)[0].action is Action.RUN


def test_input_pauses_a_large_worker_too_instead_of_waiting_for_its_checkpoint():
    large = replace(FREE, presence=someone(0.0), worker_memory_bytes=3 * GIB)
    decision = look(large)
    assert (decision.action, decision.reason) == (Action.PAUSE, PolicyReason.IN_USE)


def test_after_memory_was_short_there_must_be_room_for_the_worker_too():
    short = {"memory_available_bytes": GIB // 8, "worker_memory_bytes": GIB}
    freed = {"memory_available_bytes": GIB, "worker_memory_bytes": 0}
    roomy = {"memory_available_bytes": 2 * GIB, "worker_memory_bytes": 0}
    reasons = story([(0, short), (5, freed), (10, roomy), (40, roomy)])
    assert reasons == [PolicyReason.MEMORY_SHORT, PolicyReason.MEMORY_SHORT, SETTLING, READY]


def test_a_clock_that_is_set_back_does_not_hold_work_for_long():
    alone = replace(FREE, presence=Presence(PresenceKind.NO_SESSION))
    _, memory = decide(alone, PREFERENCES)
    _, memory = decide(replace(alone, **HOT), PREFERENCES, memory)
    _, memory = decide(later(alone, 1), PREFERENCES, memory)
    decision, memory = decide(later(alone, -86_400), PREFERENCES, memory)
    assert decision.reason is SETTLING
    assert decision.look_again_seconds == 300
    _, memory = decide(replace(alone, worker_memory_bytes=5 * GIB), PREFERENCES)
    for seconds, reason in ((-86_400, PolicyReason.MEMORY_SHORT), (-86_400 + 601, READY)):
        decision, memory = decide(later(alone, seconds), PREFERENCES, memory)
        assert decision.reason is reason


@pytest.mark.parametrize(
    ("hours", "boost", "seconds"),
    [
        ("", False, None),
        ("tue 14:00-14:44", False, 1800.0),
        ("tue 20:00-21:00", False, None),
        ("tue 14:00-14:44", True, None),
    ],
)
def test_hours_say_when_the_pc_must_be_done(hours, boost, seconds):
    preferences = msgspec.structs.replace(PREFERENCES, hours=hours)
    assert seconds_allowed(boosted(FREE, 60) if boost else FREE, preferences) == seconds
