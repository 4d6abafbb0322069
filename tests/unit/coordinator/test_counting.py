"""Whose result counts: the rules of `core.counting`, one by one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.counting import (
    Case,
    Decision,
    Fleet,
    Need,
    Weight,
    Word,
    decide,
    needed_pairs,
)
from pleb_coordinator.core.records import Counting
from pleb_coordinator.core.tolerance import Tolerance, pair
from pleb_coordinator.core.voices import Party
from pleb_shared.protocol.reasons import ReasonCode

ALONE = Fleet(trusted=0, proven=9, active=20, disputes_waiting=0)
WITH_TRUSTED = Fleet(trusted=1, proven=9, active=20, disputes_waiting=0)
NEW, PROVEN, TRUSTED = Weight.NEW, Weight.PROVEN, Weight.TRUSTED


def word(number, digest="a", weight=NEW, *, author=False, account=None, network=""):
    party = Party(number, account or f"account {number}", networks=frozenset({network}))
    return Word(number, party, weight, digest, author)


def case(counting, *words, outstanding=(), decided=False, asked=0, waited=False):
    return Case(counting, words, tuple(outstanding), decided, asked, waited)


TOLERANCE = Tolerance(agree=0.001, near=0.003, near_unlike={})


def decided(found, near=(), fleet=ALONE):
    """The decision; different digests are far apart, except those of `near` (first, second)."""
    distances = {pair(*names): 0.002 for names in near}
    apart = {names: distances.get(names, 1.0) for names in needed_pairs(found)}
    return decide(found, apart, TOLERANCE, fleet)


def counts(decision):
    return decision.canonical is not None


def test_nothing_decides_nothing():
    assert not counts(decided(case(Counting.UNKNOWN)))


class TestFirstTries:
    def test_a_trusted_hosts_word_counts_at_once(self):
        assert counts(decided(case(Counting.UNKNOWN, word(1, weight=TRUSTED, author=True))))

    @pytest.mark.parametrize("counting", [Counting.AUTHOR, Counting.CHECKED])
    def test_a_proven_authors_word_counts_at_once(self, counting):
        found = decided(case(counting, word(1, weight=PROVEN, author=True)))
        assert (found.canonical, found.agreeing) == (1, (1,))
        assert found.need == (Need.CHECK if counting is Counting.CHECKED else None)

    def test_one_that_is_no_longer_proven_does_not(self):
        found = decided(case(Counting.AUTHOR, word(1, author=True)))
        assert not counts(found)
        assert found.need == Need.CHECK

    def test_a_held_one_waits_for_an_anchor(self):
        author = word(1, weight=PROVEN, author=True)
        found = decided(case(Counting.HELD, author))
        assert (counts(found), found.need) == (False, Need.CHECK)
        waiting = decided(case(Counting.HELD, author, outstanding=[PROVEN]))
        assert (counts(waiting), waiting.need) == (False, None)
        agreed = decided(case(Counting.HELD, author, word(2, weight=PROVEN)))
        assert (agreed.canonical, agreed.agreeing) == (1, (1, 2))

    @pytest.mark.parametrize(
        "friend",
        [
            word(2, weight=PROVEN, account="account 1"),
            word(2, weight=PROVEN, network="home"),
            word(2),
        ],
        ids=["same account", "same network", "new host"],
    )
    def test_who_is_no_anchor_for_it_does_not_confirm_it(self, friend):
        author = word(1, weight=PROVEN, author=True, network="home")
        assert not counts(decided(case(Counting.HELD, author, friend)))

    def test_a_result_that_came_too_fast_needs_two_other_proven_voices(self):
        author = word(1, weight=PROVEN, author=True)
        one = decided(case(Counting.FAST, author, word(2, weight=PROVEN)))
        assert (counts(one), one.need) == (False, Need.CHECK)
        two = case(Counting.FAST, author, word(2, weight=PROVEN), word(3, weight=PROVEN))
        assert counts(decided(two))
        assert counts(decided(case(Counting.FAST, author, word(2, weight=TRUSTED))))


class TestOwnData:
    def test_a_result_counts_alone_whoever_it_is_of(self):
        for weight in Weight:
            found = decided(case(Counting.OWN, word(1, weight=weight, author=True)))
            assert (found.canonical, found.agreeing, found.need) == (1, (1,), None)
            assert found.reason.code == ReasonCode.OWN_DATA

    def test_nothing_is_compared_and_nobody_found_wrong(self):
        two = case(Counting.OWN, word(1, author=True), word(2, "far", weight=TRUSTED))
        assert needed_pairs(two) == []
        found = decided(two)
        assert (found.canonical, found.wrong) == (1, ())


class TestExams:
    def test_new_hosts_that_agree_prove_nothing(self):
        found = decided(case(Counting.EXAM, *(word(n) for n in range(1, 50))))
        assert (counts(found), found.need) == (False, Need.CHECK)

    def test_an_anchor_and_two_more_count(self):
        anchor = word(1, weight=PROVEN)
        waits = case(Counting.EXAM, anchor, word(2), outstanding=[NEW])
        assert not counts(decided(waits))
        enough = case(Counting.EXAM, anchor, word(2), word(3), outstanding=[NEW])
        assert decided(enough).agreeing == (1, 2, 3)
        last = case(Counting.EXAM, anchor, word(2))
        assert counts(decided(last)), "no one else is at it"

    def test_a_trusted_anchor_counts_at_once(self):
        found = case(Counting.EXAM, word(1), word(2, weight=TRUSTED), outstanding=[NEW])
        assert decided(found).by_trusted

    def test_an_anchor_does_not_confirm_its_own_friends(self):
        anchor = word(1, weight=PROVEN, network="home")
        friend, other = word(2, network="home"), word(3)
        found = decided(case(Counting.EXAM, anchor, friend, other))
        assert found.agreeing == (1, 3)
        assert found.wrong == ()

    def test_a_lie_beside_the_anchor_is_a_dispute(self):
        found = decided(case(Counting.EXAM, word(1, weight=PROVEN), word(2, "b"), word(3, "b")))
        assert found.disputed
        assert found.need == Need.DECIDER

    def test_later_lies_cost_one_comparison_each(self):
        words = [word(1, weight=PROVEN), *(word(n, f"lie {n}") for n in range(2, 60))]
        assert len(needed_pairs(case(Counting.EXAM, *words))) == 58
        assert needed_pairs(case(Counting.EXAM, *words[1:])) == []


class TestWholeFleet:
    def test_most_of_a_fleet_counts_when_the_slow_have_answered(self):
        words = [word(n) for n in range(1, 9)]
        early = case(Counting.FLEET, *words)
        assert not counts(decided(early))
        slow = case(Counting.FLEET, *words, outstanding=[NEW] * 3, waited=True)
        assert not counts(decided(slow)), "less than three quarters"
        assert counts(decided(case(Counting.FLEET, *words, outstanding=[NEW] * 2, waited=True)))

    def test_one_alone_never_counts(self):
        fleet = Fleet(trusted=0, proven=0, active=1, disputes_waiting=0)
        assert not counts(decided(case(Counting.FLEET, word(1), waited=True), fleet=fleet))

    @pytest.mark.parametrize(("liars", "sure"), [(1, True), (3, False), (7, False)])
    def test_a_large_lead_decides(self, liars, sure):
        words = [word(n) for n in range(1, 8)] + [word(10 + n, "b") for n in range(liars)]
        found = decided(case(Counting.FLEET, *words, waited=True))
        assert counts(found) is sure or found.wrong == tuple(10 + n for n in range(liars))
        if liars == 7:
            assert not counts(found)

    def test_many_hosts_of_one_network_are_one_voice(self):
        words = [word(n, network="cafe") for n in range(1, 30)]
        assert not counts(decided(case(Counting.FLEET, *words, waited=True)))


class TestDisputes:
    honest, liar = word(1, weight=PROVEN, author=True), word(2, "b", PROVEN)

    def test_one_against_one_decides_nothing(self):
        found = decided(case(Counting.CHECKED, self.honest, self.liar))
        assert (counts(found), found.disputed, found.wrong) == (False, True, ())
        assert found.need == Need.DECIDER

    def test_a_trusted_host_is_asked_while_its_queue_is_short(self):
        both = case(Counting.CHECKED, self.honest, self.liar)
        assert decided(both, fleet=WITH_TRUSTED).need == Need.TRUSTED_DECIDER
        busy = Fleet(trusted=1, proven=9, active=20, disputes_waiting=3)
        assert decided(both, fleet=busy).need == Need.DECIDER

    def test_proven_voices_decide_with_a_lead_of_two(self):
        two = case(Counting.CHECKED, self.honest, self.liar, word(3, weight=PROVEN))
        assert decided(two).need == Need.DECIDER
        three = case(
            Counting.CHECKED, self.honest, self.liar, word(3, weight=PROVEN), word(4, weight=PROVEN)
        )
        found = decided(three)
        assert (found.canonical, found.wrong, found.by_trusted) == (1, (2,), False)

    def test_after_five_it_waits_and_is_not_dropped(self):
        both = case(Counting.CHECKED, self.honest, self.liar, asked=5)
        assert decided(both).need == Need.LATER

    def test_a_trusted_word_ends_it(self):
        found = decided(case(Counting.HELD, self.honest, self.liar, word(3, weight=TRUSTED)))
        assert (found.canonical, found.agreeing, found.wrong) == (3, (1, 3), (2,))
        assert found.by_trusted

    def test_a_trusted_word_against_three_that_agree_is_computed_twice(self):
        volunteers = [word(n, "b", PROVEN) for n in range(2, 5)]
        first = decided(case(Counting.HELD, word(1, weight=TRUSTED), *volunteers))
        assert (first.disputed, first.need, first.wrong) == (True, Need.TRUSTED_DECIDER, ())
        twice = [word(1, weight=TRUSTED), word(1, weight=TRUSTED)]
        assert decided(case(Counting.HELD, *twice, *volunteers)).wrong == (2, 3, 4)
        differs = [word(1, weight=TRUSTED), word(9, "b", TRUSTED)]
        assert decided(case(Counting.HELD, *differs, *volunteers)).disputed


class TestNearMisses:
    def test_another_opinion_is_asked_for(self):
        near = case(Counting.HELD, word(1, weight=PROVEN, author=True), word(2, "b", PROVEN))
        found = decided(near, near=[("a", "b")])
        assert (found.disputed, found.need) == (True, Need.DECIDER)

    def test_the_decision_does_not_find_them_wrong(self):
        found = decided(
            case(Counting.HELD, word(1, weight=PROVEN, author=True), word(2, "b", TRUSTED)),
            near=[("a", "b")],
        )
        assert (found.canonical, found.near, found.wrong) == (2, (1,), ())


ANY_WORD = st.builds(
    word,
    st.integers(1, 12),
    st.sampled_from("abcd"),
    st.sampled_from(Weight),
    author=st.booleans(),
    account=st.sampled_from(["x", "y", "z", None]),
)
ANY_CASE = st.builds(
    Case,
    st.sampled_from(Counting),
    st.lists(ANY_WORD, max_size=8, unique_by=lambda one: one.assignment).map(tuple),
    st.lists(st.sampled_from(Weight), max_size=3).map(tuple),
    st.booleans(),
    st.integers(0, 6),
    st.booleans(),
)


@given(ANY_CASE, st.sampled_from([ALONE, WITH_TRUSTED]))
def test_what_counts_is_anchored(found, fleet):
    decision = decided(found, fleet=fleet)
    assert not (counts(decision) and decision.disputed)
    if not counts(decision):
        assert decision.agreeing == decision.wrong == ()
        return
    agreeing = [one for one in found.words if one.assignment in decision.agreeing]
    canonical = next(one for one in found.words if one.assignment == decision.canonical)
    assert canonical in agreeing
    if found.counting is Counting.OWN:
        assert decision.wrong == ()
    elif found.counting is not Counting.FLEET:
        assert any(one.weight is not NEW for one in agreeing)
    assert not set(decision.agreeing) & {*decision.wrong, *decision.near}


@given(ANY_CASE)
def test_no_number_of_new_hosts_convicts_anybody(found):
    new = [word(100 + n, one.digest) for n, one in enumerate(found.words)]
    only_new = case(Counting.EXAM, *new)
    assert isinstance(decided(only_new), Decision)
    assert decided(only_new).wrong == ()


@given(ANY_CASE)
def test_the_order_of_results_changes_nobodys_verdict(found):
    verdicts = set()
    for words in itertools.islice(itertools.permutations(found.words), 24):
        decision = decided(case(found.counting, *words, decided=found.decided))
        verdicts.add(tuple(sorted(decision.wrong)))
    if any(one.weight is TRUSTED for one in found.words):
        return  # of two trusted hosts that disagree, neither is ever found wrong
    assert len(verdicts) == 1 or found.counting is Counting.FLEET
