"""The numbers of all projects and of the machine, for `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pleb_coordinator.api.metrics_text import family
from pleb_coordinator.api.status import read_status, trusted_queue
from pleb_coordinator.home.layout import LastBackup
from pleb_coordinator.home.machine import read_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.core.numbers import AssignmentNumbers
    from pleb_coordinator.core.records import VersionLoad
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Store
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["ProjectMetrics"]

Numbers = tuple["ProjectStatus", "VersionLoad", int]
"""A project's status, what its versions take, and how much waits for trusted hosts."""


class ProjectMetrics:
    """Reads the numbers from a store that no other thread uses."""

    def __init__(
        self,
        store: Store,
        home: Home,
        links: LinkBase,
        numbers: AssignmentNumbers,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._home = store, home
        self._links, self._numbers, self._clock = links, numbers, clock

    def lines(self) -> Iterator[str]:
        """Yield the lines of all projects, and of the machine."""
        now = self._clock()
        machine = read_machine(self._home, now)
        found: list[Numbers] = []
        with self._store.read() as tx:
            for name in tx.projects.names():
                project = tx.projects.find(name)
                status = read_status(tx, project, self._links, self._numbers, now, machine)
                queue, _ = trusted_queue(tx, project, now)
                found.append((status, tx.versions.load(project.id), queue))
            doomed = tx.tombstones.count()
        yield from _of_projects(found, now)
        for name, help_text, value in (
            ("pleb_disk_free_bytes", "Room on the disk of the home.", machine.free_bytes),
            (
                "pleb_clock_ahead_seconds",
                "How far most hosts find the clock ahead.",
                machine.clock_ahead_seconds,
            ),
            ("pleb_store_bytes", "The store's file.", self._store_bytes()),
            ("pleb_backup_age_seconds", "Since the last backup began.", self._backup_age(now)),
            ("pleb_files_to_delete", "Unneeded files that are not deleted yet.", doomed),
        ):
            if value is not None:
                yield from family(name, "gauge", help_text, [({}, value)])

    def _store_bytes(self) -> int | None:
        try:
            return self._home.store_file.stat().st_size
        except OSError:
            return None

    def _backup_age(self, now: float) -> float | None:
        try:
            last = msgspec.json.decode(self._home.last_backup_file.read_bytes(), type=LastBackup)
        except (OSError, msgspec.DecodeError):
            return None
        return now - last.at


def _of_projects(found: list[Numbers], now: float) -> Iterator[str]:
    def each(name: str, help_text: str, value: Callable[[ProjectStatus], Any]) -> Iterator[str]:
        samples = [({"project": p.project}, value(p)) for p, _, _ in found]
        known = [(labels, number) for labels, number in samples if number is not None]
        return family(name, "gauge", help_text, known)

    yield from each("pleb_version", "The newest version.", lambda p: p.version)
    yield from each("pleb_versions_planned", "The last one.", lambda p: p.versions_planned)
    yield from each(
        "pleb_version_age_seconds",
        "Since the newest version was made.",
        lambda p: now - p.series[-1].made_at if p.series else None,
    )
    yield from each("pleb_train_loss", "Of the newest version.", lambda p: p.train_loss)
    yield from each("pleb_hosts", "Hosts that have enrolled.", lambda p: p.counts.hosts)
    yield from each("pleb_accounts", "Accounts of these.", lambda p: p.counts.accounts)
    yield from each("pleb_in_flight", "Units in hosts' hands.", lambda p: p.counts.in_flight)
    yield from each(
        "pleb_undecided", "Results that wait for a verdict.", lambda p: p.counts.undecided
    )
    yield from each(
        "pleb_credit_flops", "FLOPs of verified work, in all.", lambda p: p.counts.credit
    )
    yield from each(
        "pleb_permission_seconds_left",
        "How long the researcher still permits work.",
        lambda p: p.permission_ends_at - now,
    )
    yield from family(
        "pleb_results",
        "gauge",
        "Results that were verified or refused, in all.",
        [
            ({"project": p.project, "verdict": verdict}, number)
            for p, _, _ in found
            for verdict, number in (("verified", p.counts.verified), ("refused", p.counts.refused))
        ],
    )
    yield from family(
        "pleb_round_units",
        "gauge",
        "Units of the open round: planned, verified, and needed for the next version.",
        [
            ({"project": p.project, "which": which}, number)
            for p, _, _ in found
            if p.round is not None
            for which, number in (
                ("planned", p.round.units),
                ("verified", p.round.valid),
                ("needed", p.round.quorum),
            )
        ],
    )
    yield from family(
        "pleb_project_state",
        "gauge",
        "1 for the state that a project is in.",
        [({"project": p.project, "state": p.state}, 1) for p, _, _ in found],
    )
    yield from family(
        "pleb_waiting",
        "gauge",
        "1 for what a project waits for.",
        [
            ({"project": p.project, "level": p.waiting_level, "cause": p.waiting_for}, 1)
            for p, _, _ in found
        ],
    )
    yield from family(
        "pleb_trusted_queue",
        "gauge",
        "Checks and disputes that wait for trusted hosts.",
        [({"project": p.project}, queue) for p, _, queue in found],
    )
    yield from family(
        "pleb_versions_kept",
        "gauge",
        "Versions that can be recomputed, and that can be read.",
        [
            ({"project": p.project, "kept": kept}, number)
            for p, load, _ in found
            for kept, number in (("exact", load.exact), ("readable", load.readable))
        ],
    )
    yield from family(
        "pleb_version_bytes",
        "gauge",
        "What versions take: the results that made them, and their files.",
        [
            ({"project": p.project, "what": what}, number)
            for p, load, _ in found
            for what, number in (("results", load.delta_bytes), ("files", load.blob_bytes))
        ],
    )
