"""Agents in network namespaces: real multicast, real lines, and neighbours that do wrong."""

from __future__ import annotations

import secrets

import pytest

from benchmarks import peers
from benchmarks.peers_lines import Case, Line, compute_behind_lines
from pleb_agent.blobs.fetch import STALL_SECONDS
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import stored

pytestmark = pytest.mark.system

SMALL = peers.Size(
    hosts=4,
    version_mb=4,
    shards=6,
    shard_mb=1.3,
    coordinator_mbit=40,
    line=Line(parameters=1e6, shard_mb=0.5, unit_seconds=10, units=3),
)


@pytest.fixture
def home(tmp_path):
    blobs = LocalBlobs(tmp_path)
    wanted = [stored(blobs, secrets.token_bytes(int(4e6)))]
    wanted += [stored(blobs, secrets.token_bytes(int(1.3e6))) for _ in range(6)]
    return tmp_path, wanted


def test_agents_of_one_network_find_each_other_and_share(home):
    folder, wanted = home
    found = peers.fetch_together(folder, SMALL, wanted, lan=True)
    assert found["neighbours"] == SMALL.hosts - 1
    assert found["wrong"] == 0
    assert found["peer_share"] > 0.4
    assert found["coordinator_copies"] < 2.5


def test_those_that_share_with_nobody_get_everything_from_the_coordinator(home):
    folder, wanted = home
    found = peers.fetch_together(folder, SMALL, wanted[:2], lan=False)
    assert (found["neighbours"], found["peer_share"], found["wrong"]) == (0, 0.0, 0)
    assert found["coordinator_copies"] == pytest.approx(SMALL.hosts, rel=0.05)


def test_neighbours_that_lie_stall_and_send_garbage_do_no_harm(home):
    folder, wanted = home
    found = peers.fetch_together(folder, SMALL, wanted, lan=True, faults=peers.FAULTS)
    assert found["wrong"] == 0
    assert found["waits"]["count"] >= 3
    assert found["waits"]["most"] < STALL_SECONDS + 2.0, "for other processes on this machine"
    alone = SMALL.hosts * sum(blob.size for blob in wanted) * 8 / (SMALL.coordinator_mbit * 1e6)
    # Three bad ones cost 3 s each at the most, side by side, and then are left alone.
    assert found["seconds"] < alone + 60


def test_two_households_behind_slow_lines_share_what_each_line_brings(tmp_path):
    found = compute_behind_lines(tmp_path, SMALL.line, Case(peers=True, ahead=True))
    assert found["wrong"] == 0
    assert found["copies_of_differences"] < 5, "of six hosts; each line brings one, and some parts"
    assert 0 < found["least"] <= found["computing"] <= 1
