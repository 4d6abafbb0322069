"""An address may save up a burst, then asks at its rate; loopback is exempt."""

from __future__ import annotations

import weakref

import pytest

from pleb_coordinator.api.addresses import AddressLimit, AddressPlaces, subscriber


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Address(str):
    """An address that says whether anything still holds it."""

    __slots__ = ("__weakref__",)


def test_a_burst_and_then_the_rate():
    clock = Clock()
    limit = AddressLimit(10.0, 5, clock)
    assert [limit.take("203.0.113.1") for _ in range(5)] == [0.0] * 5
    assert limit.take("203.0.113.1") == pytest.approx(0.1)
    clock.now += 0.1
    assert limit.take("203.0.113.1") == 0.0
    assert limit.take("203.0.113.1") > 0
    clock.now += 1000
    assert [limit.take("203.0.113.1") for _ in range(6)].count(0.0) == 5


def test_addresses_do_not_share():
    limit = AddressLimit(1.0, 1, Clock())
    assert limit.take("203.0.113.1") == 0.0
    assert limit.take("203.0.113.2") == 0.0
    assert limit.take("203.0.113.1") > 0


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", ""])
def test_loopback_is_exempt(address):
    limit = AddressLimit(1.0, 1, Clock())
    assert all(limit.take(address) == 0.0 for _ in range(100))


def test_it_remembers_a_bounded_number_of_addresses():
    limit = AddressLimit(1.0, 1, Clock())
    held: weakref.WeakSet[Address] = weakref.WeakSet()
    for number in range(120_000):
        address = Address(f"198.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        held.add(address)
        limit.take(address)
    assert len(held) <= 50_000


def test_an_address_of_ipv6_counts_with_its_neighbours():
    """Whoever has one has 2**64 of them."""
    limit = AddressLimit(1.0, 1, Clock())
    assert limit.take("2001:db8::1") == 0.0
    assert limit.take("2001:db8::ffff:2") > 0
    assert limit.take("2001:db8:0:1::1") == 0.0
    assert subscriber("::ffff:203.0.113.1") == subscriber("203.0.113.1") == "203.0.113.1"
    assert subscriber("::ffff:127.0.0.1") == ""


def test_places_are_bounded_in_all_and_for_each():
    places = AddressPlaces(3, 2)
    for owner in ("a", "a"):
        assert not places.is_full_for(owner)
        places.take(owner)
    assert places.is_full_for("a")
    assert not places.is_full_for("b")
    assert not places.is_full()
    places.take("b")
    assert places.is_full()
    places.give_back("a")
    assert not places.is_full()
    assert not places.is_full_for("a")


def test_loopback_has_as_many_places_as_there_are():
    places = AddressPlaces(100, 2)
    for _ in range(50):
        places.take(subscriber("127.0.0.1"))
    assert not places.is_full_for(subscriber("127.0.0.1"))


def test_what_is_no_address_is_one_subscriber():
    """A header of a proxy may be kilobytes of anything: none of it is remembered."""
    limit = AddressLimit(1.0, 1, Clock())
    assert limit.take("x" * 30_000) == 0.0
    assert limit.take("y" * 30_000) > 0
