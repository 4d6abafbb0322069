"""Old versions lose what nobody needs any more, and nothing else; files stay bounded for years."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from itertools import pairwise

import msgspec
import pytest

from pleb_coordinator.aggregation.recompute import How, recompute
from pleb_coordinator.aggregation.versions import following_source, snapshot_interval
from pleb_coordinator.backups.contents import files_of
from pleb_coordinator.blobs.local import blob_place, delta_place
from pleb_coordinator.cli import main
from pleb_coordinator.core.keeping import milestone_distance
from pleb_coordinator.core.records import (
    Evaluation,
    FileKind,
    Kept,
    NewAssignment,
    NewUnit,
    Purpose,
    RestoreCause,
    Round,
    StoredDelta,
    VersionInput,
    VersionRow,
)
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.config import CoordinatorConfig, Retention, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import PROJECT_JOBS, RARE_SECONDS, Jobs
from pleb_coordinator.steps import rollback, sweep, thin
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.project import ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob, UnitKind
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.version import read_version
from tests.integration.steps_world import World

FEW = Retention(history_days=30, versions=12, milestones=2)
LAG = LIMITS.version_lag
RESULTS = 16
"""Of a round, as by default."""


class OldWorld(World):
    """A world whose coordinator keeps few versions."""

    def __init__(self, home, retention=FEW, **options):
        super().__init__(home, units=2, quorum=2, versions=100_000, **options)
        self.deps = dataclasses.replace(self.deps, retention=retention)
        self.trusted = self.volunteer("trusted", role=Role.TRUSTED)

    def advance(self, versions):
        """Make versions, with all background work that is due a while later."""
        last = self.project.version + versions
        while self.project.version < last:
            self.work(self.trusted)
            self.clock.now += 11

    def settle(self):
        """Let all be removed that is not needed."""
        jobs = Jobs(self.store, self.deps)
        for _ in range(5):
            jobs.run_due()
            self.clock.now += max(RARE_SECONDS, CLAIM_SECONDS) + 1

    def rows(self, epoch=None):
        project = self.project
        with self.store.read() as tx:
            return tx.versions.history(
                project.id, project.epoch if epoch is None else epoch, after=-1, limit=10_000
            )

    def kept(self):
        return {row.number: row.kept for row in self.rows()}

    def new_epoch(self):
        self.metadata = msgspec.structs.replace(
            self.metadata, number=self.project.metadata_number + 1, epoch=self.project.epoch + 1
        )
        self.publish(self.metadata, invite=False)
        self.trusted.held.clear()
        self.run()
        self.calibrate(self.trusted)

    def roll_back(self, number):
        with self.store.read() as tx:
            work = rollback.plan_restoration(
                tx, tx.projects.find("tiny"), number, RestoreCause.OPERATOR
            )
        row = rollback.compute(self.deps, work)
        with self.store.write() as tx:
            assert rollback.commit(tx, self.deps, work, row)
        self.trusted.held.clear()
        return work

    def verified(self, epoch=None):
        """Recompute as `model verify` does; return by number how."""
        rows = self.rows(epoch)
        with self.store.read() as tx:
            project = tx.projects.find("tiny")
            found = list(
                recompute(
                    rows,
                    lambda number: tx.projects.metadata_at(project.id, number),
                    self.deps.blobs.get,
                    lambda name: self.deps.blobs.delta(bytes_of(tx, name)),
                    restored={row.restores for row in rows},
                )
            )
        assert [one.number for one in found] == [row.number for row in rows]
        assert all(one.matches for one in found)
        return {one.number: one.how for one in found}

    def check(self):
        """Nothing that is referenced is gone, and all that is not is on its way."""
        blobs = {path.name for path in (self.home / "blobs").glob("*/*")}
        deltas = {int(path.name) for path in (self.home / "deltas").glob("*/*")}
        project = self.project
        rows = [row for epoch in range(project.epoch + 1) for row in self.rows(epoch)]
        with self.store.read() as tx:
            places = files_of(tx)
            doomed = {(t.kind, t.name) for kind in FileKind for t in tx.tombstones._all(kind)}
            for row in rows:
                assert tx.references.of(project.id, row.epoch, row.number) == row.blobs
                if row.kept is Kept.LISTED:
                    assert row.source is None
                    continue
                metadata = tx.projects.metadata_at(project.id, row.metadata_number)
                read_version(row.readable_source, metadata, self.deps.blobs.get)  # its digest
                if row.kept is Kept.EXACT:
                    for entry in row.inputs:
                        stored = bytes_of(tx, entry.assignment)
                        assert digest_of(self.deps.blobs.delta(stored)) == entry.digest
        needed = set(places)
        assert {blob_place(name) for name in blobs} >= {p for p in needed if p.startswith("blobs")}
        assert {delta_place(n) for n in deltas} >= {p for p in needed if p.startswith("deltas")}
        for name in blobs:
            assert blob_place(name) in needed or (FileKind.BLOB, name) in doomed, name
        for epoch in range(project.epoch + 1):
            self.verified(epoch)


def bytes_of(tx, assignment):
    stored = tx.assignments.delta(assignment)
    assert stored is not None
    return stored


def test_the_newest_are_exact_the_older_are_milestones_or_only_listed(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(40)
    world.settle()
    kept, newest = world.kept(), world.project.version
    exact = [number for number, how in kept.items() if how is Kept.EXACT]
    assert exact == list(range(newest - 11, newest + 1))
    interval = snapshot_interval(difference_format(world.metadata))
    apart = milestone_distance(newest, interval, 2)
    milestones = [number for number, how in kept.items() if how is Kept.MILESTONE]
    assert milestones == [n for n in range(exact[0]) if n % apart == 0]
    assert {how for n, how in kept.items() if n < exact[0] and n not in milestones} == {Kept.LISTED}
    how = world.verified()
    assert {how[n] for n in kept if kept[n] is Kept.LISTED} == {How.NOT_KEPT}
    assert {how[n] for n in milestones[1:]} == {How.READ}
    assert {how[n] for n in range(newest - LAG + 1, newest + 1)} == {How.RECOMPUTED}
    listed = next(row for row in world.rows() if row.kept is Kept.LISTED)
    assert (listed.results, listed.inputs, listed.blob_bytes, listed.delta_bytes) == (2, (), 0, 0)
    assert listed.digest
    assert listed.train_loss
    world.check()


def test_results_of_an_old_version_go_a_few_at_a_time(tmp_path, monkeypatch):
    """Requests wait for a transaction, and a version may be made of 100,000 results."""
    monkeypatch.setattr(thin, "_RESULTS", 1)
    world = OldWorld(tmp_path, Retention(versions=0))
    world.advance(12)
    row = next(row for row in world.rows() if row.number == 2)
    world.deps = dataclasses.replace(
        world.deps, retention=Retention(versions=0, result_bytes=10 * row.delta_bytes)
    )
    done = []

    def due():
        with world.store.read() as tx:
            return thin.find(tx, world.deps, tx.projects.find("tiny"), set())

    while (work := due()) is not None:
        done.append((work.row.number, len(work.results)))
        with world.store.write() as tx:
            assert thin.commit(tx, world.deps, work, thin.compute(world.deps, work))
    assert done == [(0, 0), (1, 1), (1, 1), (1, 0), (2, 1), (2, 1), (2, 0)]
    kept = world.kept()
    assert [kept[number] for number in (1, 2, 3)] == [Kept.READABLE, Kept.READABLE, Kept.EXACT]
    world.settle()
    world.check()


def test_bytes_bound_what_is_kept_too(tmp_path):
    world = OldWorld(tmp_path, Retention(versions=0, milestones=1))
    world.advance(30)
    row = world.rows()[20]
    with world.store.read() as tx:
        sizes = [bytes_of(tx, entry.assignment).size for entry in row.inputs]
    assert row.delta_bytes == sum(sizes)
    rules = Retention(versions=0, milestones=1, result_bytes=14 * row.delta_bytes, version_bytes=0)
    world.deps = dataclasses.replace(world.deps, retention=rules)
    world.settle()
    kept = list(world.kept().values())
    assert kept.count(Kept.EXACT) in {14, 15}, "version 0 has no results"
    assert kept.count(Kept.LISTED) == 0
    with world.store.read() as tx:
        load = tx.versions.load(1)
    files = {d for r in world.rows() for d in (r.difference, r.outer_state, r.snapshot) if d}
    assert load.blob_bytes == sum(world.deps.blobs.size(digest) for digest in files)
    rules = dataclasses.replace(rules, version_bytes=int(load.blob_bytes * 0.7))
    world.deps = dataclasses.replace(world.deps, retention=rules)
    world.settle()
    with world.store.read() as tx:
        assert tx.versions.load(1).blob_bytes <= rules.version_bytes
    assert list(world.kept().values()).count(Kept.LISTED) > 3
    world.check()


def test_what_agents_and_verification_need_stays_however_small_the_bounds(tmp_path):
    world = OldWorld(tmp_path, Retention(versions=1, result_bytes=1, version_bytes=1, milestones=1))
    world.advance(20)
    world.settle()
    newest = world.project.version
    assert [n for n, how in world.kept().items() if how is Kept.EXACT] == list(
        range(newest - LAG + 1, newest + 1)
    )
    world.advance(3)
    world.check()


def test_the_best_version_stays_readable(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(5)
    best = next(row for row in world.rows() if row.number and not row.snapshot)
    with world.store.write() as tx:
        for number, loss in ((1, 3.0), (best.number, 0.5), (4, 2.0)):
            metrics = {"loss": loss}
            tx.projects.add_evaluation(Evaluation(1, 0, number, 1, metrics, 8, world.clock.now))
    world.advance(35)
    world.settle()
    row = world.rows()[best.number]
    assert row.kept is Kept.MILESTONE
    assert row.readable_source.snapshot.digest == row.snapshot, "it got a snapshot of its own"
    assert row.readable_source.differences == []
    world.check()


def test_a_milestone_can_be_restored_and_what_is_only_listed_cannot(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(40)
    world.settle()
    kept = world.kept()
    milestone = max(n for n, how in kept.items() if how is Kept.MILESTONE)
    listed = milestone + 1
    assert kept[listed] is Kept.LISTED
    with pytest.raises(InputError, match=f"Version {milestone} is the newest one before it"):
        world.roll_back(listed)
    assert not world.roll_back(milestone).keeps_momentum
    restored = world.rows()[-1]
    assert restored.digest == world.rows()[milestone].digest
    assert len(restored.norms) == len(world.model.parameters)
    world.advance(3)
    world.check()
    with world.store.write() as tx:
        project = tx.projects.find("tiny")
        tx.projects.set_restoring(project.id, listed, RestoreCause.HOLDOUT)
    world.trusted.held.clear()
    world.run()
    assert world.rows()[-1].restores == milestone, "the coordinator takes the one before"
    assert world.verified()[world.project.version] is How.READ


def test_rows_of_units_go_with_the_results(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(30)
    world.clock.now += 40 * 86_400
    world.settle()
    for _ in range(30):
        world.settle()
    first = min(n for n, how in world.kept().items() if how is Kept.EXACT)
    with world.store.read() as tx:
        left = {v for (v,) in tx._db.execute("SELECT version FROM units WHERE kind <> 'calibrate'")}
        rounds = {v for (v,) in tx._db.execute("SELECT version FROM rounds")}
    assert min(left) == min(rounds) == first - 1, "version n is made of the units of round n - 1"
    world.advance(2)
    world.check()


def test_a_case_that_waits_for_a_trusted_host_keeps_its_results(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(3)
    other = world.volunteer("other")
    with world.store.write() as tx:
        [unit, *_] = tx.units.of_round(1, 0, 1, {UnitState.APPLIED})
        tx._db.execute(
            "UPDATE hosts SET suspended_by = :unit WHERE id = :host",
            unit=unit.id,
            host=tx.hosts.find(1, other.key.fingerprint).id,
        )
    world.advance(35)
    world.settle()
    kept = world.kept()
    assert next(n for n, how in kept.items() if how is Kept.EXACT) == 2
    assert kept[3] is Kept.LISTED
    world.check()


def test_a_blob_that_is_published_again_while_it_is_dying_is_kept_or_asked_for(tmp_path):
    world = OldWorld(tmp_path)
    world.advance(40)
    doomed = next(row for row in world.rows() if row.kept is Kept.EXACT and row.snapshot)
    model = msgspec.structs.replace(
        world.model,
        initial=Blob(digest=doomed.snapshot, size=world.deps.blobs.size(doomed.snapshot)),
        initial_digest=doomed.digest,
    )
    world.advance(20)
    assert world.kept()[doomed.number] is not Kept.EXACT
    with world.store.write() as tx:
        row = tx.versions.get(1, 0, doomed.number)
        work = thin.Reduction(tx.projects.get(1), row, world.metadata, Kept.LISTED)
        thin.commit(tx, world.deps, work, None)
        tx._db.execute("UPDATE tombstones SET condemned = 1 WHERE name = :n", n=doomed.snapshot)
    world.metadata = msgspec.structs.replace(world.metadata, number=2, epoch=1, model=model)
    reply = world.publish(world.metadata, invite=False)
    assert [slot.digest for slot in reply.missing] == [doomed.snapshot], "it has to be sent again"
    assert world.project.epoch == 0
    with world.store.write() as tx:
        tx._db.execute("UPDATE tombstones SET condemned = 0 WHERE name = :n", n=doomed.snapshot)
    assert not world.publish(world.metadata, invite=False).missing
    assert world.project.epoch == 1
    world.settle()
    assert world.deps.blobs.exists(doomed.snapshot)


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_lose_nothing_that_is_referenced(tmp_path, seed):
    chance = random.Random(seed)
    world = OldWorld(tmp_path, codec=chance.choice(["int4", "fp32"]))
    late = None
    for _ in range(14):
        match chance.randrange(8):
            case 0:
                world.new_epoch()
            case 1:
                readable = [n for n, how in world.kept().items() if how is not Kept.LISTED][:-1]
                world.roll_back(chance.choice(readable or [0])) if world.project.version else None
            case 2:
                world.deps = dataclasses.replace(world.deps, retention=random_rules(chance))
            case 3:
                world.settle()
            case 4:  # a process that is killed between two phases, or comes late
                late = half_done(world)
            case 5 if late and late[0].row in world.rows(late[0].row.epoch):
                with world.store.write() as tx:
                    thin.commit(tx, world.deps, *late)
            case _:
                world.advance(chance.randrange(1, 12))
        world.check()
    world.settle()
    world.settle()
    world.check()


def random_rules(chance):
    return Retention(
        versions=chance.choice([0, 1, 5, 12]),
        result_bytes=chance.choice([0, 1, 20_000]),
        version_bytes=chance.choice([0, 1, 30_000]),
        milestones=chance.choice([0, 1, 3]),
    )


def half_done(world):
    """Find and compute what is to be kept less of, as a process that does not commit it."""
    with world.store.read() as tx:
        work = thin.find(tx, world.deps, tx.projects.find("tiny"), ())
    return None if work is None else (work, thin.compute(world.deps, work))


def test_milestones_are_few_and_evenly_spread_however_many_versions_there_are():
    for most in (1, 2, 8):
        for newest in (*range(200), 5_000, 10_000_000):
            apart = milestone_distance(newest, 24, most)
            assert newest // apart <= most
            assert apart == 24 or newest // (apart // 2) > most
    assert milestone_distance(10_000, 24, 0) == 24


class Sizes:
    """Blobs of which only the size is kept: a file of a 10 M-parameter project has 5 to 80 MB."""

    def __init__(self):
        self.files, self.deltas = {}, {}

    def exists(self, digest):
        return digest in self.files

    def size(self, digest):
        return self.files[digest]

    def sizes(self, digests):
        return {digest: self.files[digest] for digest in digests if digest in self.files}

    def read(self, digest, start, end):
        return bytes(min(end, self.files[digest]) - start)

    def delete(self, digest):
        self.files.pop(digest, None)

    def delete_delta(self, assignment):
        self.deltas.pop(assignment, None)

    @property
    def total(self):
        return sum(self.files.values()) + sum(self.deltas.values())


def test_a_project_of_ten_million_parameters_stays_below_three_gigabytes(tmp_path):
    """Versions by the rules of the store, jobs in virtual time; of files only their true sizes.

    16 units a round and a quarter more results than that, int4 both ways, as by default.
    """
    world = OldWorld(tmp_path, Retention(history_days=2))
    shapes = [TensorSpec(name=f"w{i}", dtype="float32", shape=[1000, 1000]) for i in range(10)]
    model = ModelSpec(shapes, [], world.model.initial, world.model.initial_digest)
    encoding = difference_format(msgspec.structs.replace(world.metadata, model=model))
    assert encoding.size > 5_000_000
    # snapshots as often as those of the small model whose graphs the project has: oftener
    interval = snapshot_interval(difference_format(world.metadata))
    assert interval <= snapshot_interval(encoding)
    years = Year(world, encoding.size, 40_000_000, interval)
    peaks = [years.train(100) for _ in range(3)]
    assert max(peaks) < 3_000_000_000, peaks
    assert all(later < 1.05 * earlier for earlier, later in pairwise(peaks[1:])), peaks
    rows = years.rows_of("units") + years.rows_of("assignments") + years.rows_of("events")
    assert rows < 60 * 60, "of 300 rounds: rows of units go when they explain nothing any more"


class Year:
    """Adds versions as `advance` does, without tensors, and lets the background process run."""

    def __init__(self, world, delta_bytes, model_bytes, interval):
        self.world, self.blobs, self.interval = world, Sizes(), interval
        self.delta_bytes, self.model_bytes = delta_bytes, model_bytes
        self.blobs.files = dict.fromkeys(
            (p.name for p in (world.home / "blobs").glob("*/*")), 1
        ) | {world.model.initial.digest: model_bytes}
        world.deps = dataclasses.replace(world.deps, blobs=self.blobs)
        sweeping = [job for job in PROJECT_JOBS if job.find is sweep.find_round]
        self.jobs = Jobs(world.store, world.deps, project_jobs=sweeping)

    def rows_of(self, table):
        with self.world.store.read() as tx:
            return tx._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def _put(self, name, size):
        digest = digest_of(name.encode())
        self.blobs.files[digest] = size
        return digest

    def train(self, versions):
        """Make so many versions, one every two hours; return the most bytes that there were."""
        peak = 0
        for _ in range(versions):
            self._version()
            self.world.clock.now += 7200
            for _ in range(3):
                self.jobs.run_due()
                self.world.clock.now += 11
            peak = max(peak, self.blobs.total)
        return peak

    def _name(self, digest):
        large = self.model_bytes > LIMITS.blob_part_bytes
        return Blob(digest=digest, size=self.model_bytes, root="cd" * 32 if large else None)

    def _version(self):
        world, now = self.world, self.world.clock.now
        project = world.project
        place, number = (project.id, project.epoch, project.version), project.version + 1
        difference = f"difference {number}".encode()
        state = self._put(f"state {number}", 2 * self.model_bytes)
        whole = self._put(f"model {number}", self.model_bytes) if not number % self.interval else ""
        with world.store.write() as tx:
            previous = tx.versions.get(*place)
            tx.rounds.add(Round(*place, RESULTS, RESULTS, 0, RESULTS, now, now, None))
            tx._db.execute("UPDATE rounds SET closed_at = :now WHERE closed_at IS NULL", now=now)
            inputs = [self._unit(tx, place, position, now) for position in range(RESULTS)]
            before = self._name(previous.snapshot) if previous.snapshot else None
            source = following_source(previous, before, "ab" * 32, difference)
            digest = source.differences[-1].digest
            self.blobs.files[digest] = self.delta_bytes
            row = VersionRow(
                *place[:2],
                number,
                "ab" * 32,
                1,
                digest,
                state,
                whole,
                tuple(inputs),
                source,
                1.0,
                now,
                norms=(1.0,) * 10,
                results=RESULTS,
                delta_bytes=RESULTS * self.delta_bytes,
                blob_bytes=self.delta_bytes + (3 if whole else 2) * self.model_bytes,
            )
            assert tx.versions.add(row)
            assert tx.projects.advance(*place, number)

    def _unit(self, tx, place, position, now):
        """A unit with the result that counts; every fourth has a second one, which agreed."""
        new = NewUnit(UnitKind.TRAIN, position, 1, 0, 1, 5)
        if tx.units.find(*place, UnitKind.TRAIN, position) is None:
            tx.units.add(*place, new, now)
        unit = tx.units.find(*place, UnitKind.TRAIN, position)
        assignment = 0
        for _ in range(1 + (position % 4 == 0)):
            assignment = tx.assignments.add(NewAssignment(unit.id, Purpose.PRIMARY, now))
            tx.assignments.put_delta(StoredDelta(assignment, self.delta_bytes, None))
            self.blobs.deltas[assignment] = self.delta_bytes
            tx.events.add(place[0], now, "verified", unit=unit.id)
        tx._db.execute(
            "UPDATE assignments SET state = 'valid', digest = 'd' WHERE unit = :unit", unit=unit.id
        )
        tx._db.execute(
            "UPDATE units SET state = 'applied', canonical = :a WHERE id = :unit",
            a=assignment,
            unit=unit.id,
        )
        return VersionInput(unit.id, assignment, "d", 20.0)


def test_compact_buries_what_nobody_needs(tmp_path, capsys):
    home = tmp_path
    world = OldWorld(home, Retention())
    make_secret_file(Home(home).secret_file)
    world.advance(30)
    text = config_text(CoordinatorConfig(retention=FEW))
    (home / "coordinator.toml").write_text(text)
    orphan, young = (world.deps.blobs.put(data) for data in (b"never published", b"just now"))
    needed = world.rows()[-1].outer_state
    for digest in (orphan, needed):
        os.utime(home / blob_place(digest), (1.0, 1.0))
    assert main(["compact", "--home", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["orphans"] == 1
    assert found["bytes_after"] < found["bytes_before"]
    with world.store.read() as tx:
        buried = tx.tombstones.blobs()
    assert orphan in buried
    assert not {young, needed} & buried
    assert list(world.kept().values()).count(Kept.EXACT) == 12
    world.deps.blobs.delete(young)
    world.check()
    world.advance(2)
