"""Hosts that share on the internet, in network namespaces: IPv4, IPv6, NAT, and bad ones."""

from __future__ import annotations

import pytest

from benchmarks.peers import FAULTS
from benchmarks.peers_hosts import made
from benchmarks.peers_internet import Sites, fetch_over_internet
from pleb_agent.blobs.fetch import STALL_SECONDS
from pleb_coordinator.blobs.local import LocalBlobs

pytestmark = pytest.mark.system

SITES = Sites(reached4=1, reached6=1, behind_nat=2, version_mb=3.0)
SLACK_SECONDS = 2.0
"""For other processes on this machine, and bytes that were on their way."""


@pytest.fixture
def wanted(tmp_path):
    return [made(LocalBlobs(tmp_path), SITES.version_mb * 1e6) for _ in range(3)]


def test_hosts_behind_nat_get_from_those_that_are_reached(tmp_path, wanted):
    found = fetch_over_internet(tmp_path, SITES, wanted, share=True, reached_first=True)
    assert found["reached"] == 2, "one by IPv4 and one by IPv6; nobody gets in through NAT"
    assert found["wrong"] == 0
    assert found["peer_share"] > 0.15
    assert found["coordinator_copies"] < 3.6, "of four hosts"


def test_nobody_waits_longer_than_three_seconds_for_a_bad_one(tmp_path, wanted):
    found = fetch_over_internet(tmp_path, SITES, wanted, share=True, faults=FAULTS)
    assert found["reached"] == 2 + len(FAULTS), "they answer as members"
    assert found["wrong"] == 0
    waits = found["waits"]
    assert waits["count"] >= len(FAULTS), "they were asked"
    assert waits["most"] < STALL_SECONDS + SLACK_SECONDS
