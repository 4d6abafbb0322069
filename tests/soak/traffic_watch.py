"""What the traffic soak looks at while it runs: memory, disk, and every version as it is made."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import statistics
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.aggregation.recompute import How, recompute
from pleb_coordinator.core.unit_state import UnitState
from tests.system.test_many_machines import check_accepted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psutil

    from pleb_coordinator.core.records import VersionRow
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store, Transaction
    from tests.soak.traffic_agents import Fleet

SETTLED: Final = 3
"""Versions after which a closed round's results are where they belong."""
MB: Final = 1e6
_BAD_LEVELS: Final = {"error", "critical"}


@dataclass(frozen=True)
class Sample:
    """What the coordinator takes at one moment, in bytes."""

    seconds: float
    """Since the agents began."""
    memory: dict[str, int]
    """Of each process: its own pages and its part of those that it shares (PSS)."""
    private: dict[str, int]
    """Its own pages."""
    disk: dict[str, int]
    """By what is directly in the home; the store's file and its log are together."""
    rows: dict[str, int]
    """Of each table, and the store's pages."""

    @property
    def total(self) -> int:
        """All on the disk that retention bounds; logs have a bound of their own."""
        return sum(size for name, size in self.disk.items() if name != "logs")


@dataclass
class Samples:
    """The home and the processes on it, looked at now and then."""

    home: Home
    processes: dict[str, psutil.Process]
    file: Path | None = None
    """Every look is written to it, a line of JSON each."""
    taken: list[Sample] = field(default_factory=list)

    def take(self, seconds: float) -> None:
        found = {name: process.memory_full_info() for name, process in self.processes.items()}
        sample = Sample(
            seconds,
            {name: info.pss for name, info in found.items()},
            {name: info.uss for name, info in found.items()},
            disk_of(self.home.path),
            rows_of(self.home.store_file),
        )
        self.taken.append(sample)
        if self.file is not None:
            with self.file.open("ab") as lines:
                lines.write(msgspec.json.encode(sample) + b"\n")

    def between(self, begin: float, end: float) -> list[Sample]:
        return [sample for sample in self.taken if begin <= sample.seconds <= end]

    def memory(self, begin: float, end: float) -> dict[str, float]:
        """Return the median memory of each process in that time, in bytes."""
        found = self.between(begin, end)
        return {name: statistics.median(s.memory[name] for s in found) for name in self.processes}

    def on_disk(self, begin: float, end: float) -> float:
        """Return the median size of the home in that time, in bytes."""
        return statistics.median(sample.total for sample in self.between(begin, end))

    def private(self, begin: float, end: float) -> dict[str, float]:
        """As `memory`, of their own pages."""
        found = self.between(begin, end)
        return {name: statistics.median(s.private[name] for s in found) for name in self.processes}


@dataclass
class Ledger:
    """Every version as soon as it is made: its inputs, and whether it recomputes.

    Retention takes that away again, so it cannot be looked at in the end.
    """

    store: Store
    deps: Deps
    project: str
    fleet: Fleet
    version: int = 0
    """The newest one that was looked at."""
    settled: int = 0
    """Rounds before it have no open unit any more."""
    used: set[int] = field(default_factory=set)
    """Results that are in a version."""
    checked: Counter[str] = field(default_factory=Counter)

    def look(self, accepted: Mapping[int, int]) -> None:
        """Look at the versions that are new, and at the rounds that have settled.

        `accepted`: a copy of the fleet's, which grows meanwhile.
        """
        with self.store.read() as tx:
            project = tx.projects.find(self.project)
            rows = tx.versions.history(project.id, 0, after=self.version - 1, limit=1_000)
            for row in rows[1:]:
                self._count(row)
            self._check_settled(tx, rows[-1].number - SETTLED, accepted)
            self._recompute(tx, rows)
        self.version = rows[-1].number

    def finish(self) -> None:
        """Look once more, and at all that was accepted since: no host will send any more."""
        self.look(dict(self.fleet.accepted))
        with self.store.read() as tx:
            rows = {self.deps.numbers.row(shown) for shown in self.fleet.accepted}
            check_accepted(tx, rows, self.used)
        self.checked["results"] += len(rows)
        self.checked["counted"] += len(rows & self.used)

    def _count(self, row: VersionRow) -> None:
        inputs = {entry.assignment for entry in row.inputs}
        assert len(inputs) == len(row.inputs), "a result is in a version twice"
        assert not inputs & self.used, "a result is in two versions"
        self.used |= inputs

    def _recompute(self, tx: Transaction, rows: Sequence[VersionRow]) -> None:
        """Make the new versions from the one before them."""
        project = tx.projects.find(self.project)
        made = recompute(
            rows,
            lambda number: tx.projects.metadata_at(project.id, number),
            self.deps.blobs.get,
            lambda assignment: self.deps.blobs.delta(tx.assignments.delta(assignment)),  # type: ignore[arg-type]
        )
        for version in itertools.islice(made, 1, None):
            assert version.matches, f"version {version.number} does not recompute"
            assert version.how is How.RECOMPUTED, f"version {version.number} was looked at too late"
            self.checked["versions"] += 1

    def _check_settled(self, tx: Transaction, newest: int, accepted: Mapping[int, int]) -> None:
        """Check what hosts were told to be accepted, of rounds up to that version."""
        settled = [shown for shown, version in accepted.items() if version < newest]
        rows = {self.deps.numbers.row(shown) for shown in settled}
        check_accepted(tx, rows, self.used)
        self.checked["results"] += len(rows)
        self.checked["counted"] += len(rows & self.used)
        for shown in settled:
            del self.fleet.accepted[shown]
        project = tx.projects.find(self.project)
        for version in range(self.settled, newest):
            stuck = tx.units.of_round(project.id, 0, version, {UnitState.OPEN, UnitState.VALID})
            assert not stuck, f"units of version {version} are stuck: {stuck[:3]}"
        self.settled = max(self.settled, newest)


def disk_of(home: Path) -> dict[str, int]:
    """Return how many bytes each part of a home has."""
    found: Counter[str] = Counter()
    for folder, _, names in os.walk(home):
        parts = Path(folder).relative_to(home).parts
        for name in names:
            part = parts[0] if parts else name.removesuffix("-wal").removesuffix("-shm")
            with suppress(FileNotFoundError):  # collected just now
                found[part] += (Path(folder) / name).stat().st_size
    return dict(found)


def rows_of(store: Path) -> dict[str, int]:
    """Return how many rows each table has, and the store's pages and free pages."""
    counts = [("page_count", "PRAGMA page_count"), ("freelist_count", "PRAGMA freelist_count")]
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        counts += [(name, f"SELECT count(*) FROM {name}") for (name,) in tables]
        found = {name: db.execute(sql).fetchone()[0] for name, sql in counts}
    return {name: count for name, count in found.items() if count}


def lost_leases(store: Path, before: float) -> int:
    """Return how many units a host still has whose lease ended before that time."""
    sql = "SELECT count(*) FROM assignments WHERE state IN ('leased', 'uploading')"
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        found = db.execute(f"{sql} AND lease_until < ?", (before,)).fetchone()
    return int(found[0])


def errors_in(logs: Path) -> list[str]:
    """Return the lines of all logs that tell of an error."""
    logged = [log.read_text(encoding="utf-8") for log in sorted(logs.glob("*.jsonl*"))]
    lines = [line for text in logged for line in text.splitlines()]
    return [line for line in lines if json.loads(line)["level"] in _BAD_LEVELS]
