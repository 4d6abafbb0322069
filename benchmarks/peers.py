"""What neighbours and mirrors take off a coordinator, and what bad ones cost.

Network namespaces on this machine: hosts on a switch, a coordinator behind a slower line. Each host
is a process with the agent's own cache, fetcher and LAN sharing (`lan_host`); the coordinator
serves blobs by its own handlers. Measured in the same run: all hosts with neighbours, and without.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks.peers_network import COORDINATOR, PORT, network, require_namespaces
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers_network import Network, Process
    from pleb_shared.protocol.unit import Blob

__all__ = ["FAULTS", "FULL", "QUICK", "Size", "fetch_together", "main", "measure"]

_MB: Final = 1_000_000
FAULTS: Final = ("garbage", "stall", "liar")
_SETTLE_SECONDS: Final = 2.0
"""For the first beacons."""


@dataclass(frozen=True)
class Size:
    """How much is fetched, and by how many."""

    hosts: int
    version_mb: float
    shards: int
    shard_mb: float
    coordinator_mbit: float
    units: int
    compute_seconds: float


FULL: Final = Size(10, 100, 40, 25, 100, 12, 6.0)
QUICK: Final = Size(10, 4, 8, 1.2, 60, 4, 1.5)


def main(quick: bool) -> dict[str, Any]:
    require_namespaces()
    return measure(QUICK if quick else FULL)


def measure(size: Size) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory(prefix="pleb-peers-") as folder:
        home = Path(folder)
        blobs = LocalBlobs(home)
        version = _made(blobs, size.version_mb)
        shards = [_made(blobs, size.shard_mb) for _ in range(size.shards)]
        wanted = [version, *shards]
        print(
            f"{sum(blob.size for blob in wanted) / _MB:.0f} MB for {size.hosts} hosts", flush=True
        )
        together = fetch_together(home, size, wanted, lan=True)
        alone = fetch_together(home, size, wanted, lan=False)
        bad = fetch_together(home, size, wanted, lan=True, faults=FAULTS)
        trained = _train(home, size, blobs, lan=True)
        trained_alone = _train(home, size, blobs, lan=False)
    ratio = together["seconds"] / alone["seconds"]
    print(f"{'':22}{'from peers':>11}{'copies':>8}{'seconds':>9}{'wrong':>7}")
    for name, row in (("neighbours", together), ("none", alone), ("3 bad ones too", bad)):
        share, copies = 100 * row["peer_share"], row["coordinator_copies"]
        print(f"{name:22}{share:10.1f}%{copies:8.2f}{row['seconds']:9.1f}{row['wrong']:7}")
    print(f"time to all: {ratio:.3f} of that without neighbours")
    for name, value in (("with", trained), ("without", trained_alone)):
        print(f"computing, {name} neighbours behind 8 Mbit/s: {100 * value:.1f} % of the time")
    return {
        "peer_share": together["peer_share"],
        "coordinator_copies": together["coordinator_copies"],
        "time_ratio": ratio,
        "compute_utilisation": trained,
        "compute_utilisation_without": trained_alone,
        "seconds": {"with": together["seconds"], "without": alone["seconds"]},
        "bad_neighbours": bad,
        "hosts": size.hosts,
        "mb": sum(blob.size for blob in wanted) / _MB,
    }


def _made(blobs: LocalBlobs, mb: float) -> Blob:
    return stored(blobs, secrets.token_bytes(int(mb * _MB)))


def fetch_together(
    home: Path, size: Size, wanted: Sequence[Blob], *, lan: bool, faults: Sequence[str] = ()
) -> dict[str, Any]:
    """Let all hosts fetch the same blobs at once; with `faults` some more are bad neighbours."""
    with network(size.hosts + len(faults), size.coordinator_mbit) as net:
        server, hosts, liars = _start(net, home, size.hosts, lan=lan, faults=faults)
        for liar in liars:
            liar.tell(_command("lie", blobs=wanted))
            liar.answer()
        server.tell("")
        server.answer()
        began = time.monotonic()
        for host in hosts:
            host.tell(_command("fetch", blobs=wanted))
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
        "neighbours": min(answer["neighbours"] for answer in answers),
    }


def _train(home: Path, size: Size, blobs: LocalBlobs, *, lan: bool) -> float:
    """Return the share of the time in which hosts behind one 8 Mbit/s line compute.

    Every unit needs the next version's difference, which all hosts need, and a shard of its own.
    """
    hosts, line_bytes = 3, 1e6
    budget = line_bytes * size.compute_seconds / _MB  # what the line brings while a unit computes
    differences = [_made(blobs, 0.35 * budget) for _ in range(size.units)]
    with network(hosts, 8) as net:
        _, processes, _ = _start(net, home, hosts, lan=lan)
        for process in processes:
            units = [[difference, _made(blobs, 0.12 * budget)] for difference in differences]
            line = _command("train", units=units, compute_seconds=size.compute_seconds)
            process.tell(line)
        seconds = [process.answer()["seconds"] for process in processes]
    computed: float = size.units * size.compute_seconds * hosts
    return computed / sum(float(one) for one in seconds)


def _start(
    net: Network, home: Path, count: int, *, lan: bool, faults: Sequence[str] = ()
) -> tuple[Process, list[Process], list[Process]]:
    """Start the coordinator, its hosts, and the bad ones."""
    server = net.start(
        net.coordinator, "-m", "benchmarks.peers_server", str(home), COORDINATOR, str(PORT)
    )
    key = secrets.token_hex(32) if lan else "-"
    processes = [
        net.start(
            namespace,
            *("-m", "benchmarks.lan_host", f"http://{COORDINATOR}:{PORT}", key),
            *(net.folder(home), "", *([fault] if fault else [])),
        )
        for namespace, fault in zip(net.hosts, [""] * count + list(faults), strict=True)
    ]
    time.sleep(_SETTLE_SECONDS if lan else 0)
    first = [_made(LocalBlobs(home), 0.01)]  # so that all programs are loaded and connected
    for process in processes[:count]:
        process.tell(_command("fetch", blobs=first))
    for process in processes[:count]:
        process.answer()
    return server, processes[:count], processes[count:]


def _command(kind: str, **values: Any) -> str:
    return json.dumps({"type": kind, **msgspec.to_builtins(values)})
