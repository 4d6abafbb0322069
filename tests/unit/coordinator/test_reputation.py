"""How a host's record grows and ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.reputation import (
    FIRST_BAN_SECONDS,
    Standing,
    after_invalid,
    after_refused,
    after_unanswered,
    after_valid,
    audit_drawn,
    audit_is_trusted,
)
from pleb_shared.protocol.project import Verification

RULES = Verification(tolerance=1e-3, tolerance_ceiling=1e-2, new_host_units=10, ban_after=3)
FRESH = Standing(0, 0, 0, 0.0, None, 0.0, 0)
NOW = 1e9


def grown(standing, times):
    for _ in range(times):
        standing = after_valid(standing, RULES, 2.0)
    return standing


def test_ten_valid_results_prove_a_host_and_a_thousand_buy_no_more_than_twenty():
    assert grown(FRESH, 10).consecutive_valid == 10
    long = grown(FRESH, 1000)
    assert (long.consecutive_valid, long.units_valid, long.credit) == (20, 1000, 2000.0)


def test_whoever_dodges_often_enough_is_no_longer_proven():
    standing = grown(FRESH, 1000)
    for _ in range(11):
        standing = after_unanswered(standing)
    assert standing.consecutive_valid == 9


def test_an_unreadable_result_costs_the_record_but_proves_nothing():
    standing = after_refused(grown(FRESH, 15))
    assert (standing.consecutive_valid, standing.refused, standing.bans) == (0, 0, 0)


def test_the_third_proven_lie_bans_and_each_ban_doubles():
    standing = grown(FRESH, 15)
    lengths = []
    for number in range(9):
        standing = after_invalid(standing, RULES, 1.0, NOW)
        assert standing.consecutive_valid == 0
        if number % 3 == 2:
            lengths.append(standing.banned_until - NOW)
            assert standing.refused == 0
    assert lengths == [FIRST_BAN_SECONDS, 2 * FIRST_BAN_SECONDS, 4 * FIRST_BAN_SECONDS]


@given(st.lists(st.sampled_from(["valid", "invalid", "refused", "unanswered"]), max_size=60))
def test_no_history_makes_nonsense(history):
    standing = FRESH
    for what in history:
        if what == "valid":
            standing = after_valid(standing, RULES, 1.0)
        elif what == "invalid":
            standing = after_invalid(standing, RULES, 5.0, NOW)
            assert standing.consecutive_valid == 0
        elif what == "refused":
            standing = after_refused(standing)
        else:
            standing = after_unanswered(standing)
        assert 0 <= standing.consecutive_valid <= 20
        assert standing.credit >= 0
        assert standing.refused < RULES.ban_after


def test_audits_are_drawn_at_the_rate_and_the_same_every_time():
    drawn = [audit_drawn(b"secret", unit, 0.05) for unit in range(20_000)]
    assert drawn == [audit_drawn(b"secret", unit, 0.05) for unit in range(20_000)]
    assert 0.042 < sum(drawn) / len(drawn) < 0.058
    assert drawn != [audit_drawn(b"other", unit, 0.05) for unit in range(20_000)]
    assert 0.45 < sum(audit_is_trusted(b"secret", unit) for unit in range(5000)) / 5000 < 0.55
    assert not any(audit_drawn(b"secret", unit, 0.0) for unit in range(1000))
    assert all(audit_drawn(b"secret", unit, 1.0) for unit in range(1000))
