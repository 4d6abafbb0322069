"""How a host's record grows and ends, and how often it is checked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pleb_coordinator.core.reputation import (
    FIRST_BAN_SECONDS,
    Standing,
    after_caught,
    after_convicted,
    after_delivered,
    after_pardoned,
    after_undelivered,
    after_valid,
    audit_drawn,
    audit_rate,
    fastest_step,
    new_alarm,
    rate_out_of_turn,
    spot_checks_left,
    surge_units,
)
from pleb_shared.protocol.project import Verification

RULES = Verification(tolerance=1e-3, tolerance_ceiling=1e-2)
FRESH = Standing(
    record=0,
    proven=False,
    suspended_by=None,
    recent=0,
    setbacks=0,
    refused=0,
    bans=0,
    banned_until=0.0,
    ban_reason=None,
    credit=0.0,
    units_valid=0,
)
NOW = 1e9
QUIET = new_alarm(1)


def grown(standing, times):
    for _ in range(times):
        standing = after_valid(standing, RULES, 2.0)
    return standing


def test_ten_confirmed_results_in_a_row_prove_a_host():
    assert not grown(FRESH, 9).proven
    proven = grown(FRESH, 10)
    assert (proven.proven, proven.record, proven.credit) == (True, 10, 20.0)


def test_a_suspended_host_is_not_proven_by_results():
    assert not grown(replace(FRESH, suspended_by=7), 100).proven


def test_an_explicit_failure_starts_a_new_hosts_run_again_but_not_a_lost_lease():
    run = grown(FRESH, 9)
    assert after_undelivered(run, RULES, failed=True).record == 0
    assert after_undelivered(run, RULES, failed=False).record == 9
    assert after_undelivered(grown(FRESH, 50), RULES, failed=True).proven


def test_more_than_four_of_twenty_undelivered_make_a_host_new():
    standing = grown(FRESH, 300)
    for _ in range(4):
        standing = after_undelivered(standing, RULES, failed=False)
        standing = after_delivered(standing, late=False)
    assert standing.proven
    standing = after_undelivered(standing, RULES, failed=False)
    assert (standing.proven, standing.record) == (False, 0)


def test_late_delivery_clears_the_mark_and_twenty_others_push_it_out():
    marked = after_undelivered(grown(FRESH, 20), RULES, failed=False)
    assert after_delivered(marked, late=True).recent == 0
    for _ in range(20):
        marked = after_delivered(marked, late=False)
    assert marked.recent == 0


def test_the_third_conviction_bans_and_each_ban_doubles():
    standing = grown(FRESH, 15)
    lengths = []
    for number in range(9):
        standing = after_convicted(standing, RULES, 1.0, 7, NOW)
        assert (standing.record, standing.proven) == (0, False)
        if number % 3 == 2:
            lengths.append(standing.banned_until - NOW)
            assert standing.refused == 0
    assert lengths == [FIRST_BAN_SECONDS, 2 * FIRST_BAN_SECONDS, 4 * FIRST_BAN_SECONDS]


def test_one_conviction_is_forgiven_for_two_hundred_accepted_results():
    standing = after_convicted(FRESH, RULES, 0.0, 7, NOW)
    assert grown(standing, 199).refused == 1
    assert grown(standing, 200).refused == 0


def test_a_pardon_restores_everything():
    before = replace(grown(FRESH, 50), refused=2)
    banned = after_convicted(before, RULES, 30.0, 7, NOW)
    assert banned.banned_until > NOW
    after = after_pardoned(banned, before.record, before.proven, 30.0)
    assert (after.record, after.proven, after.credit) == (50, True, before.credit)
    assert (after.banned_until, after.ban_reason) == (0.0, None)


EVENTS = st.lists(st.sampled_from(["valid", "convicted", "failed", "expired", "late"]), max_size=60)


@given(EVENTS)
def test_no_history_makes_nonsense(history):
    standing = FRESH
    for what in history:
        if what == "valid":
            standing = after_valid(standing, RULES, 1.0)
        elif what == "convicted":
            standing = after_convicted(standing, RULES, 5.0, 7, NOW)
        elif what == "late":
            standing = after_delivered(standing, late=True)
        else:
            standing = after_undelivered(standing, RULES, failed=what == "failed")
        assert standing.record >= 0
        assert standing.credit >= 0
        assert 0 <= standing.recent < 2**20
        assert standing.refused < RULES.ban_after
        assert standing.record >= RULES.new_host_units or not standing.proven


@pytest.mark.parametrize(
    ("record", "rate"), [(0, 1.0), (10, 1.0), (20, 1 / 3), (50, 1 / 9), (200, 0.05), (10_000, 0.05)]
)
def test_a_longer_record_is_checked_less(record, rate):
    assert audit_rate(record, QUIET, RULES) == pytest.approx(rate)


@pytest.mark.parametrize("record", [0, 20, 50, 200, 10_000])
def test_what_is_known_to_be_no_check_is_checked_as_often_as_others_are_compared(record):
    rate = audit_rate(record, QUIET, RULES)
    checks = rate / (1 + rate)  # of all that a host computes, if as many are drawn for it as of it
    compared = checks + (1 - checks) * rate
    assert rate_out_of_turn(rate) == pytest.approx(compared)


SURGE = surge_units(64, 20)


def calm(alarm):
    """The alarm, without the surge that each conviction begins."""
    return replace(alarm, surge_until=alarm.counted)


def test_a_liar_that_was_checked_seldom_raises_the_floor_for_a_while():
    alarm = after_caught(QUIET, 0.05, RULES, SURGE)
    assert audit_rate(10_000, calm(alarm), RULES) == pytest.approx(0.1)
    for _ in range(10):
        alarm = after_caught(alarm, 0.05, RULES, SURGE)
    assert audit_rate(10_000, calm(alarm), RULES) == pytest.approx(0.25), "and no higher"
    later = replace(alarm, counted=alarm.counted + 1000)
    assert audit_rate(10_000, later, RULES) == pytest.approx(0.125)
    assert audit_rate(10_000, replace(alarm, counted=10**6), RULES) == pytest.approx(0.05)


def test_half_of_all_is_checked_for_a_round_and_as_long_as_a_check_takes_after_a_conviction():
    assert (surge_units(64, 20), surge_units(64, 300)) == (64, 600)
    alarm = after_caught(QUIET, 0.05, RULES, SURGE)
    assert audit_rate(10_000, replace(alarm, counted=SURGE - 1), RULES) == pytest.approx(0.5)
    assert audit_rate(10_000, replace(alarm, counted=SURGE), RULES) < 0.2
    for _ in range(10):
        alarm = after_caught(alarm, 0.05, RULES, SURGE)
    assert alarm.surge_until == 3 * SURGE, "and no longer"
    often = after_caught(QUIET, 0.5, RULES, SURGE)
    assert audit_rate(10_000, often, RULES) == 0.05, "who is checked often lets little in"


def test_two_liars_that_let_much_in_raise_the_checks_of_short_records():
    one = after_caught(QUIET, 0.2, RULES, SURGE)
    assert audit_rate(100, calm(one), RULES) == pytest.approx(0.1)
    two = after_caught(one, 0.2, RULES, SURGE)
    assert audit_rate(100, replace(calm(two), audit_floor=0.0), RULES) == pytest.approx(1 / 9)
    many = two
    for _ in range(50):
        many = after_caught(many, 0.2, RULES, SURGE)
    assert audit_rate(100, replace(calm(many), audit_floor=0.0), RULES) == pytest.approx(0.25), (
        "c stays below its ceiling"
    )
    none = after_caught(after_caught(QUIET, 1.0, RULES, SURGE), 1.0, RULES, SURGE)
    assert audit_rate(100, none, RULES) == pytest.approx(0.1 / 1.9), (
        "nothing enters when everything is checked"
    )


def test_checks_double_again_only_when_four_times_as_many_lies_have_entered():
    alarm, scales = QUIET, []
    for _ in range(6):  # 1.5 lies enter for each that is caught at that rate
        alarm = after_caught(alarm, 0.4, RULES, SURGE)
        scales.append(alarm.audit_record)
    assert scales == [10, 20, 20, 20, 20, 40]


def test_spot_checks_are_a_part_of_all_units():
    alarm = replace(QUIET, counted=1000, spot_checks=51)
    assert spot_checks_left(alarm, RULES, wanted=False)
    assert not spot_checks_left(replace(alarm, spot_checks=52), RULES, wanted=False)
    assert spot_checks_left(replace(alarm, spot_checks=52), RULES, wanted=True)


def test_checks_are_drawn_at_the_rate_and_the_same_every_time():
    drawn = [audit_drawn(b"secret", unit, 0.05) for unit in range(20_000)]
    assert drawn == [audit_drawn(b"secret", unit, 0.05) for unit in range(20_000)]
    assert 0.042 < sum(drawn) / len(drawn) < 0.058
    assert drawn != [audit_drawn(b"other", unit, 0.05) for unit in range(20_000)]
    assert not any(audit_drawn(b"secret", unit, 0.0) for unit in range(1000))
    assert all(audit_drawn(b"secret", unit, 1.0) for unit in range(1000))


def test_fast_results_make_a_proven_host_seem_fast_only_slowly():
    assert fastest_step(None, 300, 100, proven=True) == 3
    assert fastest_step(3.0, 2, 100, proven=True) == pytest.approx(3 / 1.1)
    assert fastest_step(3.0, 3000, 100, proven=True) == pytest.approx(3.3)
    assert fastest_step(3.0, 100, 100, proven=False) == 1
