"""Reads the coordinator's status while the demo trains: a snapshot to show, and who was caught."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pleb_project.demo.outcome import Caught
from pleb_project.demo.view import HostLine, Snapshot
from pleb_project.server.status import decode_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["FleetWatch", "snapshot_of"]


@dataclass
class FleetWatch:
    """Collects refused results of one host over many answers, which each show only the newest."""

    liar: str
    caught: dict[int, Caught] = field(default_factory=dict)

    def read(self, answer: bytes) -> ProjectStatus:
        """Take in one answer of the coordinator and return it decoded."""
        status = decode_status(answer)
        for unit in status.units:
            for result in unit.results:
                if result.name == self.liar and result.verdict == "invalid":
                    self.caught.setdefault(unit.unit, Caught(unit.unit, result.reason))
        return status


def snapshot_of(status: ProjectStatus, alive: Mapping[str, bool]) -> Snapshot:
    """Return what to show; `alive` tells which host's process runs, by its name."""
    hosts = tuple(
        HostLine(
            host.name or host.host[:8],
            host.role,
            _doing(host.state, running=alive.get(host.name, True)),
            host.verified,
            host.refused,
        )
        for host in sorted(status.hosts, key=lambda host: (host.role != "trusted", host.name))
    )
    return Snapshot(
        version=status.version,
        versions=status.versions_planned,
        accuracy=status.metrics.get("accuracy"),
        verified=status.counts.verified,
        refused=status.counts.refused,
        hosts=hosts,
    )


_WORDS = {
    "active": "works",
    "probation": "works, each result is repeated by another host",
    "calibrating": "is measured",
    "away": "is away",
    "banned": "is banned",
}


def _doing(state: str, *, running: bool) -> str:
    words = _WORDS.get(state, state)
    return words if running else f"{words}, has gone"
