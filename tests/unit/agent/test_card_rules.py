"""When a card works: what holds for it alone, while the processor and other cards go on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pleb_agent.core.moment import PolicyMemory
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.readiness import OF_ONE, Action, Decision, PolicyReason, decide
from tests.unit.agent.policy_moments import CARD, FREE, GIB, NOW, PREFERENCES, boosted, gpu, later

if TYPE_CHECKING:
    from pleb_agent.core.readings import Readings

OTHER = "cuda-1"
PAUSE = Override(OverrideKind.PAUSE, NOW + 600)


def card(**changes: Any) -> Readings:
    return replace(FREE, gpus=(replace(gpu(2.0), **changes),))


def look(readings: Readings = FREE, device: str = CARD, **preferred: Any) -> Decision:
    preferences = msgspec.structs.replace(PREFERENCES, **preferred)
    return decide(readings, preferences, device=device)[0]


OBJECTIONS = [
    (PolicyReason.GPU_BUSY, card(others_percent=26.0), {}),
    (PolicyReason.DEVICE_OFF, FREE, {"devices_off": [CARD]}),
    (PolicyReason.DEVICE_PAUSED, replace(FREE, device_pauses=((CARD, PAUSE),)), {}),
    (PolicyReason.CARD_MEMORY_SHORT, card(memory_used_bytes=8 * GIB - 2**28), {}),
    (PolicyReason.CARD_TOO_HOT, card(celsius=80.0), {}),
    (
        PolicyReason.CARD_PROGRAM_RUNS,
        replace(FREE, programs=frozenset({"blender"})),
        {"gpu_pause_programs": ["blender"]},
    ),
]


@pytest.mark.parametrize("case", OBJECTIONS, ids=lambda case: case[0].value)
def test_each_reason_stops_its_card_alone(case) -> None:
    reason, readings, preferred = case
    decision = look(readings, **preferred)
    assert decision.reason is reason
    assert str(decision.sentence)
    gives_memory_back = reason in {PolicyReason.DEVICE_OFF, PolicyReason.CARD_MEMORY_SHORT}
    assert decision.action is (Action.STOP if gives_memory_back else Action.PAUSE)
    for device in ("cpu", OTHER):
        assert look(readings, device, **preferred).action is Action.RUN or (
            device == OTHER and reason is PolicyReason.CARD_PROGRAM_RUNS
        )


def test_every_reason_of_one_device_is_here() -> None:
    assert {reason for reason, _, _ in OBJECTIONS} == OF_ONE


def test_cards_are_off_until_the_user_wants_them_and_the_processor_is_on() -> None:
    assert look(use_gpu=False).reason is PolicyReason.DEVICE_OFF
    assert look(device="cpu", use_gpu=False).action is Action.RUN
    off = look(device="cpu", devices_off=["cpu"])
    assert (off.reason, off.action) == (PolicyReason.DEVICE_OFF, Action.STOP)
    assert look(devices_off=["cpu"]).action is Action.RUN


def test_what_concerns_the_whole_pc_stops_its_cards_too() -> None:
    one: dict[str, Any]
    for one in ({"suspending": True}, {"hottest_celsius": 95.0}, {"override": PAUSE}):
        for device in ("cpu", CARD):
            assert look(replace(FREE, **one), device).action is not Action.RUN


def test_programs_on_the_processor_and_a_large_worker_there_do_not_stop_a_card() -> None:
    readings = replace(FREE, cpu_others_percent=99.0, worker_memory_bytes=7 * GIB)
    assert look(readings).action is Action.RUN
    assert look(readings, "cpu").action is not Action.RUN


def test_run_now_overrides_what_is_only_considerate() -> None:
    assert look(boosted(card(others_percent=90.0))).action is Action.RUN
    assert look(boosted(card(celsius=90.0))).reason is PolicyReason.CARD_TOO_HOT
    assert look(boosted(replace(FREE, device_pauses=((CARD, PAUSE),)))).action is Action.PAUSE


def test_a_pause_of_one_device_ends_by_itself() -> None:
    readings = replace(FREE, device_pauses=((CARD, PAUSE),))
    assert look(readings).look_again_seconds == 600
    assert look(later(readings, 601)).action is Action.RUN


@pytest.mark.parametrize(
    ("celsius", "share"),
    [(None, 100), (50.0, 100), (72.0, 100), (73.0, 90), (76.0, 50), (79.0, 10), (79.9, 10)],
)
def test_a_card_rests_more_the_nearer_it_is_to_its_limit(celsius, share) -> None:
    assert look(card(celsius=celsius)).limits.share_percent == share
    assert look(card(celsius=celsius), "cpu").limits.share_percent == 100


def test_a_card_under_a_duty_cycle_settles_below_its_limit() -> None:
    """A card that would get 95 degrees hot, in a room of 25, with a minute's inertia."""
    celsius, memory, seen = 25.0, PolicyMemory(), []
    for second in range(1200):
        readings = later(card(celsius=celsius), second)
        decision, memory = decide(readings, PREFERENCES, memory, device=CARD)
        share = decision.limits.share_percent if decision.action is Action.RUN else 0
        celsius += (25 + 70 * share / 100 - celsius) / 60
        seen.append((celsius, share))
    assert max(degrees for degrees, _ in seen) < 80
    assert all(74 < degrees < 80 and share >= 50 for degrees, share in seen[-300:])


def test_shares_of_a_device_are_the_least_of_all() -> None:
    shares: dict[str, Any] = {"gpu_percent_idle": 60, "device_shares": {CARD: 40, "cpu": 70}}
    assert look(**shares).limits.share_percent == 40
    assert look(device=OTHER, **shares).limits.share_percent == 60
    assert look(device="cpu", **shares).limits.share_percent == 70


def test_memory_of_a_card_is_given_back_until_there_is_room_again() -> None:
    """Our worker holds 2 GiB; another program takes all but a little, then goes."""

    def held(free: int, ours: int) -> Readings:
        return card(memory_used_bytes=8 * GIB - free, worker_bytes=ours)

    story = [
        (0, held(4 * GIB, 2 * GIB), PolicyReason.READY),
        (5, held(GIB // 4, 2 * GIB), PolicyReason.CARD_MEMORY_SHORT),
        (10, held(2 * GIB + GIB // 4, 0), PolicyReason.CARD_MEMORY_SHORT),
        (15, held(6 * GIB, 0), PolicyReason.SETTLING),
        (45, held(6 * GIB, 0), PolicyReason.READY),
    ]
    memory = PolicyMemory()
    for seconds, readings, reason in story:
        decision, memory = decide(later(readings, seconds), PREFERENCES, memory, device=CARD)
        assert decision.reason is reason, seconds


def test_a_card_that_the_worker_filled_alone_is_used_again_when_it_is_empty() -> None:
    memory = PolicyMemory()
    full = card(memory_used_bytes=8 * GIB - GIB // 4, worker_bytes=8 * GIB - GIB // 4)
    decision, memory = decide(full, PREFERENCES, memory, device=CARD)
    assert decision.reason is PolicyReason.CARD_MEMORY_SHORT
    empty = later(card(memory_used_bytes=GIB // 8, worker_bytes=0), 5)
    assert decide(empty, PREFERENCES, memory, device=CARD)[0].action is Action.RUN


def test_heat_and_load_of_a_card_have_two_thresholds() -> None:
    for name, values in (("others_percent", (26.0, 13.0, 12.0)), ("celsius", (80.0, 72.5, 71.5))):
        memory, reasons = PolicyMemory(has_run=True, running=True), []
        for second, value in enumerate(values):
            readings = later(card(**{name: value}), second)
            decision, memory = decide(readings, PREFERENCES, memory, device=CARD)
            reasons.append(decision.action is Action.RUN or decision.reason)
        assert reasons[0] is reasons[1]
        assert reasons[2] is PolicyReason.SETTLING
