"""Whose result counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.quorum import (
    NeedsAnother,
    Result,
    Undecided,
    Valid,
    decide,
    pair,
)
from pleb_shared.protocol.reasons import ReasonCode, because

FAR, NEAR = 1.0, 1e-5


def result(number, digest="a", *, account=None, network="", trusted=False, proven=False):
    return Result(number, account or f"account-{number}", network, trusted, proven, digest)


def test_nothing_decides_nothing():
    assert isinstance(decide([], {}, 0.1), Undecided)


@pytest.mark.parametrize(
    ("only", "counts"),
    [
        (result(1), False),
        (result(1, proven=True), True),
        (result(1, trusted=True), True),
    ],
)
def test_one_result_counts_if_its_host_is_believed(only, counts):
    decision = decide([only], {}, 0.1)
    assert isinstance(decision, Valid if counts else NeedsAnother)
    if isinstance(decision, NeedsAnother):
        assert not decision.disagreement


def test_two_new_hosts_of_different_people_confirm_each_other():
    decision = decide([result(1), result(2)], {}, 0.1)
    assert decision == Valid(1, (1, 2), (), because(ReasonCode.HOSTS_AGREE, count=2))


@pytest.mark.parametrize(
    "second",
    [result(2, account="account-1"), result(2, network="203.0.113.0/24")],
    ids=["same account", "same network"],
)
def test_one_person_is_one_voice(second):
    first = result(1, network="203.0.113.0/24")
    assert isinstance(decide([first, second], {}, 0.1), NeedsAnother)


def test_unequal_digests_agree_within_the_tolerance_and_not_beyond():
    results = [result(1, "a"), result(2, "b")]
    assert isinstance(decide(results, {pair("b", "a"): NEAR}, 1e-3), Valid)
    decision = decide(results, {pair("a", "b"): FAR}, 1e-3)
    assert isinstance(decision, NeedsAnother)
    assert decision.disagreement
    assert isinstance(decide(results, {}, 1e-3), NeedsAnother), "unknown is not near"
    assert isinstance(decide(results, {pair("a", "b"): float("nan")}, 1e-3), NeedsAnother)


def test_a_proven_host_alone_convicts_nobody():
    decision = decide([result(1, "a", proven=True), result(2, "b")], {}, 0.1)
    assert isinstance(decision, NeedsAnother)


def test_the_third_decides():
    decision = decide([result(1, "lie"), result(2, "b"), result(3, "b")], {}, 0.1)
    assert isinstance(decision, Valid)
    assert (decision.canonical, decision.agreeing, decision.disagreeing) == (2, (2, 3), (1,))
    assert decision.reason == because(ReasonCode.MAJORITY_AGREES, agreeing=2, hosts=3)
    assert decision.against == because(ReasonCode.MAJORITY_DISAGREES, agreeing=2, hosts=3)


def test_a_trusted_host_decides_alone_even_against_many():
    results = [result(n, "lie") for n in (1, 2, 3)]
    decision = decide([*results, result(4, "b", trusted=True)], {}, 0.1)
    assert isinstance(decision, Valid)
    assert (decision.canonical, decision.disagreeing) == (4, (1, 2, 3))
    assert decision.against == because(ReasonCode.TRUSTED_HOST_DISAGREES)


def test_two_trusted_hosts_that_differ_need_a_third_trusted_one():
    decision = decide([result(1, "a", trusted=True), result(2, "b", trusted=True)], {}, 0.1)
    assert isinstance(decision, NeedsAnother)
    assert decision.trusted_only


def test_two_against_two_convicts_nobody():
    results = [result(n, "ab"[n % 2]) for n in range(4)]
    assert isinstance(decide(results, {}, 0.1), NeedsAnother)


def test_five_that_all_differ_are_for_a_trusted_host():
    decision = decide([result(n, str(n)) for n in range(5)], {}, 0.1)
    assert isinstance(decision, NeedsAnother)
    assert decision.trusted_only


RESULTS = st.lists(
    st.builds(
        Result,
        assignment=st.integers(0, 10**6),
        account=st.sampled_from("xyz"),
        network=st.sampled_from(["", "n", "m"]),
        trusted=st.booleans(),
        proven=st.booleans(),
        digest=st.sampled_from("abcd"),
    ),
    max_size=6,
    unique_by=lambda r: r.assignment,
)
DISTANCES = st.fixed_dictionaries(
    {pair(a, b): st.sampled_from([NEAR, FAR]) for a, b in itertools.combinations("abcd", 2)}
)


@given(RESULTS, DISTANCES)
def test_whoever_is_found_wrong_was_found_so_by_a_trusted_host_or_two_people(results, distances):
    decision = decide(results, distances, 1e-3)
    if not isinstance(decision, Valid):
        return
    names = {r.assignment: r for r in results}
    assert set(decision.agreeing) | set(decision.disagreeing) == set(names)
    assert not set(decision.agreeing) & set(decision.disagreeing)
    assert decision.canonical in decision.agreeing
    winners = [names[n] for n in decision.agreeing]
    if decision.disagreeing:
        assert any(w.trusted for w in winners) or len({w.account for w in winners}) >= 2
    else:
        assert any(w.trusted or w.proven for w in winners) or len({w.account for w in winners}) >= 2


@given(RESULTS, DISTANCES)
def test_an_untrusted_person_cannot_convict_alone_by_repeating(results, distances):
    """However many results one account sends, they are one voice."""
    sent = [r for r in results if r.account == "x" and not r.trusted]
    honest = Result(-1, "honest", "", False, True, "e")
    decision = decide([honest, *sent], distances, 1e-3)
    assert not (isinstance(decision, Valid) and -1 in decision.disagreeing)
