"""Fills a coordinator's store with the past of a large fleet.

Projects are published, rounds planned and closed by the coordinator's own steps; only what
hosts and verdicts would have written, row by row, is written by a few SQL statements.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from benchmarks.dispatch_fleet import AGENT, BLOCK, RUNTIME, Group, secret
from benchmarks.dispatch_project import LEASE_SECONDS, RoundSize, publish_project
from pleb_coordinator.aggregation.versions import following_source, snapshot_interval
from pleb_coordinator.core.records import NewAssignment, NewUnit, Purpose
from pleb_coordinator.core.voices import network_of
from pleb_coordinator.simulation.project import PARAMETERS
from pleb_coordinator.steps import plan
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.signing import SigningKey
from pleb_shared.tensors.format import DeltaFormat, training_format

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_coordinator.core.records import Project, VersionRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store, Transaction

LARGEST_ROUND: Final = 100_000
"""The protocol's largest round: projects with fewer units would run dry."""
_CLASS: Final = "c1" * 32
_SECONDS_PER_STEP: Final = 0.5
_BEGUN_SECONDS: Final = 60.0
"""So long ago hosts got the units that they hold: they are nearly ready for the next ones."""

_ADD_HOSTS: Final = """
INSERT INTO hosts (id, project, fingerprint, key, account, role, network, agent, runtime,
                   determinism_class, seconds_per_step, record, proven, enrolled_at,
                   last_seen, last_asked)
VALUES (?, ?, ?, ?, ?, 'host', ?, ?, ?, ?, ?, 400, 1, ?, ?, ?)
"""
_ADD_NETWORKS: Final = """
INSERT INTO host_networks SELECT id, network, enrolled_at FROM hosts WHERE project = ?
"""
_ADD_CALIBRATIONS: Final = """
INSERT INTO calibrations
SELECT id, runtime, project, account, 0, determinism_class, seconds_per_step, enrolled_at
FROM hosts WHERE project = ?
"""
_CALIBRATED: Final = """
UPDATE assignments SET state = 'valid', verdict = 'valid', host = ?, verdict_sent = 1 WHERE id = ?
"""
_VOUCHED: Final = "UPDATE classes SET accounts = ?, measured = 1 WHERE project = ?"
_GIVE: Final = """
UPDATE assignments SET
    state = 'leased', host = h.id, account = h.account, nonce = lower(hex(randomblob(16))),
    issued_at = :now - :begun, lease_until = :first_end + :every * (assignments.id - :first)
FROM hosts h
WHERE h.id = :first_host + assignments.id % :hosts
  AND assignments.project = :project AND assignments.version = :version
  AND assignments.epoch = 0 AND assignments.state = 'unsent'
  AND assignments.id >= :first AND assignments.id < :first + :count
"""
_FINISH: Final = """
UPDATE assignments SET
    state = 'valid', reported_at = :now, digest = lower(hex(randomblob(32))), size = :size,
    loss_first = 1.0, loss_last = 0.9, compute_seconds = 50, norm = 0.03, verdict = 'valid',
    credit = 1.0, ripe_at = :now + 86400, reason = '{"code":"proven_result"}', verdict_sent = 1
WHERE project = :project AND version = :version AND epoch = 0 AND state = 'leased'
"""
_APPLY: Final = """
UPDATE units SET state = 'applied', revision = 1, decided_at = :now,
    canonical = (SELECT a.id FROM assignments a WHERE a.unit = units.id)
WHERE project = :project AND version = :version AND epoch = 0 AND kind = 'train'
"""
_ADD_DELTAS: Final = """
INSERT INTO deltas (assignment, size, data) SELECT canonical, :size, NULL FROM units
WHERE project = :project AND version = :version AND epoch = 0 AND kind = 'train'
"""
_COUNT_APPLIED: Final = """
UPDATE rounds SET
    open = 0, valid = 0, quorum_at = :now, opened_at = :now - 3600, swept_at = :now
WHERE project = :project AND version = :version AND epoch = 0
"""
_ADD_SHARES: Final = """
INSERT INTO shares
SELECT project, epoch, version, account, count(*) FROM assignments
WHERE project = :project AND state = 'leased' GROUP BY project, epoch, version, account
"""
_RANGE: Final = """
SELECT min(id), count(*) FROM assignments
WHERE project = ? AND epoch = 0 AND version = ? AND state = 'unsent'
"""
_HELD: Final = "SELECT host, id FROM assignments WHERE project = ? AND state = 'leased'"


@dataclass(frozen=True)
class Amounts:
    """How much there is in the store, in all projects together."""

    projects: int
    hosts: int
    finished_rounds: int
    leases: int
    round_units: int = LARGEST_ROUND
    shortest_unit: float = RoundSize.shortest_unit

    @property
    def finished_rows(self) -> int:
        return self.finished_rounds * self.round_units


def fill_store(store: Store, deps: Deps, path: Path, amounts: Amounts) -> list[Group]:
    """Publish the projects and give them a past; return the hosts that will ask for work."""
    groups = []
    first = 1
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")  # only while filling
        db.execute("PRAGMA cache_size = -1000000")
        for number in range(amounts.projects):
            units = amounts.round_units
            size = RoundSize(units, quorum=units, shortest_unit=amounts.shortest_unit)
            project = publish_project(store, deps, f"large-{number}", size)
            past = _Past(store, deps, db, project, first, amounts.hosts // amounts.projects)
            past.enrol()
            for _ in range(_part(amounts.finished_rounds, amounts.projects, number)):
                past.finish_round()
            groups.append(past.open_leases(amounts.leases // amounts.projects))
            first += past.hosts
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return groups


def fill_brisk(
    store: Store, deps: Deps, path: Path, first: int, hosts: int, units: int = 8
) -> Group:
    """Publish a project of small rounds, which will really advance; return its hosts."""
    # units alike: these hosts answer at once, which is no speed to foresee a round's end by
    size = RoundSize(units=units, quorum=3 * units // 4, shortest_unit=1.0)
    project = publish_project(store, deps, "brisk", size)
    add_proven_hosts(store, deps, path, project, first=first, count=hosts)
    return Group("brisk", first, [[] for _ in range(hosts)])


def add_proven_hosts(
    store: Store, deps: Deps, path: Path, project: Project, *, first: int, count: int
) -> None:
    """Let a project have `count` proven hosts, of accounts of their own, from number `first`."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        _Past(store, deps, db, project, first, count).enrol()


def _part(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)


@dataclass
class _Past:
    """One project's hosts and rounds."""

    store: Store
    deps: Deps
    db: sqlite3.Connection
    project: Project
    first_host: int
    hosts: int

    def enrol(self) -> None:
        """Add proven, calibrated hosts, each of its own account."""
        with _committed(self.db):
            self.db.executemany(_ADD_HOSTS, [self._host(i) for i in range(self.hosts)])
            self.db.execute(_ADD_NETWORKS, (self.project.id,))
            self.db.execute(_ADD_CALIBRATIONS, (self.project.id,))
        with self.store.write() as tx:
            assignment = _calibration(tx, self.project, self.deps.clock())
            tx.calibrations.add_class(self.project.id, _CLASS, assignment, self.deps.clock())
        self.db.execute(_CALIBRATED, (self.first_host, assignment))
        self.db.execute(_VOUCHED, (self.hosts, self.project.id))

    def _host(self, place: int) -> tuple[object, ...]:
        number, now = self.first_host + place, self.deps.clock()
        key = SigningKey.from_bytes(secret(number))
        account = fingerprint_of(secret(-number).hex())
        network = network_of("127.0.0.1", self.deps.networks.own_networks)
        known = (network, AGENT, RUNTIME.fingerprint(), _CLASS, _SECONDS_PER_STEP)
        return (
            *(number, self.project.id, key.fingerprint, key.public, account),
            *(*known, now, now, now),
        )

    def finish_round(self) -> None:
        """Plan the newest version's round, let hosts do all of it, and make the next version."""
        with self.store.write() as tx:
            plan.commit(tx, self.deps, self.project)
        first, count = self.db.execute(_RANGE, self._place).fetchone()
        self._give(first, count, self.deps.clock() + LEASE_SECONDS)
        values = self._values | {"size": training_format(self.project.metadata).size}
        with _committed(self.db):
            for statement in (_FINISH, _APPLY, _ADD_DELTAS, _COUNT_APPLIED):
                self.db.execute(statement, values)
        self._advance()

    def open_leases(self, count: int) -> Group:
        """Plan the newest version's round and lease its first units, ending over an hour."""
        with self.store.write() as tx:
            plan.commit(tx, self.deps, self.project)
        first, _ = self.db.execute(_RANGE, self._place).fetchone()
        self._give(first, count, self.deps.clock())
        self.db.execute(_ADD_SHARES, self._values)
        held: list[list[int]] = [[] for _ in range(self.hosts)]
        for host, assignment in self.db.execute(_HELD, (self.project.id,)):
            held[host - self.first_host].append(self.deps.numbers.shown(assignment))
        return Group(self.project.name, self.first_host, held)

    def _give(self, first: int, count: int, first_end: float) -> None:
        values = self._values | {
            "first": first,
            "count": count,
            "first_end": first_end,
            "every": LEASE_SECONDS / count,
            "begun": _BEGUN_SECONDS,
            "first_host": self.first_host,
            "hosts": self.hosts,
        }
        self.db.execute(_GIVE, values)

    def _advance(self) -> None:
        """Make a version that differs from the one before by nothing, as `advance` would."""
        project, now = self.project, self.deps.clock()
        place = (project.id, project.epoch, project.version)
        with self.store.write() as tx:
            round_ = tx.rounds.get(*place)
            assert round_ is not None
            tx.rounds.close(round_, now)
            tx.versions.add(self._next(tx.versions.get(*place)))
            tx.projects.advance(*place, project.version + 1)
            self.project = tx.projects.find(project.name)

    def _next(self, previous: VersionRow) -> VersionRow:
        model = self.project.metadata.model
        nothing = {spec.name: np.zeros(spec.shape, np.float32) for spec in PARAMETERS}
        encoding = DeltaFormat(model, "int4", BLOCK)
        difference = encoding.encode(nothing)
        number = previous.number + 1
        source = following_source(previous, model.initial, previous.digest, difference)
        return msgspec.structs.replace(
            previous,
            number=number,
            difference=self.deps.blobs.put(difference),
            snapshot="" if number % snapshot_interval(encoding) else model.initial.digest,
            source=source,
            made_at=self.deps.clock(),
        )

    @property
    def _place(self) -> tuple[int, int]:
        return self.project.id, self.project.version

    @property
    def _values(self) -> dict[str, float]:
        now = self.deps.clock()
        return {"project": self.project.id, "version": self.project.version, "now": now}


def _calibration(tx: Transaction, project: Project, now: float) -> int:
    """Add the calibration unit; return an assignment of it."""
    unit = calibration_unit(project.metadata)
    new = NewUnit(unit.kind, 0, unit.seed, unit.shards.first, unit.shards.count, unit.local_steps)
    row = tx.units.add(project.id, project.epoch, 0, new, now)
    return tx.assignments.add(NewAssignment(row, Purpose.CALIBRATION, now))


class _committed:  # noqa: N801 - reads as a word: with _committed(db)
    """One transaction of a connection that is otherwise in autocommit."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
