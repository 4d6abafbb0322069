"""Which of the hosts that share are named: near ones, those with the shards, and others."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.peers import (
    MOST_CANDIDATES,
    Candidate,
    Places,
    choose,
    common_bits,
    is_one_site,
)
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.peers import Peer


def peer(number, port=7000):
    return Peer(peer=f"{number:016x}", address=f"192.88.99.{number}", port=port)


@pytest.mark.parametrize(
    ("first", "second", "bits"),
    [
        ("192.88.99.1", "192.88.99.1", 32),
        ("192.88.99.0", "192.88.99.1", 31),
        ("192.88.99.0", "64.88.99.0", 0),
        ("2d00::", "2d00::", 128),
        ("2d00:1::", "2d00:2::", 30),
        ("2d00::", "192.88.99.1", -1),
    ],
)
def test_bits_in_common(first, second, bits):
    assert common_bits(ip_address(first), ip_address(second)) == bits


def test_pcs_of_one_local_network_are_left_to_each_other():
    assert is_one_site(ip_address("192.88.99.1"), ip_address("192.88.99.1"))
    assert not is_one_site(ip_address("192.88.99.1"), ip_address("192.88.99.2"))
    assert is_one_site(ip_address("2d00:1:2:3::1"), ip_address("2d00:1:2:3::ffff"))
    assert not is_one_site(ip_address("2d00:1:2:3::1"), ip_address("2d00:1:2:4::1"))
    assert not is_one_site(ip_address("2d00::1"), ip_address("192.88.99.1"))


def test_those_with_the_shards_come_first_then_the_nearest():
    near = [Candidate(number, peer(number), bits) for number, bits in enumerate((3, 20, 9, 31))]
    shards = {0: [5], 1: [6], 2: [5, 8], 3: []}
    assert choose(near, shards, [5, 8]) == [peer(2), peer(0), peer(3), peer(1)]
    assert choose(near, shards, []) == [peer(3), peer(1), peer(2), peer(0)]


def test_who_is_banned_or_gone_is_not_named_and_one_pc_only_once():
    near = [Candidate(number, peer(1), 9) for number in range(3)]
    assert choose(near, {1: [], 2: []}, []) == [peer(1)]
    assert choose(near, {}, []) == []
    many = [Candidate(number, peer(number), 9) for number in range(20)]
    assert len(choose(many, {number: [] for number in range(20)}, [])) == LIMITS.peers


@given(st.data())
def test_around_an_address_are_its_nearest_hosts(data):
    numbers = data.draw(st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=60, unique=True))
    places = Places()
    for host, number in enumerate(numbers):
        places.add(host, ip_address(number))
    asked = ip_address(data.draw(st.sampled_from(numbers)))
    found = places.around(asked, lambda _: 0)
    assert len(found) <= MOST_CANDIDATES
    nearest = max(numbers, key=lambda number: common_bits(asked, ip_address(number)))
    assert numbers.index(nearest) in found
    for host, number in enumerate(numbers):
        places.remove(host, ip_address(number))
    assert places.around(asked, lambda _: 0) == []


def test_who_came_by_ipv4_is_given_no_ipv6():
    places = Places()
    places.add(1, ip_address("192.88.99.1"))
    places.add(2, ip_address("2d00::2"))
    assert places.around(ip_address("192.88.99.9"), lambda _: 0) == [1]
    assert set(places.around(ip_address("2d00::9"), lambda _: 0)) == {1, 2}
