"""How long hosts compute that share a slow line with others: two households, each with three PCs.

    coordinator -- internet -- 8 Mbit/s down, 1 up -- router -- LAN of three hosts   (twice)

A project of ten million parameters: each unit needs the next version's difference, which all hosts
need, and a shard of its own; its result is sent while the next one is computed. Bytes and seconds
are `SCALE`-ths of the real ones, lines are as fast as they are: so it takes minutes, not hours.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers_hosts import SETTLE_SECONDS, command, made, start_host, start_server
from benchmarks.peers_network import households
from pleb_coordinator.blobs.local import LocalBlobs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pleb_shared.protocol.unit import Blob

__all__ = ["CASES", "Case", "Line", "compute_behind_lines", "shown"]

SCALE: Final = 5
BYTES_PER_NUMBER: Final = {"fp32": 4.0, "int4": 0.53, "2bit": 0.28}
"""Of differences and of deltas, as they travel."""
LANS: Final = 2
HOSTS: Final = 3
MBIT: Final = (8.0, 1.0)


@dataclass(frozen=True)
class Line:
    """What is computed behind the lines."""

    parameters: float = 10e6
    shard_mb: float = 4.0
    unit_seconds: float = 150.0
    units: int = 6


@dataclass(frozen=True)
class Case:
    """What helps."""

    peers: bool
    ahead: bool
    """Whether the next unit's files are fetched while one is computed."""
    codec: str = "int4"

    def __str__(self) -> str:
        """Return it for a table."""
        peers, ahead = ("with" if on else "no" for on in (self.peers, self.ahead))
        return f"{self.codec}, {peers} peers, {ahead} prefetch"


CASES: Final = (
    Case(peers=True, ahead=True),
    Case(peers=False, ahead=True),
    Case(peers=True, ahead=False),
    Case(peers=False, ahead=False),
    Case(peers=True, ahead=True, codec="2bit"),
    Case(peers=True, ahead=True, codec="fp32"),
)


def compute_behind_lines(home: Path, line: Line, case: Case) -> dict[str, Any]:
    """Return how much of the time hosts compute, and what came from where."""
    blobs = LocalBlobs(home)
    size = BYTES_PER_NUMBER[case.codec] * line.parameters / SCALE
    seconds = line.unit_seconds / SCALE
    with households(LANS, HOSTS, MBIT) as net:
        server = start_server(net, home)
        processes = [
            start_host(net, namespace, home, key)
            for lan in net.lans
            for key in [secrets.token_hex(32) if case.peers else "-"]
            for namespace in lan
        ]
        time.sleep(SETTLE_SECONDS if case.peers else 0)
        differences = [made(blobs, size) for _ in range(line.units)]
        for process in processes:
            units = [[one, made(blobs, line.shard_mb * 1e6 / SCALE)] for one in differences]
            process.tell(
                command(
                    "train",
                    units=units,
                    compute_seconds=seconds,
                    upload_bytes=int(size),
                    ahead=case.ahead,
                )
            )
        answers = [process.answer() for process in processes]
        server.tell("")
        sent = server.answer()["sent"]
    computing = line.units * seconds
    got: dict[str, int] = {}
    for answer in answers:
        for kind, amount in answer["received"].items():
            got[kind] = got.get(kind, 0) + amount
    return {
        "computing": sum(computing / answer["computed"] for answer in answers) / len(answers),
        "least": min(computing / answer["computed"] for answer in answers),
        "delivered_after": SCALE * max(answer["seconds"] - computing for answer in answers),
        "from_peers": got.get("peer", 0) / max(1, sum(got.values())),
        "copies_of_differences": _copies(sent, differences),
        "wrong": sum(answer["wrong"] for answer in answers),
    }


def _copies(sent: dict[str, int], blobs: Sequence[Blob]) -> float:
    return sum(sent.get(blob.digest, 0) for blob in blobs) / sum(blob.size for blob in blobs)


def shown(case: Case, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    return (
        f"{case!s:32}{100 * found['computing']:9.1f} %{100 * found['least']:9.1f} %"
        f"{100 * found['from_peers']:9.1f} %{found['copies_of_differences']:9.2f}"
        f"{found['delivered_after']:9.0f} s"
    )
