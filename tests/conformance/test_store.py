"""What the store must do on every engine of `tests.conformance.engines`."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import asdict

from pleb_coordinator.aggregation.versions import first_source
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.leaning import KEPT_LIES, Lie
from pleb_coordinator.core.records import (
    Admin,
    AdminSession,
    Evaluation,
    Facts,
    FileKind,
    Fleet,
    Invite,
    Kept,
    NewAssignment,
    NewUnit,
    ProjectState,
    Purpose,
    RestoreCause,
    Round,
    StoredDelta,
    Upload,
    VersionInput,
    VersionRow,
)
from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.core.suspicion import Features, Traits
from pleb_coordinator.core.tolerance import RECENT_PAIRS, ConfirmedPair
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.store.assignments import Commitment, Judgement, Seeker
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_coordinator.store.hosts import NewHost, Seen
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import PayloadType, Role, Verdict
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import UnitKind
from tests.conformance.engines import ENGINES
from tests.conformance.example_metadata import example_metadata

if TYPE_CHECKING:
    from pleb_coordinator.store.transaction import Store

FACTS = Facts(100, 7, 2, 50)
NOW = 1000.0
ROOT = SigningKey.generate()
VIEWER = AdminRole.VIEWER


@pytest.fixture(params=ENGINES)
def stores(request, tmp_path):
    """Return a function that opens the same store, as often as several processes would."""
    opened: list[Store] = []
    open_store = ENGINES[request.param](tmp_path)

    def connect() -> Store:
        opened.append(open_store())
        return opened[-1]

    yield connect
    for store in opened:
        store.close()


@pytest.fixture
def store(stores):
    return stores()


@pytest.fixture
def tx(store):
    with store.write() as transaction:
        yield transaction


@pytest.fixture
def project(tx):
    return new_project(tx)


def new_project(tx):
    key = SigningKey.generate()
    metadata = example_metadata(key.public)
    envelope = sign_payload(strict_json.encode(metadata), PayloadType.METADATA, key)
    number = tx.projects.add("tiny", key.public, 0, NOW)
    tx.projects.put_metadata(number, metadata, envelope, FACTS, NOW)
    return tx.projects.get(number)


def new_host(tx, project, name, *, account=None, network="", role=Role.HOST):
    new = NewHost(project.id, name, "key", account or name, role, network, name, "agent 1")
    return tx.hosts.enrol(new, NOW)


def new_units(tx, project, count=1, version=0, kind=UnitKind.TRAIN, **kw):
    row = Round(project.id, 0, version, count, count, count, 0, NOW, None, None)
    tx.rounds.add(row)
    units = [NewUnit(kind, n, n, n, 1, 5) for n in range(count)]
    options = {"trusted_only": False, "now": NOW} | kw
    tx.units.plan(project.id, 0, version, units, Purpose.PRIMARY, **options)
    return [tx.units.find(project.id, 0, version, kind, n) for n in range(count)]


def test_who_was_given_which_shards(tx, project):
    near, gone = (
        tx.hosts.enrol(NewHost(project.id, name, "key", name, Role.HOST, "", name, "agent 1"), at)
        for name, at in (("near", NOW), ("gone", NOW - 100))
    )
    new_units(tx, project, 3)
    new_units(tx, project, 3, version=1)
    for host in (near, gone):
        assert len(take(tx, project, host)) == 1
    given = tx.views.shards_given(project.id, 0, 0, seen=NOW - 10, most=9)
    assert [(one.count, one.host) for one in given] == [(1, near.id)]
    assert len(tx.views.shards_given(project.id, 0, 0, seen=0.0, most=9)) == 2
    assert len(tx.views.shards_given(project.id, 0, 0, seen=0.0, most=1)) == 1
    assert tx.views.shards_given(project.id, 0, 1, seen=0.0, most=9) == []
    assert tx.views.shards_given(project.id, 1, 0, seen=0.0, most=9) == []


def test_metadata_of_a_new_root_replaces_the_key_in_force(tx, project):
    key = SigningKey.generate()
    metadata = msgspec.structs.replace(project.metadata, number=2, root_key=key.public)
    envelope = sign_payload(strict_json.encode(metadata), PayloadType.METADATA, key)
    tx.projects.put_metadata(project.id, metadata, envelope, FACTS, NOW)
    assert tx.projects.get(project.id).root_key == key.public
    assert tx.projects.metadata_at(project.id, 1).root_key == project.root_key


def undone(tx, project, *_):
    tx.projects.set_tolerance(project.id, 1.0)
    raise ZeroDivisionError


def seeker(host, now=NOW):
    return Seeker(host.id, host.account, host.network, host.determinism_class, host.trusted, now)


def take(tx, project, host, purpose=Purpose.PRIMARY, limit=1, now=NOW):
    found = tx.assignments.candidates(project.id, purpose, seeker(host, now), limit)
    for assignment, _ in found:
        tx.assignments.lease(assignment, host, "n" * 32, now, now + 100)
    return [tx.assignments.get(assignment.id) for assignment, _ in found]


def report(tx, assignment, digest="d", data=b"x"):
    said = Commitment(digest, 1, 2.0, 1.0, 3.0, NOW)
    assert tx.assignments.commit(assignment, AssignmentEvent.REPORTED, said)
    if data is not None:
        tx.assignments.put_delta(StoredDelta(assignment.id, 1, data))
    tx.units.make_due(assignment.unit)
    return tx.assignments.get(assignment.id)


def soon(condition, seconds=10.0):
    """Another process's commit may be announced a moment after it."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.001)
    return held


class TestTransactions:
    def test_what_raises_leaves_no_trace(self, store):
        with pytest.raises(ZeroDivisionError), store.write() as tx:
            undone(tx, new_project(tx))
        with store.read() as tx:
            assert tx.projects.names() == []

    def test_metadata_that_were_undone_are_not_remembered(self, store):
        with store.write() as tx:
            project = new_project(tx)
        for title in ("first", "second"):
            newer = msgspec.structs.replace(project.metadata, number=2, title=title)
            signed = sign_payload(strict_json.encode(newer), PayloadType.METADATA, ROOT)
            with contextlib.suppress(ZeroDivisionError), store.write() as tx:
                tx.projects.put_metadata(project.id, newer, signed, FACTS, NOW)
                assert tx.projects.metadata_at(project.id, 2).title == title
                raise ZeroDivisionError

    def test_a_savepoint_undoes_only_itself(self, store):
        with store.write() as tx:
            project = new_project(tx)
            with pytest.raises(ZeroDivisionError), tx.savepoint():
                undone(tx, project)
            with tx.savepoint():
                tx.projects.set_fleet(project.id, Fleet(3, 2, 1, 0.5))
        with store.read() as tx:
            found = tx.projects.find("tiny")
        assert (found.tolerance, found.active_accounts) == (0.0, 3)

    def test_a_reader_sees_one_state(self, stores):
        one, other = stores(), stores()
        with one.write() as tx:
            project = new_project(tx)
        with other.read() as seen:
            assert seen.projects.get(project.id).tolerance == 0
            with one.write() as tx:
                tx.projects.set_tolerance(project.id, 2.0)
            assert seen.projects.get(project.id).tolerance == 0
        with other.read() as seen:
            assert seen.projects.get(project.id).tolerance == 2

    def test_every_commit_is_noticed_once(self, stores):
        one, other = stores(), stores()
        assert one.changed()
        assert not one.changed()
        with other.write() as tx:
            new_project(tx)
        assert soon(one.changed)
        assert not one.changed()
        with one.write() as tx:
            tx.projects.set_tolerance(1, 1.0)
        assert soon(one.changed), "its own commits too"
        assert not one.changed()

    def test_only_commits_of_others_that_changed_something_are_counted(self, stores):
        one, other = stores(), stores()
        before = one.commits_of_others()
        with one.write() as tx:
            new_project(tx)
        with other.write() as tx:
            assert not tx.projects.set_state(1, ProjectState.PAUSED, ProjectState.ACTIVE)
        assert one.commits_of_others() == before
        with other.write() as tx:
            tx.projects.set_tolerance(1, 1.0)
        with one.write() as tx:
            assert one.commits_of_others() != before, "a writer knows at once"

    def test_two_writers_queue_up(self, stores):
        one, other = stores(), stores()
        with one.write() as tx:
            project = new_project(tx)
            tx.shares.add(project.id, 0, 0, "h", 0)

        def add(store):
            for _ in range(50):
                with store.write() as tx:
                    taken = tx.shares.taken(project.id, 0, 0, "h")
                    tx.shares.add(project.id, 0, 0, "h", 1)
                    assert tx.shares.taken(project.id, 0, 0, "h") == taken + 1

        threads = [threading.Thread(target=add, args=(s,)) for s in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.read() as tx:
            assert tx.shares.taken(project.id, 0, 0, "h") == 100


class TestProjects:
    def test_a_project_is_found_by_name_with_its_metadata(self, tx, project):
        found = tx.projects.find("tiny")
        assert found == project
        assert found.facts == FACTS
        assert found.metadata.project == "tiny"
        assert found.state is ProjectState.ACTIVE
        assert tx.projects.metadata_at(project.id, 1) == found.metadata
        assert b"payload" in tx.projects.envelope(project.id, 1)
        assert tx.projects.names() == ["tiny"]

    def test_one_that_is_not_there_is_a_refusal(self, tx):
        with pytest.raises(Refusal) as caught:
            tx.projects.find("other")
        assert caught.value.code == RefusalCode.UNKNOWN_PROJECT

    def test_states_change_only_from_what_they_are(self, tx, project):
        paused = ProjectState.PAUSED
        assert tx.projects.set_state(project.id, ProjectState.ACTIVE, paused)
        assert not tx.projects.set_state(project.id, ProjectState.ACTIVE, paused)
        assert tx.projects.get(project.id).state is paused

    def test_versions_go_up_one_by_one(self, tx, project):
        assert tx.projects.advance(project.id, 0, 0, 1)
        assert not tx.projects.advance(project.id, 0, 0, 1)
        assert not tx.projects.advance(project.id, 1, 1, 2), "another epoch"
        assert tx.projects.get(project.id).version == 1

    def test_a_version_has_one_number(self, tx, project):
        inputs = (VersionInput(7, 9, "d", 2.5),)
        source = first_source(project.metadata)
        row = VersionRow(project.id, 0, 0, "d", 1, "", "", "s", inputs, source, None, NOW)
        assert tx.versions.add(row)
        assert not tx.versions.add(msgspec.structs.replace(row, digest="other"))
        assert tx.versions.get(project.id, 0, 0) == row
        later = msgspec.structs.replace(row, number=1, train_loss=0.5)
        assert tx.versions.add(later)
        assert tx.versions.history(project.id, 0, after=0, limit=9) == [later]
        assert [(v.number, v.train_loss) for v in tx.versions.losses(project.id, 0)] == [
            (0, None),
            (1, 0.5),
        ]
        assert tx.versions.source(project.id, 0, 1) == source
        with pytest.raises(LookupError):
            tx.versions.get(project.id, 0, 2)
        with pytest.raises(LookupError):
            tx.versions.source(project.id, 0, 2)
        tx.versions.add(msgspec.structs.replace(row, number=2, outer_state="o"))
        second = tx.versions.get(project.id, 0, 2)
        assert tx.references.of(project.id, 0, 2) == second.blobs > {"s", "o"}
        less = msgspec.structs.replace(second, outer_state="", kept=Kept.READABLE)
        assert tx.versions.keep_less(less) == {"o"}
        assert tx.versions.get(project.id, 0, 2) == less
        assert not tx.references.needed("o")
        assert tx.references.needed("s")
        listed = msgspec.structs.replace(less, source=None, snapshot="", kept=Kept.LISTED)
        tx.versions.keep_less(listed)
        assert not tx.references.of(project.id, 0, 2)
        with pytest.raises(InputError):
            tx.versions.source(project.id, 0, 2)

    def test_the_noise_of_every_version_that_was_made_is_known(self, tx, project):
        """In all epochs, however little else is kept of it; one that is restored is none."""
        source = first_source(project.metadata)
        row = VersionRow(project.id, 0, 0, "d", 1, "", "", "s", (), source, None, NOW)
        replace = msgspec.structs.replace
        tx.versions.add(row)
        tx.versions.add(replace(row, number=1, noise="n", results=4))
        tx.versions.add(replace(row, number=2, results=3))
        tx.versions.add(replace(row, number=3, restores=1, restored_for=RestoreCause.OPERATOR))
        tx.versions.add(replace(row, epoch=1, number=0))
        tx.versions.add(replace(row, epoch=1, number=1, noise="m", results=4))
        listed = replace(
            tx.versions.get(project.id, 0, 1), source=None, snapshot="", kept=Kept.LISTED
        )
        tx.versions.keep_less(listed)
        found = [(n.epoch, n.number, n.noise, n.results) for n in tx.versions.noise(project.id)]
        assert found == [(0, 1, "n", 4), (0, 2, "", 3), (1, 1, "m", 4)]

    def test_evaluations_by_version(self, tx, project):
        for version, loss in ((1, 1.0), (0, 2.0), (1, 3.0)):
            metrics = {"loss": loss}
            tx.projects.add_evaluation(Evaluation(project.id, 0, version, 1, metrics, 8, NOW))
        found = tx.projects.evaluations(project.id, 0)
        assert [e.metrics for e in found] == [{"loss": 2.0}, {"loss": 3.0}]


class TestUnits:
    def test_the_round_counts_with_its_units(self, tx, project):
        first, second = new_units(tx, project, 2)
        assert tx.units.move(first, UnitEvent.DECIDED, NOW, 7)
        assert not tx.units.move(first, UnitEvent.DECIDED, NOW, 8), "it is not open any more"
        row = tx.rounds.get(project.id, 0, 0)
        assert (row.open, row.valid) == (1, 1)
        valid = tx.units.get(first.id)
        assert (valid.state, valid.canonical) == (UnitState.VALID, 7)
        tx.units.move(valid, UnitEvent.REFUTED, NOW, None)
        row = tx.rounds.get(project.id, 0, 0)
        assert (row.open, row.valid) == (2, 0)
        tx.units.move(second, UnitEvent.CLOSED, NOW, None)
        assert tx.rounds.get(project.id, 0, 0).open == 1

    def test_a_round_is_opened_and_closed_once(self, tx, project):
        new_units(tx, project)
        row = tx.rounds.get(project.id, 0, 0)
        assert not tx.rounds.add(row)
        tx.rounds.set_quorum_at(row, 5.0)
        assert tx.rounds.close(row, 6.0)
        assert not tx.rounds.close(row, 7.0)
        found = tx.rounds.get(project.id, 0, 0)
        assert (found.quorum_at, found.closed_at) == (5.0, 6.0)
        assert tx.rounds.get(project.id, 0, 1) is None
        assert tx.rounds.unswept_before(project.id, 0, 0) is None
        assert tx.rounds.unswept_before(project.id, 0, 1) == found
        tx.rounds.set_swept(found, 8.0)
        assert tx.rounds.unswept_before(project.id, 0, 1) is None

    def test_a_look_that_missed_a_result_is_noticed(self, tx, project):
        [unit] = new_units(tx, project)
        assert tx.units.due(project.id, 9) == []
        tx.units.make_due(unit.id)
        [due] = tx.units.due(project.id, 9)
        tx.units.make_due(unit.id)
        assert not tx.units.looked_at(unit.id, due.revision)
        [due] = tx.units.due(project.id, 9)
        assert tx.units.looked_at(unit.id, due.revision)
        assert tx.units.due(project.id, 9) == []

    def test_units_of_a_round_by_state_and_position(self, tx, project):
        units = new_units(tx, project, 3)
        tx.units.move(units[1], UnitEvent.DECIDED, NOW, 1)
        found = tx.units.of_round(project.id, 0, 0, {UnitState.OPEN})
        assert [u.position for u in found] == [0, 2]
        assert [u.id for u in tx.units.undecided_before(project.id, 0, 1, 9)] == [
            units[0].id,
            units[2].id,
        ]
        assert tx.units.undecided_before(project.id, 0, 0, 9) == []


class TestAssignments:
    def test_each_goes_to_one_host(self, tx, project):
        new_units(tx, project, 3)
        a, b = new_host(tx, project, "a"), new_host(tx, project, "b")
        candidates = tx.assignments.candidates(project.id, Purpose.PRIMARY, seeker(a), 9)
        assert [u.position for _, u in candidates] == [0, 1, 2]
        first = candidates[0][0]
        tx.assignments.lease(first, a, "n" * 32, NOW, NOW + 5)
        tx.assignments.lease(first, b, "m" * 32, NOW, NOW + 5)
        assert tx.assignments.get(first.id).host == a.id
        assert [pair[0].id for pair in tx.assignments.in_hand(a.id)] == [first.id]
        assert tx.assignments.in_hand(b.id) == []
        leased = tx.assignments.get(first.id)
        assert (leased.host, leased.account, leased.nonce) == (a.id, "a", "n" * 32)
        assert leased.state == AssignmentState.LEASED

    def test_searches_begin_where_something_is_unsent(self, store):
        """However often units are given out, or were and are not after all."""
        with store.write() as tx:
            project = new_project(tx)
            new_units(tx, project, 300)
            host = new_host(tx, project, "a")
        for expected in range(150):
            with pytest.raises(ZeroDivisionError), store.write() as tx:
                undone(tx, project, take(tx, project, host, limit=9))
            with store.write() as tx:
                (taken,) = take(tx, project, host)
                assert tx.units.get(taken.unit).position == expected
        with store.write() as tx:
            (unit,) = {taken.unit for taken in tx.assignments.expired(NOW + 200, 1)}
            added = tx.assignments.add(NewAssignment(unit, Purpose.SPOT_CHECK, NOW))
            (found,) = take(tx, project, new_host(tx, project, "b"), Purpose.SPOT_CHECK)
            assert found.id == added

    def test_first_tries_are_given_out_as_they_were_planned(self, tx, project):
        tx.rounds.add(Round(project.id, 0, 0, 3, 3, 3, 0, NOW, None, None))
        units = [NewUnit(UnitKind.TRAIN, place, 0, 0, 1, 5) for place in (2, 0, 1)]
        tx.units.plan(project.id, 0, 0, units, Purpose.PRIMARY, trusted_only=False, now=NOW)
        host = new_host(tx, project, "a")
        candidates = tx.assignments.candidates(project.id, Purpose.PRIMARY, seeker(host), 9)
        assert [unit.position for _, unit in candidates] == [2, 0, 1], "not in order of place"

    def test_another_copy_goes_to_another_account_and_network(self, tx, project):
        [unit] = new_units(tx, project)
        first = new_host(tx, project, "a", network="198.51.100.0/24")
        same = new_host(tx, project, "b", account="a")
        near = new_host(tx, project, "c", network="198.51.100.0/24")
        other = new_host(tx, project, "d", network="203.0.113.0/24")
        take(tx, project, first)
        tx.assignments.add(NewAssignment(unit.id, Purpose.CHECK, NOW))
        for host in (first, same, near):
            assert take(tx, project, host, Purpose.CHECK) == []
        assert len(take(tx, project, other, Purpose.CHECK)) == 1

    def test_what_was_drawn_for_a_host_is_its_alone(self, tx, project):
        [unit] = new_units(tx, project)
        first, drawn = new_host(tx, project, "a"), new_host(tx, project, "b")
        take(tx, project, first)
        new = NewAssignment(unit.id, Purpose.CHECK, NOW, for_host=drawn.id, fetch_by=NOW + 60)
        check = tx.assignments.add(new)
        for other in (first, new_host(tx, project, "c"), drawn):
            assert take(tx, project, other, Purpose.CHECK) == []
        assert [found.id for found, _ in tx.assignments.drawn_for(drawn.id)] == [check]
        assert tx.assignments.count_drawn_for(drawn.id) == 1
        assert tx.assignments.drawn_for(first.id) == []
        assert tx.assignments.next_fetch() == NOW + 60
        assert tx.assignments.not_fetched(NOW + 59, 9) == []
        assert [found.id for found in tx.assignments.not_fetched(NOW + 60, 9)] == [check]
        assert tx.assignments.cancel_drawn_for(drawn.id) == [unit.id]
        assert tx.assignments.next_fetch() is None

    def test_a_trusted_host_may_decide_against_its_own_result(self, tx, project):
        [unit] = new_units(tx, project)
        trusted = new_host(tx, project, "t", role=Role.TRUSTED)
        [first] = take(tx, project, trusted)
        tx.assignments.add(NewAssignment(unit.id, Purpose.DECIDER, NOW, trusted_only=True))
        assert tx.assignments.count_for_trusted(project.id, Purpose.DECIDER) == 1
        assert take(tx, project, trusted, Purpose.DECIDER) == [], "it has not answered yet"
        report(tx, first)
        assert len(take(tx, project, trusted, Purpose.DECIDER)) == 1

    def test_some_are_for_trusted_hosts_or_one_class_only(self, tx, project):
        [unit] = new_units(tx, project, trusted_only=True)
        host = new_host(tx, project, "a")
        assert take(tx, project, host) == []
        tx.assignments.add(NewAssignment(unit.id, Purpose.CHECK, NOW, for_class="c"))
        assert take(tx, project, host, Purpose.CHECK) == []
        tx.hosts.set_runtime(host.id, "r", "c")
        assert len(take(tx, project, tx.hosts.get(host.id), Purpose.CHECK)) == 1
        trusted = new_host(tx, project, "t", role=Role.TRUSTED)
        assert len(take(tx, project, trusted)) == 1

    def test_what_a_host_gave_back_it_may_try_again_much_later(self, tx, project):
        [unit] = new_units(tx, project)
        host = new_host(tx, project, "a")
        [given] = take(tx, project, host)
        said = Commitment("", 0, None, None, 1.0, NOW)
        tx.assignments.commit(given, AssignmentEvent.FAILED, said)
        tx.assignments.add(NewAssignment(unit.id, Purpose.PRIMARY, NOW))
        assert take(tx, project, host, now=NOW + 599) == []
        assert len(take(tx, project, host, now=NOW + 601)) == 1

    def test_what_ran_out_it_may_try_at_once(self, tx, project):
        [unit] = new_units(tx, project)
        host = new_host(tx, project, "a")
        [given] = take(tx, project, host)
        assert tx.assignments.expired(NOW + 99, 9) == []
        assert tx.assignments.next_lease_end() == NOW + 100
        [expired] = tx.assignments.expired(NOW + 100, 9)
        assert expired == given
        assert tx.assignments.move(expired, AssignmentEvent.EXPIRED)
        assert not tx.assignments.move(expired, AssignmentEvent.EXPIRED)
        assert tx.assignments.next_lease_end() is None
        tx.assignments.add(NewAssignment(unit.id, Purpose.PRIMARY, NOW))
        assert len(take(tx, project, host)) == 1

    def test_verdicts_are_taken_once_and_again_after_a_new_one(self, tx, project):
        new_units(tx, project)
        host = new_host(tx, project, "a")
        done = report(tx, *take(tx, project, host))
        valid = Judgement(Verdict.VALID, 5.0, NOW + 50, because(ReasonCode.HOSTS_AGREE, count=2))
        assert tx.assignments.judge(done, AssignmentEvent.AGREED, valid)
        assert not tx.assignments.judge(done, AssignmentEvent.AGREED, valid)
        [told] = tx.assignments.take_verdicts(host.id, 9)
        assert (told.verdict, told.credit) == (Verdict.VALID, 5.0)
        assert told.reason == valid.reason
        assert tx.assignments.take_verdicts(host.id, 9) == []
        wrong = Judgement(Verdict.INVALID, 0.0, None, because(ReasonCode.TRUSTED_HOST_DISAGREES))
        tx.assignments.judge(tx.assignments.get(done.id), AssignmentEvent.DISAGREED, wrong)
        [told] = tx.assignments.take_verdicts(host.id, 9)
        assert told.reason == wrong.reason

    def test_only_unripe_credit_is_taken_back(self, tx, project):
        new_units(tx, project, 2)
        host = new_host(tx, project, "a")
        for assignment, ripe in zip(
            take(tx, project, host, limit=2), (NOW - 1, NOW + 1), strict=False
        ):
            judgement = Judgement(Verdict.VALID, 5.0, ripe, because(ReasonCode.PROVEN_RESULT))
            tx.assignments.judge(report(tx, assignment), AssignmentEvent.AGREED, judgement)
        assert tx.assignments.take_back_credit(host.id, NOW) == 5.0
        assert tx.assignments.take_back_credit(host.id, NOW) == 0.0

    def test_deltas_are_found_by_their_digest_within_a_unit(self, tx, project):
        first, second = new_units(tx, project, 2)
        host = new_host(tx, project, "a")
        one, second_one = take(tx, project, host, limit=2)
        report(tx, one, "same")
        assert tx.assignments.with_delta(first.id, "same") == one.id
        assert tx.assignments.with_delta(first.id, "other") is None
        assert tx.assignments.with_delta(second.id, "same") is None
        assert tx.assignments.delta(one.id) == StoredDelta(one.id, 1, b"x")
        assert tx.assignments.delta(10**6) is None
        tx.assignments.put_delta(StoredDelta(second_one.id, 9, None))
        assert tx.assignments.delta(second_one.id) == StoredDelta(second_one.id, 9, None)
        tx.assignments.remove_delta(second_one.id)
        tx.assignments.remove_delta(second_one.id)
        assert tx.assignments.delta(second_one.id) is None
        assert [a.id for a in tx.assignments.reported(first.id)] == [one.id]
        assert tx.assignments.unjudged(first.id, host.id)
        assert not tx.assignments.unjudged(second.id, host.id)

    def test_unsent_ones_are_cancelled_by_unit_or_by_age(self, tx, project):
        old = new_units(tx, project, 2)[0]
        new_units(tx, project, 2, version=1)
        assert tx.assignments.unsent_purposes(project.id) == {Purpose.PRIMARY}
        assert tx.assignments.cancel_unsent(old.id, (Purpose.CHECK,)) == 0
        assert tx.assignments.cancel_unsent(old.id, (Purpose.PRIMARY,)) == 1
        assert tx.assignments.cancel_unsent_before(project.id, 0, 1) == 1
        assert tx.assignments.cancel_unsent_before(project.id, 0, 2) == 2
        assert tx.assignments.unsent_purposes(project.id) == set()

    def test_what_is_kept_for_trusted_or_drawn_hosts_is_not_for_all(self, tx, project):
        unit = new_units(tx, project, 1)[0]
        host = new_host(tx, project, "a")
        assert tx.assignments.unsent_for_all(project.id)
        assert tx.assignments.hosts_drawn() == set()
        take(tx, project, host, limit=1)
        assert not tx.assignments.unsent_for_all(project.id)
        for_trusted = NewAssignment(unit.id, Purpose.CHECK, 0.0, trusted_only=True)
        tx.assignments.add(for_trusted)
        for _ in range(2):
            tx.assignments.add(NewAssignment(unit.id, Purpose.CHECK, 0.0, for_host=host.id))
        assert not tx.assignments.unsent_for_all(project.id)
        assert tx.assignments.hosts_drawn() == {host.id}
        tx.assignments.cancel_drawn_for(host.id)
        assert tx.assignments.hosts_drawn() == set()

    def test_norms_are_those_of_canonical_results(self, tx, project):
        first = new_units(tx, project, 2)[0]
        host = new_host(tx, project, "a")
        one, two = take(tx, project, host, limit=2)
        tx.assignments.set_norm(one.id, 3.0)
        tx.assignments.set_norm(two.id, 4.0)
        assert tx.assignments.norms(project.id, 0, 0) == []
        tx.units.move(first, UnitEvent.DECIDED, NOW, one.id)
        assert tx.assignments.norms(project.id, 0, 0) == [3.0]

    def test_shares_never_fall_below_nothing(self, tx, project):
        for change, taken in ((-1, 0), (3, 3), (-2, 1), (-5, 0)):
            tx.shares.add(project.id, 0, 0, "h", change)
            assert tx.shares.taken(project.id, 0, 0, "h") == taken
        assert tx.shares.taken(project.id, 0, 1, "h") == 0


class TestBackgroundWork:
    def test_work_is_claimed_by_one_process_until_it_is_released_or_expires(self, tx):
        assert tx.claims.take("verify", "7", "one", NOW)
        assert not tx.claims.take("verify", "7", "two", NOW)
        assert tx.claims.take("verify", "8", "two", NOW)
        assert tx.claims.take("advance", "7", "two", NOW)
        assert tx.claims.live(NOW) == {"verify": {"7", "8"}, "advance": {"7"}}
        tx.claims.release("verify", "7", "two")
        assert not tx.claims.take("verify", "7", "two", NOW), "only the holder releases it"
        tx.claims.release("verify", "7", "one")
        assert tx.claims.take("verify", "7", "two", NOW)
        assert tx.claims.held_by("two")
        assert tx.claims.release_all("two") == 3
        assert not tx.claims.held_by("two")
        assert tx.claims.take("verify", "7", "one", NOW)
        later = NOW + CLAIM_SECONDS
        assert tx.claims.live(later) == {}
        assert tx.claims.take("verify", "7", "two", later), "an expired claim is free"

    def test_a_claim_from_before_the_clock_was_set_back_is_free(self, tx):
        assert tx.claims.take("verify", "7", "one", NOW + 10 * CLAIM_SECONDS)
        assert tx.claims.live(NOW) == {}
        assert tx.claims.take("verify", "7", "two", NOW)

    def test_a_file_is_deleted_only_once_it_is_condemned_and_kept_until_then(self, tx):
        for name, due_at in (("a", NOW), ("b", NOW + 1), ("c", NOW + 2)):
            tx.tombstones.add(FileKind.BLOB, name, due_at)
        assert [t.name for t in tx.tombstones.due(NOW + 1, 9)] == ["a", "b"]
        assert tx.tombstones.revive(FileKind.BLOB, "a")
        [b] = tx.tombstones.due(NOW + 1, 9)
        assert tx.tombstones.condemned(9) == []
        tx.tombstones.condemn(b)
        assert not tx.tombstones.revive(FileKind.BLOB, "b"), "it may be gone already"
        assert tx.tombstones.revive(FileKind.DELTA, "b"), "another kind is another file"
        assert [(t.name, t.condemned) for t in tx.tombstones.condemned(9)] == [("b", True)]
        assert tx.tombstones.due(NOW + 1, 9) == []
        tx.tombstones.remove(b)
        assert tx.tombstones.condemned(9) == []
        assert tx.tombstones.revive(FileKind.BLOB, "b"), "a new file of that name"


class TestFleet:
    def test_enrolling_again_renews_but_never_lowers(self, tx, project):
        host = new_host(tx, project, "a", role=Role.TRUSTED)
        again = new_host(tx, project, "a", network="n")
        assert (again.id, again.role, again.network) == (host.id, Role.TRUSTED, "n")
        assert again.trusted
        with pytest.raises(Refusal) as caught:
            tx.hosts.find(project.id, "nobody")
        assert caught.value.code == RefusalCode.UNKNOWN_HOST

    def test_the_last_request_and_its_reply_are_remembered(self, tx, project):
        host = new_host(tx, project, "a")
        tx.hosts.saw(host.id, Seen(3, "digest", b"reply", "n", "agent 2", NOW + 5, True))
        tx.hosts.saw(host.id, Seen(4, "digest4", b"reply4", "n", "agent 2", NOW + 9, False))
        found = tx.hosts.get(host.id)
        assert (found.sequence, found.request_digest) == (4, "digest4")
        assert (found.last_seen, found.last_asked) == (NOW + 9, NOW + 5)
        assert tx.hosts.reply(host.id) == b"reply4"

    def test_accounts_that_ask_are_counted_without_banned_and_trusted_ones(self, tx, project):
        people = (("a", "x"), ("b", "x"), ("c", "y"), ("d", "z"))
        hosts = [new_host(tx, project, name, account=account) for name, account in people]
        for host in hosts:
            tx.hosts.saw(host.id, Seen(1, "", b"", "", "", NOW, True))
        trusted = new_host(tx, project, "t", role=Role.TRUSTED)
        tx.hosts.saw(trusted.id, Seen(1, "", b"", "", "", NOW, True))
        assert tx.hosts.fleet(project.id, NOW - 1).active_accounts == 3
        assert tx.hosts.fleet(project.id, NOW).active_accounts == 0
        banned = msgspec.structs.replace(standing_of(hosts[-1]), banned_until=NOW + 9)
        tx.hosts.set_standing(hosts[-1].id, banned)
        assert standing_of(tx.hosts.get(hosts[-1].id)) == banned
        assert tx.hosts.fleet(project.id, NOW - 1).active_accounts == 2
        assert tx.hosts.trusted(project.id, NOW - 1) == 1
        assert tx.hosts.trusted(project.id, NOW) == 0
        assert len(tx.hosts.of_project(project.id, limit=9)) == 5

    def test_a_class_knows_who_vouches_for_it(self, tx, project):
        a, b = new_host(tx, project, "a"), new_host(tx, project, "b")
        trusted = new_host(tx, project, "t", role=Role.TRUSTED)
        tx.calibrations.add_class(project.id, "c", 1, NOW)
        tx.calibrations.add_class(project.id, "c", 2, NOW + 1)
        tx.calibrations.record(a, "r1", "c", 0.5, NOW)
        found = tx.calibrations.find_class(project.id, "c")
        assert (found.assignment, found.accounts, found.leads) == (1, 1, False)
        tx.calibrations.record(a, "r2", "c", 0.5, NOW)
        assert not tx.calibrations.find_class(project.id, "c").leads
        tx.calibrations.record(b, "r1", "c", 0.5, NOW)
        found = tx.calibrations.find_class(project.id, "c")
        assert (found.leads, found.vouched) == (True, False)
        tx.calibrations.add_class(project.id, "d", 3, NOW)
        tx.calibrations.record(trusted, "r1", "d", 0.5, NOW)
        assert tx.calibrations.find_class(project.id, "d").vouched
        assert tx.calibrations.class_of(a.id, "r2") == "c"
        assert tx.calibrations.class_of(a.id, "r3") == ""
        assert tx.calibrations.find_class(project.id, "e") is None

    def test_distances_between_classes(self, tx, project):
        for digest in ("a", "b"):
            tx.calibrations.add_class(project.id, digest, 1, NOW)
        assert [c.digest for c in tx.calibrations.unmeasured(project.id)] == ["a", "b"]
        tx.calibrations.set_measured(project.id, "a", measured=True)
        tx.calibrations.set_isolated(project.id, "b", True)
        assert [c.digest for c in tx.calibrations.unmeasured(project.id)] == ["b"]
        assert [c.isolated for c in tx.calibrations.classes(project.id)] == [False, True]
        tx.calibrations.put_distance(project.id, "a", "b", 0.25)
        assert tx.calibrations.distances(project.id) == {("a", "b"): 0.25}

    def test_of_traits_lies_and_pairs_the_newest_are_kept(self, tx, project):
        units = [unit.id for unit in new_units(tx, project, 3)]
        features = Features(norm=1.5, profile=(1.0, 0.5), sketch=b"\x00\xff")
        found = [a for unit in units for a in tx.assignments.of_unit(unit)]
        for assignment in found:
            digest = f"{assignment.id:064x}"
            known = {"unit": assignment.unit, "version": 4, "digest": digest, "loss_last": 0.5}
            traits = Traits(**asdict(features), **known)
            tx.comparisons.add_traits(project.id, 0, assignment.id, traits)
            tx.comparisons.add_traits(project.id, 0, assignment.id, traits)
        assert [t.unit for t in tx.comparisons.recent_traits(project.id, 0)] == units[::-1]
        newest = asdict(tx.comparisons.recent_traits(project.id, 0)[0])
        assert {name: newest[name] for name in asdict(features)} == asdict(features)
        assert tx.comparisons.recent_traits(project.id, 1) == []
        assert [t.unit for t in tx.comparisons.recent_traits(project.id, 0, 2)] == units[:0:-1]
        for number in range(KEPT_LIES + 3):
            tx.comparisons.add_lie(project.id, 0, Lie(number, number, -0.5, b"\x00\xff"))
        lies = tx.comparisons.recent_lies(project.id, 0, since=5)
        assert lies == [Lie(n, n, -0.5, b"\x00\xff") for n in range(KEPT_LIES + 2, 4, -1)]
        assert len(tx.comparisons.recent_lies(project.id, 0, since=0)) == KEPT_LIES
        assert tx.comparisons.recent_lies(project.id, 1, since=0) == []
        for number in range(RECENT_PAIRS + 3):
            pair = ConfirmedPair(number, "account", "network", "c1", "c2", 0.25)
            tx.comparisons.add_pair(project.id, 0, pair)
        pairs = tx.comparisons.recent_pairs(project.id, 0)
        assert [p.version for p in pairs] == list(range(RECENT_PAIRS + 2, 2, -1))
        assert tx.comparisons.recent_pairs(project.id, 1) == []

    def test_what_has_landed_is_checked_in_turn_until_it_is_complete(self, tx, project):
        for token in ("one", "two", "other"):
            of = project.id + (token == "other")
            tx.uploads.add(Upload(token, of, None, "d", 5, NOW, NOW + 9, complete=False))
        assert tx.uploads.to_check(project.id, NOW + 99, 9) == []
        assert not tx.uploads.get("two").arrived
        assert tx.uploads.land("two", NOW + 1, NOW + 50)
        assert not tx.uploads.land("two", NOW + 2, NOW + 90)
        assert tx.uploads.land("one", NOW + 2, NOW + 50)
        assert tx.uploads.land("other", NOW, NOW + 50)
        assert tx.uploads.get("two").arrived
        assert tx.uploads.take_expired(NOW + 49, 9) == []

        def due(at, limit=9):
            return [found.token for found in tx.uploads.to_check(project.id, at, limit)]

        assert due(NOW + 1) == ["two"]
        assert due(NOW + 2) == ["two", "one"]
        assert due(NOW + 2, 1) == ["two"]
        tx.uploads.check_at("two", NOW + 30)
        assert (due(NOW + 29), due(NOW + 30)) == (["one"], ["one", "two"])
        assert tx.uploads.complete("one")
        assert due(NOW + 40) == ["two"]
        assert not tx.uploads.land("one", NOW + 3, NOW + 90)
        assert {token for token, _ in tx.uploads.take_expired(NOW + 50, 9)} == {"two", "other"}

    def test_uploads_end_complete_or_in_time(self, tx, project):
        def upload(token, assignment, digest):
            row = (token, project.id, assignment, digest, 5, NOW, NOW + 9, False)
            tx.uploads.add(Upload(*row))

        upload("one", 3, "d1")
        upload("two", None, "d2")
        assert tx.uploads.get("one").size == 5
        assert tx.uploads.of_assignment(3).token == "one"
        assert tx.uploads.open_blob(project.id, "d2").token == "two"
        assert tx.uploads.complete("one")
        assert not tx.uploads.complete("one")
        assert tx.uploads.of_assignment(3) is None
        assert tx.uploads.take_expired(NOW + 8, 9) == []
        assert tx.uploads.take_expired(NOW + 9, 9) == [("two", None)]
        with pytest.raises(Refusal) as caught:
            tx.uploads.get("two")
        assert caught.value.code == RefusalCode.UNKNOWN_UPLOAD

    def test_an_invite_works_once_and_not_after_it_was_revoked(self, tx):
        for name in ("one", "two"):
            tx.invites.add(Invite(name, Role.HOST, "", NOW, NOW + 9, None, False))
        assert tx.invites.use("one", NOW)
        assert not tx.invites.use("one", NOW)
        assert not tx.invites.revoke("one")
        assert tx.invites.revoke("two")
        assert not tx.invites.use("two", NOW)
        assert tx.invites.find("three") is None
        assert {i.token_hash for i in tx.invites.all()} == {"one", "two"}

    def test_the_log_is_read_from_both_ends(self, tx, project):
        for n in range(5):
            tx.events.add(project.id, NOW + n, "kind", unit=n % 2, host=None, value=n)
        found = tx.events.after(project.id, 0, 3)
        assert [e.detail for e in found] == [{"value": n} for n in range(3)]
        assert [e.seq for e in tx.events.after(project.id, found[-1].seq, 9)] == [4, 5]
        assert [e.seq for e in tx.events.last(project.id, 2)] == [4, 5]
        assert [e.seq for e in tx.events.of_unit(1)] == [2, 4]

    def test_a_code_makes_one_admin_and_its_commands_are_numbered(self, tx):
        for name in ("anna", "bert"):
            tx.admins.put(
                Admin(name, VIEWER, ("p",), name, NOW + 9, "", NOW, None, 0, revoked=False)
            )
        assert tx.admins.join("anna", "k", NOW + 10) is None
        assert tx.admins.has_code("anna")
        assert not tx.admins.has_code("eve")
        joined = tx.admins.join("anna", "k", NOW)
        assert (joined.name, joined.key, joined.last_seen) == ("anna", "k", NOW)
        assert joined.projects == ("p",)
        assert tx.admins.join("anna", "other", NOW) is None
        assert tx.admins.saw(joined, 5, NOW + 1)
        assert not tx.admins.saw(joined, 5, NOW + 2)
        assert tx.admins.saw(joined, 6, NOW + 3)
        assert tx.admins.revoke("bert")
        assert not tx.admins.revoke("bert")
        assert tx.admins.join("bert", "k", NOW) is None
        session = AdminSession("t", "anna", "admin anna", NOW + 9, entered=False)
        tx.admins.add_session(session, NOW)
        assert tx.admins.session("t") == session
        tx.admins.add_session(AdminSession("u", "", "root", NOW + 99, entered=True), NOW + 10)
        assert tx.admins.session("t") is None, "it was over"
        tx.admins.add_session(msgspec.structs.replace(session, expires_at=NOW + 99), NOW + 10)
        assert tx.admins.revoke("anna")
        assert tx.admins.session("t") is None
        assert not tx.admins.saw(joined, 7, NOW + 11)
        assert tx.admins.end_session("u")
        assert not tx.admins.end_session("u")
        assert [(a.name, a.revoked, a.sequence) for a in tx.admins.all()] == [
            ("anna", True, 6),
            ("bert", True, 0),
        ]

    def test_sums_over_a_fleet(self, tx, project):
        hosts = [new_host(tx, project, name, network=name[0]) for name in ("a1", "a2", "b1")]
        for host in hosts[:2]:
            tx.hosts.set_team(project.id, host.account, "lab")
        standing = msgspec.structs.replace(
            standing_of(hosts[1]), credit=7.0, units_valid=3, refused=2, banned_until=NOW + 9
        )
        tx.hosts.set_standing(hosts[1].id, standing)
        [none_yet] = tx.fleets.classes(project.id, NOW + 1, NOW)
        assert (none_yet.digest, none_yet.hosts, none_yet.convicted, none_yet.banned) == (
            "",
            3,
            1,
            1,
        )
        [found] = tx.fleets.networks(project.id, least_accounts=2, now=NOW, limit=9)
        assert (found.network, found.accounts, found.convicted, found.banned) == ("a", 2, 1, 1)
        first, *_ = tx.fleets.accounts(project.id, ban_after=3, limit=9)
        assert (first.display_name, first.team, first.refused) == (hosts[1].display_name, "lab", 2)
        assert (first.verified, first.credit) == (3, 7.0)
        [team] = tx.fleets.teams(project.id, ban_after=3, limit=9)
        assert (team.team, team.accounts, team.hosts, team.credit) == ("lab", 2, 2, 7.0)
        assert tx.fleets.refusing(project.id, 0.0, 9) == []
        for at, kind in ((NOW, "issued"), (NOW + 5, "issued"), (NOW + 6, "banned")):
            tx.events.add(project.id, at, kind)
        assert tx.fleets.event_counts(project.id, NOW + 1, 9) == {"banned": 1, "issued": 1}
        assert tx.fleets.event_counts(project.id, NOW, 1) == {"banned": 1}
        assert tx.fleets.versions_since(project.id, 0, NOW) == (0, 0)

    def test_a_project_is_extended_once(self, tx, project):
        assert not tx.projects.get(project.id).extended
        assert tx.projects.extend(project.id)
        assert not tx.projects.extend(project.id)
        assert tx.projects.get(project.id).extended


class TestRecall:
    def count(self, tx):
        return tx._db.recall("SELECT count(*) FROM events")[0][0]

    def test_what_this_connection_changes_is_read_again(self, store):
        with store.write() as tx:
            assert self.count(tx) == 0
            tx.events.add(1, 0.0, "one")
            assert self.count(tx) == 1
        with store.write() as tx:
            assert self.count(tx) == 1
            tx.audit.add(0.0, "who", "what", "", {})  # another table
            assert self.count(tx) == 1

    def test_what_another_connection_changes_is_read_again(self, stores):
        one, other = stores(), stores()
        for before in range(3):
            with one.write() as tx:
                assert self.count(tx) == before
                assert self.count(tx) == before
            with other.write() as tx:
                tx.events.add(1, 0.0, "theirs")
            with one.read() as tx:
                assert self.count(tx) == before + 1

    def test_what_was_undone_is_read_again(self, store):
        with store.write() as tx:
            with pytest.raises(ZeroDivisionError), tx.savepoint():
                undone_event(self, tx)
            assert self.count(tx) == 0
        with pytest.raises(ZeroDivisionError), store.write() as tx:
            undone_event(self, tx)
        with store.write() as tx:
            assert self.count(tx) == 0


def undone_event(test, tx):
    tx.events.add(1, 0.0, "undone")
    assert test.count(tx) == 1
    raise ZeroDivisionError
