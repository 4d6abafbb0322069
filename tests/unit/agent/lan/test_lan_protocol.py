"""Keys, beacons, requests and owners on a local network; which neighbours are remembered."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.network_rules import may_share, may_share_on_internet, reached_sentence
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Power, PowerSource, Readings
from pleb_agent.lan.neighbours import MOST_NEIGHBOURS, Neighbour, Neighbours, beacon_interval
from pleb_shared.protocol.lan import (
    BEACON_BYTES,
    Beacon,
    SignedHeaders,
    bitmap,
    from_bitmap,
    lan_key,
    lan_period,
    owner,
    read_beacon,
    request_mac,
    write_beacon,
)

KEYS = [bytes([n]) * 32 for n in range(4)]
BEACON = Beacon(b"peer1234", 4321, 1_000_000, asks=True)
peers = st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=12, unique=True)


def test_members_get_the_same_key_each_day_and_others_another():
    keys = [lan_key(b"s" * 32, name, day).key for name in ("a", "b") for day in (1, 2)]
    assert len(set(keys)) == 4
    assert lan_key(b"s" * 32, "a", 1).key == keys[0]
    assert lan_key(b"t" * 32, "a", 1).key != keys[0]
    assert lan_period(86_400 * 3 - 1) == 2


def test_a_beacon_names_only_what_both_know():
    packet = write_beacon(BEACON, KEYS[:3])
    assert len(packet) <= BEACON_BYTES
    assert read_beacon(packet, KEYS[2:], 1_000_100.0) == (BEACON, [KEYS[2]])
    assert read_beacon(packet, KEYS[3:], 1_000_100.0) == (BEACON, [])
    assert not any(key in packet for key in KEYS)
    later = write_beacon(Beacon(b"peer1234", 4321, 1_000_001, asks=True), KEYS[:3])
    assert packet[-16:] != later[-16:], "days and projects cannot be followed by their marks"
    assert len(write_beacon(BEACON, [bytes([n]) * 32 for n in range(99)])) == BEACON_BYTES


@pytest.mark.parametrize("now", [1_000_601.0, 999_399.0])
def test_an_old_beacon_is_none(now):
    with pytest.raises(ValueError, match="old"):
        read_beacon(write_beacon(BEACON, KEYS), KEYS, now)


@given(st.binary(max_size=BEACON_BYTES + 9))
def test_any_packet_is_a_beacon_or_not(packet):
    try:
        _, common = read_beacon(packet, KEYS, 1_000_000.0)
    except ValueError:
        return
    assert common == []


@given(st.integers(0, 24 + 4 * 16 - 1), st.integers(1, 255))
def test_a_changed_beacon_has_no_keys_or_other_ones_fewer(at, flip):
    packet = bytearray(write_beacon(BEACON, KEYS))
    packet[at % len(packet)] ^= flip
    try:
        _, common = read_beacon(bytes(packet), KEYS, 1_000_000.0)
    except ValueError:
        return
    assert len(common) < len(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"key": KEYS[1]},
        {"server": "ac" * 8},
        {"peer": "ce" * 8},
        {"port": 8},
        {"time": 1001},
        {"method": "PUT"},
        {"path": "/blobs/y"},
        {"byte_range": "bytes=0-8"},
        {"body": b"Body"},
    ],
)
def test_a_request_is_signed_in_all_that_it_says(change):
    said = {
        "key": KEYS[0],
        "server": "ab" * 8,
        "peer": "cd" * 8,
        "port": 7,
        "time": 1000,
        "method": "GET",
        "path": "/blobs/x",
        "byte_range": "bytes=0-9",
        "body": b"body",
    }

    def mac(key, method, path, byte_range, body, **headers):
        return request_mac(key, SignedHeaders(**headers), method, path, byte_range, body)

    assert mac(**said) == mac(**said)
    assert mac(**said) != mac(**(said | change))


@given(st.sets(st.integers(0, 200)), st.integers(0, 201))
def test_bits_of_parts_come_back(numbers, count):
    assert from_bitmap(bitmap(numbers), count) == {n for n in numbers if n < count}


@given(peers, st.integers(0, 10_000))
def test_hosts_that_know_the_same_peers_agree_on_the_owner(known, part):
    assert owner(known, "d", part) == owner(list(reversed(known)), "d", part)
    assert owner(known, "d", part) in known
    assert owner(known, "d", part - part % 4) == owner(known, "d", part)


@given(peers, st.data())
def test_waiting_for_owners_never_goes_in_a_circle(everybody, data):
    """Each host knows itself and some of the others, and waits for the owner as it sees it."""
    waits = {}
    for one in everybody:
        known = data.draw(st.sets(st.sampled_from(everybody)))
        waits[one] = owner([one, *known], "d", 0)
    for one in everybody:
        seen, at = set(), one
        while waits[at] != at:
            assert at not in seen
            seen.add(at)
            at = waits[at]


def neighbour(peer, at, keys=(KEYS[0],)):
    return Neighbour(peer, "10.0.0.1", 1, tuple(keys), at)


def test_neighbours_are_forgotten_and_bounded():
    table = Neighbours()
    assert table.heard(neighbour(b"a", 0.0))
    assert not table.heard(neighbour(b"a", 1.0))
    assert table.sharing([KEYS[0]], 200.0)
    assert not table.sharing([KEYS[1]], 200.0)
    assert not table.sharing([KEYS[0]], 212.0)
    for number in range(MOST_NEIGHBOURS + 10):
        table.heard(neighbour(bytes([number]), 300.0))
    assert len(table) == MOST_NEIGHBOURS
    table.heard(neighbour(bytes([0]), 301.0, keys=()))
    assert len(table) == MOST_NEIGHBOURS - 1, "one that shares no project is none"
    assert beacon_interval(2) == 60.0
    assert beacon_interval(64) == 120.0


BATTERY = Power(PowerSource.BATTERY, 80.0)


@pytest.mark.parametrize(
    ("preferences", "readings", "allowed"),
    [
        ({}, {}, True),
        ({"lan_sharing": False}, {}, False),
        ({}, {"metered": True}, False),
        ({"on_metered": True}, {"metered": True}, True),
        ({}, {"power": BATTERY}, False),
        ({"on_battery": True}, {"power": BATTERY}, True),
        ({"network_hours": "mon 00:00-00:30"}, {}, True),
        ({"network_hours": "tue 00:00-00:30"}, {}, False),
    ],
)
def test_when_files_are_shared(preferences, readings, allowed):
    changed = msgspec.structs.replace(Preferences(), **preferences)
    assert may_share(Readings(now=0.0, **readings), changed) is allowed
    elsewhere = msgspec.structs.replace(changed, internet_sharing=changed.lan_sharing)
    assert may_share_on_internet(Readings(now=0.0, **readings), elsewhere) is allowed


def test_nothing_is_shared_on_the_internet_unless_wanted_or_past_a_proxy():
    now = Readings(now=0.0)
    assert not may_share_on_internet(now, Preferences())
    assert may_share_on_internet(now, Preferences(internet_sharing=True, proxy="none"))
    behind = Preferences(internet_sharing=True, proxy="http://proxy.example:3128")
    assert not may_share_on_internet(now, behind)


def test_a_person_is_told_whether_others_reach_this_pc():
    assert str(reached_sentence(7530, None)).endswith("is not known yet.")
    assert "at 192.88.99.1, port 7530" in str(reached_sentence(7530, "192.88.99.1"))
    assert "cannot reach this PC at port 7530" in str(reached_sentence(7530, ""))


def test_an_ipv6_address_is_in_brackets():
    assert Neighbour(b"p", "2d00::1", 7530, (), 0.0).url == "http://[2d00::1]:7530"
    assert Neighbour(b"p", "192.88.99.1", 7530, (), 0.0).url == "http://192.88.99.1:7530"
