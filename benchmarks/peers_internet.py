"""What hosts that share on the internet take off a coordinator, and how long bad ones hold them up.

A coordinator with a slow line, hosts that are reached (two of them by IPv6 alone), others behind
NAT, which take and cannot give. The coordinator's own table of peers names them, after it
has asked each whether it is reached.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers_hosts import command, made, start_host, start_server
from benchmarks.peers_network import internet
from benchmarks.peers_waits import quantile
from pleb_coordinator.blobs.local import LocalBlobs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers_network import Process
    from pleb_shared.protocol.unit import Blob

__all__ = [
    "FULL",
    "QUICK",
    "Sites",
    "fetch_over_internet",
    "measure",
    "shown_waits",
    "waits_for",
]

_ASKED_SECONDS: Final = 3.0
"""For the coordinator to ask all hosts whether they are reached."""


@dataclass(frozen=True)
class Sites:
    """Hosts reached by IPv4, by IPv6, and behind NAT; lines in Mbit/s; what is fetched."""

    reached4: int = 2
    reached6: int = 2
    behind_nat: int = 4
    coordinator_mbit: float = 10.0
    mbit: tuple[float, float] = (20.0, 5.0)
    version_mb: float = 20.0


FULL: Final = Sites()
QUICK: Final = Sites(version_mb=4.0)


def measure(home: Path, sites: Sites, faults: Sequence[str]) -> dict[str, Any]:
    """Return the figures: with peers, without, and with bad ones among them."""
    version = [made(LocalBlobs(home), sites.version_mb * 1e6)]
    found = {
        "sharing": fetch_over_internet(home, sites, version, share=True),
        "alone": fetch_over_internet(home, sites, version, share=False),
        "bad_too": fetch_over_internet(home, sites, version, share=True, faults=faults),
    }
    found["time_ratio"] = found["sharing"]["seconds"] / found["alone"]["seconds"]
    print(f"\n{'on the internet':22}{'from others':>12}{'copies':>8}{'seconds':>9}{'wrong':>7}")
    for name in ("sharing", "alone", "bad_too"):
        row = found[name]
        share, copies = 100 * row["peer_share"], row["coordinator_copies"]
        print(f"{name:22}{share:11.1f}%{copies:8.2f}{row['seconds']:9.1f}{row['wrong']:7}")
    print(shown_waits(found["bad_too"]["waits"]))
    return found


def fetch_over_internet(
    home: Path,
    sites: Sites,
    wanted: Sequence[Blob],
    *,
    share: bool,
    faults: Sequence[str] = (),
    reached_first: bool = False,
) -> dict[str, Any]:
    """Let all hosts fetch the same blobs; with `faults` some more are bad, and reached.

    They fetch at once, or those behind NAT when those that can be reached have everything.
    """
    kinds = (sites.reached4 + len(faults), sites.reached6, sites.behind_nat)
    with internet(kinds, sites.coordinator_mbit, sites.mbit) as net:
        key = secrets.token_hex(32) if share else "-"
        server = start_server(net, home, "::", key)
        every = [
            (
                start_host(net, namespace, home, key, fault, internet=coordinator),
                address,
                bool(fault),
            )
            for (namespace, address, coordinator), fault in zip(
                net.hosts, [*faults, *[""] * (len(net.hosts) - len(faults))], strict=True
            )
        ]
        hosts = [process for process, _, bad in every if not bad]
        bad_names = [address for _, address, bad in every if bad]
        for process, _, bad in every:
            if bad:
                process.tell(command("lie", blobs=wanted))
                process.answer()
        reached = _meet([process for process, _, _ in every]) if share else 0
        server.tell("")
        server.answer()
        first = len(hosts) - sites.behind_nat if reached_first else len(hosts)
        answers = []
        for group in (hosts[:first], hosts[first:]):
            for host in group:
                host.tell(command("fetch", blobs=wanted))
            answers += [host.answer() for host in group]
        server.tell("")
        sent = server.answer()["sent"]
    received = sum(sum(answer["received"].values()) for answer in answers)
    return {
        "seconds": max(answer["seconds"] for answer in answers),
        "mean_seconds": sum(answer["seconds"] for answer in answers) / len(answers),
        "peer_share": sum(answer["received"].get("internet", 0) for answer in answers) / received,
        "coordinator_copies": sum(sent.values()) / sum(blob.size for blob in wanted),
        "wrong": sum(answer["wrong"] for answer in answers),
        "reached": reached,
        "cpu_seconds": sum(answer["cpu"] for answer in answers),
        "waits": waits_for(bad_names, answers),
    }


def _meet(processes: Sequence[Process]) -> int:
    """Let all hosts tell the coordinator that they share; return how many it has reached."""
    answers: list[dict[str, Any]] = []
    for pause in (_ASKED_SECONDS, 0.0):  # as two work requests
        for number, process in enumerate(processes):
            process.tell(command("meet", host=number))
        answers = [process.answer() for process in processes]
        time.sleep(pause)
    return sum(bool(answer["reached"]) for answer in answers)


def waits_for(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return how long parts waited for sources at these addresses, which brought nothing."""
    waits = [
        seconds
        for answer in answers
        for name, seconds in answer["waits"]
        if any(f"//{one}:" in name or f"//[{one}]:" in name for one in names)
    ]
    return {
        "count": len(waits),
        "median": quantile(waits, 0.5),
        "p99": quantile(waits, 0.99),
        "most": max(waits, default=0.0),
    }


def shown_waits(waits: dict[str, float]) -> str:
    """Return them in a line."""
    return (
        f"{waits['count']} parts waited for a bad one: {waits['median']:.2f} s (median), "
        f"{waits['p99']:.2f} s (99 %), {waits['most']:.2f} s (most)"
    )
