"""The background loop: many at once, killed in between, woken by other processes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.jobs.loop import Jobs, run_jobs
from pleb_coordinator.steps.advance import compute, ready_round, record_version
from pleb_coordinator.steps.expire import expire_leases
from pleb_coordinator.steps.verify import examine_case, next_case, settle
from pleb_coordinator.store.sqlite import SqliteStore
from pleb_shared.protocol.messages import Role
from pleb_shared.tensors.layout import save_tensors
from tests.integration.steps_world import World


@pytest.fixture
def world(tmp_path):
    """A round in which all results are in, and nobody has looked at them."""
    world = World(tmp_path, units=4, quorum=4)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for manifest in world.ask(trusted, 4)[0]:
        world.answer(trusted, manifest)
    return world


def verified(world):
    jobs = Jobs(world.store, world.deps)
    while jobs._verify("tiny"):
        pass
    return world


def advance(world, store, deps):
    with store.read() as tx:
        project = tx.projects.find("tiny")
        return ready_round(tx, deps, project)


def due_case(world):
    with world.store.read() as tx:
        case = next_case(tx, tx.projects.find("tiny"))
    assert case is not None
    return case


def versions(world):
    with world.store.read() as tx:
        return [row.number for row in tx.versions.history(1, 0, after=-1, limit=99)]


def test_of_two_that_compute_the_same_version_exactly_one_wins(world):
    verified(world)
    other = SqliteStore(world.home / "store.sqlite")
    works = [advance(world, store, world.deps) for store in (world.store, other)]
    rows = [compute(world.deps, work) for work in works]
    assert rows[0] == rows[1], "the same deltas make the same version"
    won = []
    for store, work, row in zip((world.store, other), works, rows, strict=True):
        with store.write() as tx:
            won.append(record_version(tx, world.deps, work, row))
    assert won == [True, False]
    assert versions(world) == [0, 1]
    other.close()


def test_a_verdict_that_changes_the_inputs_meanwhile_makes_the_work_void(world):
    verified(world)
    work = advance(world, world.store, world.deps)
    row = compute(world.deps, work)
    with world.store.write() as tx:
        unit = tx.units.get(work.inputs[0].unit)
        tx.units.move(unit, UnitEvent.REFUTED, world.clock.now, None)
        tx.units.move(tx.units.get(unit.id), UnitEvent.DECIDED, world.clock.now, 10**6)
    with world.store.write() as tx:
        assert not record_version(tx, world.deps, work, row)
    assert versions(world) == [0]


def test_two_loops_at_once_make_every_version_once(tmp_path):
    world = World(tmp_path, units=2, quorum=2, versions=6)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    stop = threading.Event()
    failures = []

    def loop():
        store = SqliteStore(world.home / "store.sqlite")
        try:
            run_jobs(store, replace(world.deps, blobs=LocalBlobs(world.home)), stop)
        except Exception as error:  # noqa: BLE001 - any would be a failure
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while world.project.version < 6 and time.monotonic() < end:
        for manifest in world.ask(trusted)[0]:
            world.answer(trusted, manifest)
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert versions(world) == list(range(7))
    with world.store.read() as tx:
        units = [u for v in range(6) for u in tx.units.of_round(1, 0, v, {UnitState.APPLIED})]
    assert len({u.id for u in units}) == len(units) == 12


class Killed(BaseException):
    """The process ends here."""


class KilledAfter:
    """Blobs of a process that is killed after so many writes."""

    def __init__(self, blobs, writes):
        self._blobs, self._left = blobs, writes

    def __getattr__(self, name):
        return getattr(self._blobs, name)

    def put(self, data):
        if not self._left:
            raise Killed
        self._left -= 1
        return self._blobs.put(data)


@pytest.mark.parametrize("writes", [0, 1])
def test_killed_between_blobs_and_transaction_nothing_is_lost(world, writes):
    deps = replace(world.deps, blobs=KilledAfter(world.deps.blobs, writes))
    with pytest.raises(Killed):
        Jobs(world.store, deps).run_due()
    assert versions(world) == [0]
    world.run()
    assert versions(world) == [0, 1]
    assert len(world.events("advanced")) == 1


def settle_and_die(tx, deps, case, findings):
    assert settle(tx, deps, case, findings)
    raise Killed


def test_killed_inside_a_transaction_it_is_as_if_it_had_not_begun(world):
    case = due_case(world)
    findings = examine_case(world.deps, case)
    with pytest.raises(Killed), world.store.write() as tx:
        settle_and_die(tx, world.deps, case, findings)
    assert due_case(world) == case
    world.run()
    assert versions(world) == [0, 1]


def test_a_case_that_another_loop_has_settled_is_dropped(world):
    other = SqliteStore(world.home / "store.sqlite")
    case = due_case(world)
    findings = examine_case(world.deps, case)
    with other.write() as tx:
        assert settle(tx, world.deps, case, findings)
    with world.store.write() as tx:
        assert not settle(tx, world.deps, case, findings)
    assert len(world.events("verified")) == 1
    other.close()


def test_an_expired_lease_is_taken_back_once(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    assert world.ask(host)[0]
    world.clock.now += 601
    with world.store.write() as tx:
        assert expire_leases(tx, world.deps) == 1
        assert expire_leases(tx, world.deps) == 0


def test_a_commit_of_another_process_wakes_the_loop_in_a_moment(world):
    stop = threading.Event()
    store = SqliteStore(world.home / "store.sqlite")
    trusted = world.volunteer("later", role=Role.TRUSTED)
    world.run()
    thread = threading.Thread(target=run_jobs, args=(store, world.deps, stop))
    thread.start()
    try:
        time.sleep(0.3)
        for manifest in world.ask(trusted, 4)[0]:
            world.answer(trusted, manifest)
        begun = time.monotonic()
        while world.project.version < 2 and time.monotonic() < begun + 3:
            time.sleep(0.005)
        assert world.project.version == 2
        assert time.monotonic() - begun < 2, "not only at the next idle look"
    finally:
        stop.set()
        thread.join()
        store.close()


def test_one_damaged_project_does_not_stop_the_others(world, caplog):
    with world.store.read() as tx:
        source = tx.versions.get(1, 0, 0)
    world.deps.blobs.delete(source.snapshot)
    until = Jobs(world.store, world.deps).run_due()
    assert until <= world.clock.now + 30
    assert versions(world) == [0]
    assert "trying again later" in caplog.text
    world.deps.blobs.put(save_tensors(world.initial))
    world.run()
    assert versions(world) == [0, 1]
