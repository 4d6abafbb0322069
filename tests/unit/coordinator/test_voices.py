"""Accounts, teams and networks: who may confirm whom, and how many voices a group has."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.voices import Party, identifies, independent, network_of, voices

HOME, OFFICE = "203.0.113.0/24", "2001:db8:1::/48"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.1", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("192.168.0.7", "private"),
        ("172.16.0.1", "private"),
        ("169.254.1.1", "private"),
        ("fe80::1", "private"),
        ("fd00::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("100.64.0.1", "carrier"),
        ("100.127.255.254", "carrier"),
        ("::ffff:100.64.0.1", "carrier"),
        ("8.8.4.4", "8.8.4.0/24"),
        ("8.8.4.200", "8.8.4.0/24"),
        ("::ffff:8.8.4.4", "8.8.4.0/24"),
        ("2a01:4f8:1:2::3", "2a01:4f8:1::/48"),
        ("testclient", "unknown"),
        ("", "unknown"),
    ],
)
def test_networks(address, network):
    assert network_of(address) == network
    assert identifies(network), "hosts that share it are one voice"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "own:127.0.0.0/8"),
        ("::ffff:127.0.0.1", "own:127.0.0.0/8"),
        ("8.8.4.77", "own:8.8.4.64/26"),
        ("8.8.4.4", "8.8.4.0/24"),
        ("2a01:4f8:1::3", "own:2a01:4f8::/32"),
        ("10.0.0.1", "private"),
    ],
)
def test_the_operators_own_networks(address, network):
    own = [ip_network(text) for text in ("127.0.0.0/8", "8.8.4.64/26", "2a01:4f8::/32")]
    assert network_of(address, own) == network
    assert identifies(network) == (not network.startswith("own:"))


def party(host, account=None, team="", networks=()):
    return Party(host, account or f"account-{host}", team, frozenset(networks))


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        (party(1, networks=[HOME]), party(2, networks=[OFFICE]), True),
        (party(1), party(2), True),
        (party(1, "a", networks=[HOME]), party(2, "a", networks=[OFFICE]), False),
        (party(1, team="lab"), party(2, team="lab"), False),
        (party(1, team="lab"), party(2, team="home"), True),
        (party(1, networks=[HOME]), party(2, networks=[HOME, OFFICE]), False),
        (party(1, networks=["private"]), party(2, networks=["private"]), False),
        (party(1, networks=["carrier"]), party(2, networks=["private"]), True),
        (party(1, networks=["own:10.0.0.0/8"]), party(2, networks=["own:10.0.0.0/8"]), True),
        (party(1, "x", networks=["own:10.0.0.0/8"]), party(2, "x"), False),
        (party(1, "lab"), party(2, team="lab"), True),
        (party(1, networks=[""]), party(2, networks=[""]), True),
    ],
)
def test_independence(first, second, apart):
    assert independent(first, second) == independent(second, first) == apart
    assert voices([first, second]) == 1 + apart


def test_ipv4_and_ipv6_of_one_pc_join_what_was_seen_with_either():
    only_v4, only_v6 = party(1, networks=[HOME]), party(2, networks=[OFFICE])
    assert voices([only_v4, only_v6]) == 2
    assert voices([only_v4, only_v6, party(3, networks=[HOME, OFFICE])]) == 1


def test_a_host_is_one_voice_however_often_it_speaks():
    assert not independent(party(1), party(1))
    assert voices([party(1)] * 3) == 1
    assert voices([]) == 0


PARTIES = st.builds(
    Party,
    host=st.integers(1, 99),
    account=st.sampled_from(["a", "b", "c", "d", "e"]),
    team=st.sampled_from(["", "", "a", "b"]),
    networks=st.frozensets(st.sampled_from([HOME, OFFICE, "private", "own:10.0.0.0/8"])),
)


@given(st.lists(PARTIES, max_size=8), st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_more_hosts_of_one_voice_add_none(parties, random):
    count = voices(parties)
    shuffled = [*parties]
    random.shuffle(shuffled)
    assert voices(shuffled) == count
    assert voices([*parties, *parties]) == count
    assert count <= len({found.account for found in parties})


@given(st.lists(PARTIES, max_size=8), PARTIES)
def test_one_more_host_adds_at_most_one_voice_and_none_unless_independent_of_all(parties, new):
    before, after = voices(parties), voices([*parties, new])
    assert after <= before + 1
    assert (after == before + 1) == all(independent(new, found) for found in parties)
