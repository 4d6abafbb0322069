"""What neighbours and mirrors take off a coordinator, and what bad ones cost.

Network namespaces on this machine: hosts on a switch, a coordinator behind a slower line. Each host
is a process with the agent's own cache, fetcher and LAN sharing (`lan_host`); the coordinator
serves blobs by its own handlers. Measured in the same run: all hosts with neighbours, and without.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import peers_internet
from benchmarks.peers_hosts import SETTLE_SECONDS, command, made, start_host, start_server
from benchmarks.peers_lines import CASES, Line, compute_behind_lines, shown
from benchmarks.peers_network import network, require_namespaces
from pleb_coordinator.blobs.local import LocalBlobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers_network import Network, Process
    from pleb_shared.protocol.unit import Blob

__all__ = ["FAULTS", "FULL", "QUICK", "Size", "fetch_together", "main", "measure"]

_MB: Final = 1_000_000
FAULTS: Final = ("garbage", "stall", "liar")


@dataclass(frozen=True)
class Size:
    """How much is fetched, and by how many."""

    hosts: int
    version_mb: float
    shards: int
    shard_mb: float
    coordinator_mbit: float
    line: Line
    sites: peers_internet.Sites = peers_internet.QUICK


FULL: Final = Size(10, 100, 40, 25, 100, Line(), peers_internet.FULL)
QUICK: Final = Size(10, 4, 8, 1.2, 60, Line(parameters=1e6, shard_mb=0.4, unit_seconds=15, units=4))


def main(quick: bool) -> dict[str, Any]:
    require_namespaces()
    return measure(QUICK if quick else FULL)


def measure(size: Size) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory(prefix="pleb-peers-") as folder:
        home = Path(folder)
        blobs = LocalBlobs(home)
        version = made(blobs, size.version_mb * _MB)
        shards = [made(blobs, size.shard_mb * _MB) for _ in range(size.shards)]
        wanted = [version, *shards]
        print(
            f"{sum(blob.size for blob in wanted) / _MB:.0f} MB for {size.hosts} hosts", flush=True
        )
        together = fetch_together(home, size, wanted, lan=True)
        alone = fetch_together(home, size, wanted, lan=False)
        bad = fetch_together(home, size, wanted, lan=True, faults=FAULTS)
        elsewhere = peers_internet.measure(home, size.sites, FAULTS)
        lines = [(case, compute_behind_lines(home, size.line, case)) for case in CASES]
    ratio = together["seconds"] / alone["seconds"]
    print(f"{'':22}{'from peers':>11}{'copies':>8}{'seconds':>9}{'wrong':>7}")
    for name, row in (("neighbours", together), ("none", alone), ("3 bad ones too", bad)):
        share, copies = 100 * row["peer_share"], row["coordinator_copies"]
        print(f"{name:22}{share:10.1f}%{copies:8.2f}{row['seconds']:9.1f}{row['wrong']:7}")
    print(f"time to all: {ratio:.3f} of that without neighbours")
    print(peers_internet.shown_waits(bad["waits"]))
    print(
        f"\n{'two LANs of 3, 8/1 Mbit/s':32}{'computing':>11}{'least':>11}{'peers':>11}"
        f"{'copies':>9}{'delivered after':>17}"
    )
    for case, found in lines:
        print(shown(case, found))
    return {
        "peer_share": together["peer_share"],
        "coordinator_copies": together["coordinator_copies"],
        "time_ratio": ratio,
        "behind_lines": {str(case): found for case, found in lines},
        "seconds": {"with": together["seconds"], "without": alone["seconds"]},
        "bad_neighbours": bad,
        "internet": elsewhere,
        "hosts": size.hosts,
        "mb": sum(blob.size for blob in wanted) / _MB,
    }


def fetch_together(
    home: Path, size: Size, wanted: Sequence[Blob], *, lan: bool, faults: Sequence[str] = ()
) -> dict[str, Any]:
    """Let all hosts fetch the same blobs at once; with `faults` some more are bad neighbours."""
    with network(size.hosts + len(faults), size.coordinator_mbit) as net:
        server, hosts, liars = _start(net, home, size.hosts, lan=lan, faults=faults)
        addresses = [net.address(size.hosts + number) for number in range(len(faults))]
        for liar in liars:
            liar.tell(command("lie", blobs=wanted))
            liar.answer()
        server.tell("")
        server.answer()
        began = time.monotonic()
        for host in hosts:
            host.tell(command("fetch", blobs=wanted))
        answers = [host.answer() for host in hosts]
        seconds = max(answer["seconds"] for answer in answers)
        assert time.monotonic() - began >= seconds
        server.tell("")
        sent = server.answer()["sent"]
    total = sum(blob.size for blob in wanted)
    peers = sum(answer["received"].get("peer", 0) for answer in answers)
    received = sum(sum(answer["received"].values()) for answer in answers)
    return {
        "seconds": seconds,
        "peer_share": peers / received,
        "coordinator_copies": sum(sent.values()) / total,
        "most_copies_of_a_blob": max(sent[blob.digest] / blob.size for blob in wanted),
        "wrong": sum(answer["wrong"] for answer in answers),
        "cpu_seconds": sum(answer["cpu"] for answer in answers),
        "neighbours": min(answer["neighbours"] for answer in answers),
        "waits": peers_internet.waits_for(addresses, answers),
    }


def _start(
    net: Network, home: Path, count: int, *, lan: bool, faults: Sequence[str] = ()
) -> tuple[Process, list[Process], list[Process]]:
    """Start the coordinator, its hosts, and the bad ones."""
    server = start_server(net, home)
    key = secrets.token_hex(32) if lan else "-"
    processes = [
        start_host(net, namespace, home, key, fault)
        for namespace, fault in zip(net.hosts, [""] * count + list(faults), strict=True)
    ]
    time.sleep(SETTLE_SECONDS if lan else 0)
    first = [made(LocalBlobs(home), 1e4)]  # so that all programs are loaded and connected
    for process in processes[:count]:
        process.tell(command("fetch", blobs=first))
    for process in processes[:count]:
        process.answer()
    return server, processes[:count], processes[count:]
