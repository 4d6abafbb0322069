"""An address may save up a burst, then asks at its rate; loopback is exempt."""

from __future__ import annotations

import weakref

import pytest

from pleb_coordinator.api.middleware import AddressLimit


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
        address = Address(f"2001:db8::{number:x}")
        held.add(address)
        limit.take(address)
    assert len(held) <= 50_000
