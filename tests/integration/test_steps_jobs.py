"""The background loop: many at once, killed in between, woken by other processes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import msgspec
import pytest

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.records import FileKind, NewAssignment, Purpose, StoredDelta, VersionRow
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.jobs.loop import IDLE_SECONDS, PROJECT_JOBS, Job, Jobs, run_jobs
from pleb_coordinator.steps import advance, expire, sweep, upload, verify
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_coordinator.store.engine import StoreUnavailableError, store_is_away
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.packing import pack
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("each_engine", "legal_moves")


@pytest.fixture
def world(tmp_path):
    """A round in which all results are in, and nobody has looked at them."""
    world = World(tmp_path, units=4, quorum=4)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for manifest in world.ask(trusted, 4)[0]:
        world.answer(trusted, manifest)
    return world


VERIFY, ADVANCE = (
    next(job for job in PROJECT_JOBS if isinstance(job, Job) and job.name == name)
    for name in ("verify", "advance")
)


def verified(world):
    Jobs(world.store, world.deps, project_jobs=[VERIFY]).run_due()
    return world


def found(world, store, step):
    """Return what a step's `find` returns to a process with that store."""
    with store.read() as tx:
        return step.find(tx, world.deps, tx.projects.find("tiny"), set())


def versions(world):
    with world.store.read() as tx:
        return [row.number for row in tx.versions.history(1, 0, after=-1, limit=99)]


def test_of_two_that_compute_the_same_version_exactly_one_wins(world):
    verified(world)
    other = Store(world.place)
    works = [found(world, store, advance) for store in (world.store, other)]
    rows = [advance.compute(world.deps, work) for work in works]
    assert rows[0] == rows[1], "the same deltas make the same version"
    won = []
    for store, work, row in zip((world.store, other), works, rows, strict=True):
        with store.write() as tx:
            won.append(advance.commit(tx, world.deps, work, row))
    assert won == [True, False]
    assert versions(world) == [0, 1]
    other.close()


def test_a_verdict_that_changes_the_inputs_meanwhile_makes_the_work_void(world):
    verified(world)
    work = found(world, world.store, advance)
    row = advance.compute(world.deps, work)
    with world.store.write() as tx:
        unit = tx.units.get(work.inputs[0].unit)
        tx.units.move(unit, UnitEvent.REFUTED, world.clock.now, None)
        tx.units.move(tx.units.get(unit.id), UnitEvent.DECIDED, world.clock.now, 10**6)
    with world.store.write() as tx:
        assert not advance.commit(tx, world.deps, work, row)
    assert versions(world) == [0]


def test_two_loops_at_once_make_every_version_once(tmp_path):
    world = World(tmp_path, units=2, quorum=2, versions=6)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    stop = threading.Event()
    failures = []

    def loop():
        store = Store(world.place)
        try:
            run_jobs(store, world.deps, stop, holder=str(threading.get_ident()))
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


def commit_and_die(tx, deps, case, findings):
    assert verify.commit(tx, deps, case, findings)
    raise Killed


def test_killed_inside_a_transaction_it_is_as_if_it_had_not_begun(world):
    case = found(world, world.store, verify)
    findings = verify.compute(world.deps, case)
    with pytest.raises(Killed), world.store.write() as tx:
        commit_and_die(tx, world.deps, case, findings)
    assert found(world, world.store, verify) == case
    world.run()
    assert versions(world) == [0, 1]


def test_a_case_that_another_loop_has_settled_is_dropped(world):
    other = Store(world.place)
    case = found(world, world.store, verify)
    findings = verify.compute(world.deps, case)
    with other.write() as tx:
        assert verify.commit(tx, world.deps, case, findings)
    with world.store.write() as tx:
        assert not verify.commit(tx, world.deps, case, findings)
    assert len(world.events("verified")) == 1
    other.close()


def test_an_expired_lease_is_taken_back_once(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    assert world.ask(host)[0]
    world.clock.now += 601
    with world.store.write() as tx:
        assert expire.expire_leases(tx, world.deps, 0.0) == 1
        assert expire.expire_leases(tx, world.deps, 0.0) == 0


def test_a_commit_of_another_process_wakes_the_loop_in_a_moment(world):
    stop = threading.Event()
    store = Store(world.place)
    trusted = world.volunteer("later", role=Role.TRUSTED)
    world.run()
    thread = threading.Thread(target=run_jobs, args=(store, world.deps, stop))
    thread.start()
    try:
        time.sleep(0.3)
        for manifest in world.ask(trusted, 4)[0]:
            world.answer(trusted, manifest)
        begun = time.monotonic()
        while world.project.version < 2 and time.monotonic() < begun + 0.9 * IDLE_SECONDS:
            time.sleep(0.005)
        assert world.project.version == 2, "not only at the next idle look"
    finally:
        stop.set()
        thread.join()
        store.close()


def test_what_time_makes_due_is_searched_for_once_a_second_or_when_it_is_known_to_be(world):
    searched = []

    def counted(tx, deps, project):
        searched.append(deps.clock())
        return expire.find_old_units(tx, deps, project)

    project_jobs = [
        replace(job, find=counted) if job.find is expire.find_old_units else job
        for job in PROJECT_JOBS
    ]
    world.run()
    assert world.ask(world.volunteer("other", role=Role.TRUSTED))[0]
    jobs, start = Jobs(world.store, world.deps, project_jobs=project_jobs), world.clock.now
    jobs.timed_seconds = 1.0
    for at in (start, start + 0.4, start + 1.1, start - 3600, start - 3599.9):
        world.clock.now = at
        jobs.run_due()
    assert searched == [start, start + 1.1, start - 3600], "the clock was set back at last"
    with world.store.read() as tx:
        end = tx.assignments.next_lease_end()
    assert end is not None
    for at in (end - 0.5, end - 0.4):
        world.clock.now = at
        assert jobs.run_due() == end
    world.clock.now = end + 0.01
    jobs.run_due()
    assert world.events("expired"), "although a second has not passed"


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


# Claims


def counting(job, counts):
    """Return the job with a record of the works that it computes."""

    def compute(deps, work):
        counts.append((job.name, work.key))
        time.sleep(0.01)  # long enough that another loop would find the same work
        return job.compute(deps, work)

    return replace(job, compute=compute) if isinstance(job, Job) else job


def test_two_loops_never_compute_the_same(tmp_path):
    world = World(tmp_path, units=4, quorum=4, versions=6)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    stop = threading.Event()
    counts: list[tuple[str, str]] = []
    jobs = [counting(job, counts) for job in PROJECT_JOBS]

    def loop(name):
        store = Store(world.place)
        loops = Jobs(store, world.deps, name, jobs)
        while not stop.is_set():
            loops.run_due()
            stop.wait(0.002)
        store.close()

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while world.project.version < 6 and time.monotonic() < end:
        for manifest in world.ask(trusted, 4)[0]:
            world.answer(trusted, manifest)
    stop.set()
    for thread in threads:
        thread.join()
    assert versions(world) == list(range(7))
    assert len(counts) == len(set(counts)) == 6 * 4 + 6
    with world.store.read() as tx:
        assert not tx.claims.held_by("one")
        assert not tx.claims.held_by("two")


def killed_while_computing(world, job, holder):
    """Let a process of that name claim a piece of work and be killed."""

    def compute(deps, work):
        raise Killed

    with pytest.raises(Killed):
        Jobs(world.store, world.deps, holder, [replace(job, compute=compute)]).run_due()


@pytest.mark.parametrize("job", [VERIFY, ADVANCE], ids=["verify", "advance"])
def test_what_a_killed_process_had_claimed_is_done_when_the_claim_expires(world, job):
    if job is ADVANCE:
        verified(world)
    killed_while_computing(world, job, "killed")
    world.run()
    assert versions(world) == [0], "the work is claimed"
    world.clock.now += CLAIM_SECONDS + 1
    world.run()
    assert versions(world) == [0, 1]


@pytest.mark.parametrize("job", [VERIFY, ADVANCE], ids=["verify", "advance"])
def test_a_restarted_process_does_at_once_what_it_had_claimed(world, job):
    if job is ADVANCE:
        verified(world)
    killed_while_computing(world, job, "serve")
    Jobs(world.store, world.deps, "serve").run_due()
    assert versions(world) == [0, 1]


def test_other_units_are_verified_while_one_is_claimed(world):
    killed_while_computing(world, VERIFY, "killed")
    verified(world)
    assert len(world.events("verified")) == 3


def test_a_claim_from_the_future_does_not_count(world):
    world.clock.now += 7200
    killed_while_computing(world, VERIFY, "killed")
    world.clock.now -= 7200  # the machine's clock had been ahead
    world.run()
    assert versions(world) == [0, 1]


def test_a_job_that_fails_releases_its_claim(world):
    with world.store.read() as tx:
        source = tx.versions.get(1, 0, 0)
    world.deps.blobs.delete(source.snapshot)
    Jobs(world.store, world.deps, "one").run_due()
    world.deps.blobs.put(save_tensors(world.initial))
    Jobs(world.store, world.deps, "two").run_due()
    assert versions(world) == [0, 1]


@pytest.mark.parametrize("job", [VERIFY, ADVANCE], ids=["verify", "advance"])
def test_a_claim_is_released_when_the_database_is_back(world, job, monkeypatch):
    """The database goes away while a job computes: neither its commit nor its claim's release
    reach it, and the process lives on."""
    if job is ADVANCE:
        verified(world)
    away = False
    write = world.store.write

    def failing(**options):
        if away:
            raise store_is_away()
        return write(**options)

    def compute(deps, work):
        nonlocal away
        away = True
        return job.compute(deps, work)

    monkeypatch.setattr(world.store, "write", failing)
    jobs = Jobs(world.store, world.deps, "one", [replace(job, compute=compute)])
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            jobs.run_due()
    with world.store.read() as tx:
        assert tx.claims.held_by("one")
    away = False
    jobs.project_jobs = PROJECT_JOBS
    jobs.run_due()
    assert versions(world) == [0, 1], "another process would wait for the claim to expire"


# Files are deleted outside of transactions


class Blobs:
    """Blobs of a process that is killed before it deletes anything."""

    def __init__(self, blobs):
        self._blobs = blobs

    def __getattr__(self, name):
        if name in {"delete", "delete_delta", "drop_upload"}:
            raise Killed
        return getattr(self._blobs, name)


@pytest.fixture
def old_round(tmp_path):
    """A round that can be swept, whose outer state is not kept for a snapshot."""
    world = World(tmp_path, units=1, quorum=1, versions=20)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 10:
        assert world.work(trusted)
    with world.store.read() as tx:
        state = tx.versions.get(1, 0, 2).outer_state
    assert world.deps.blobs.exists(state)
    return world, trusted, state


def sweep_next(world, trusted):
    world.work(trusted)
    with world.store.read() as tx:
        assert tx.versions.get(1, 0, 2).outer_state == ""


def test_an_outer_state_is_deleted_only_after_a_while(old_round):
    world, trusted, state = old_round
    sweep_next(world, trusted)
    assert world.deps.blobs.exists(state), "another process may be reading it"
    world.clock.now += CLAIM_SECONDS + 1
    world.run()
    assert not world.deps.blobs.exists(state)


def test_killed_before_a_deletion_only_a_tombstone_is_left(old_round):
    world, trusted, state = old_round
    sweep_next(world, trusted)
    world.clock.now += CLAIM_SECONDS + 1
    with pytest.raises(Killed):
        Jobs(world.store, replace(world.deps, blobs=Blobs(world.deps.blobs))).run_due()
    assert world.deps.blobs.exists(state)
    world.run()
    assert not world.deps.blobs.exists(state)
    with world.store.read() as tx:
        assert tx.tombstones.condemned(9) == tx.tombstones.due(2 * world.clock.now, 9) == []


def test_a_file_that_a_row_refers_to_again_is_kept(old_round):
    world, trusted, state = old_round
    sweep_next(world, trusted)
    with world.store.write() as tx:
        row = msgspec.structs.replace(tx.versions.get(1, 0, 0), epoch=1, outer_state=state)
        assert tx.versions.add(row)
    world.clock.now += CLAIM_SECONDS + 1
    world.run()
    assert world.deps.blobs.exists(state)


def test_results_that_do_not_count_go_a_few_at_a_time(old_round, monkeypatch):
    """Requests wait for a transaction, and a round may have 100,000 units."""
    world, _, _ = old_round
    monkeypatch.setattr(sweep, "_DELTAS", 2)
    with world.store.write() as tx:
        (unit,) = tx.units.of_round(1, 0, 2, {UnitState.APPLIED})
        new = NewAssignment(unit.id, Purpose.CHECK, world.clock.now)
        others = [tx.assignments.add(new) for _ in range(5)]
        for other in others:
            tx.assignments.put_delta(StoredDelta(other, 1, b"x"))
    project, sizes = msgspec.structs.replace(world.project, version=11), []

    def due():
        with world.store.read() as tx:
            return sweep.find_round(tx, world.deps, project)

    while (work := due()) is not None:
        sizes.append(len(work.useless))
        with world.store.write() as tx:
            sweep.sweep_round(tx, world.deps, work)
    assert sizes == [2, 2, 1]
    with world.store.read() as tx:
        assert tx.assignments.delta(unit.canonical) is not None
        assert [tx.assignments.delta(other) for other in others] == [None] * 5


def test_a_result_that_has_come_to_count_meanwhile_is_not_swept(old_round):
    world, _, _ = old_round
    with world.store.write() as tx:
        (unit,) = tx.units.of_round(1, 0, 2, {UnitState.APPLIED})
        row = tx.rounds.get(1, 0, 2)
        sweep.sweep_round(tx, world.deps, sweep.Sweeping(row, [unit.canonical]))
        assert tx.assignments.delta(unit.canonical) is not None


def test_a_new_version_keeps_its_outer_state_or_waits_for_the_deletion(world):
    verified(world)
    work = found(world, world.store, advance)
    row = advance.compute(world.deps, work)
    assert isinstance(row, VersionRow)
    with world.store.write() as tx:
        tx.tombstones.add(FileKind.BLOB, row.outer_state, 0.0)
        [tombstone] = tx.tombstones.due(world.clock.now, 9)
        tx.tombstones.condemn(tombstone)
    with pytest.raises(LookupError), world.store.write() as tx:
        advance.commit(tx, world.deps, work, row)
    world.run()  # deletes the file; the version waits
    world.clock.now += 31
    world.run()
    assert versions(world) == [0, 1]
    assert world.deps.blobs.exists(row.outer_state)


def open_slot(world):
    """Return an upload slot, its host, the manifest and the bytes that belong there."""
    host = world.volunteer("host")
    [manifest], _ = world.ask(host)
    data = world.train(host, manifest)
    receipt, slot = report_again(world, host, manifest, data)
    assert receipt.upload is not None
    return slot, host, manifest, data


def report_again(world, host, manifest, data):
    size = len(pack(data))
    result = DeltaResult(digest=digest_of(data), size=size, loss_first=1.0, loss_last=1.0)
    receipt = world.answer(host, manifest, result)
    with world.store.read() as tx:
        return receipt, upload.find_upload(tx, world.deps, receipt.upload)


def send(world, slot, data):
    """Upload what is not there, and let it be checked; the transaction is what follows."""
    offset = upload.upload_status(world.deps, slot).offset
    upload.append_part(world.deps, slot, offset, pack(data)[offset:])
    with world.store.read() as tx:
        encoding = upload.upload_format(tx, slot)
    upload.check_upload(world.deps, slot, encoding)


def finish(world, slot):
    with world.store.write() as tx:
        upload.finish_upload(tx, world.deps, slot)


def delta_file(world, slot):
    return world.deps.blobs.delta(StoredDelta(slot.assignment, slot.size, None))


def test_a_delta_whose_process_was_killed_before_its_row_is_deleted(tmp_path):
    world = World(tmp_path)
    slot, _, _, data = open_slot(world)
    send(world, slot, data)  # killed here; the host never returns
    world.clock.now = slot.expires_at
    world.run()
    assert delta_file(world, slot) == data, "a slower process may be about to write its row"
    world.clock.now += CLAIM_SECONDS
    world.run()
    with pytest.raises(Refusal, match="missing"):
        delta_file(world, slot)


def test_a_delta_that_comes_after_its_first_slot_expired_is_kept(tmp_path):
    world = World(tmp_path)
    slot, host, manifest, data = open_slot(world)
    send(world, slot, data)
    world.clock.now = slot.expires_at
    world.run()
    _, slot = report_again(world, host, manifest, data)
    send(world, slot, data)
    finish(world, slot)
    world.clock.now += 2 * CLAIM_SECONDS
    world.run()
    assert delta_file(world, slot) == data


def test_a_delta_waits_while_an_earlier_file_of_it_is_being_deleted(tmp_path):
    world = World(tmp_path)
    slot, _, _, data = open_slot(world)
    send(world, slot, data)
    with world.store.write() as tx:
        tx.tombstones.add(FileKind.DELTA, str(slot.assignment), 0.0)
        tx.tombstones.condemn(tx.tombstones.due(world.clock.now, 1)[0])
    with pytest.raises(Refusal) as refused:
        finish(world, slot)
    assert refused.value.code == RefusalCode.INTERNAL
    world.run()
    send(world, slot, data)
    finish(world, slot)
    assert delta_file(world, slot) == data


def test_a_delta_that_is_not_awaited_any_more_leaves_no_bytes(tmp_path):
    world = World(tmp_path)
    slot, _, _, data = open_slot(world)
    send(world, slot, data)
    with world.store.write() as tx:
        tx.assignments.move(tx.assignments.get(slot.assignment), AssignmentEvent.CANCELLED)
    finish(world, slot)
    world.run()
    with pytest.raises(Refusal, match="missing"):
        delta_file(world, slot)


def test_a_refused_upload_leaves_no_bytes(tmp_path):
    world = World(tmp_path)
    slot, *_ = open_slot(world)
    with world.store.write() as tx:
        upload.append_part(world.deps, slot, 0, bytes(slot.size))
        refusal = Refusal(RefusalCode.WRONG_DIGEST, "Other bytes.")
        upload.refuse_upload(tx, world.deps, slot, refusal)
    assert world.deps.blobs.upload_offset(slot.token) == slot.size, "not in the transaction"
    world.run()
    assert world.deps.blobs.upload_offset(slot.token) == 0
