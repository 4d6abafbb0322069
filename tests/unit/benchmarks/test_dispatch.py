"""The dispatch benchmark measures what it says: its store, its hosts, its connections."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import closing
from dataclasses import replace

import pytest

from benchmarks.dispatch import sized
from benchmarks.dispatch_fleet import LoadHost, hosts_of, secret
from benchmarks.dispatch_load import Connection
from benchmarks.dispatch_store import Amounts, fill_store
from pleb_coordinator.api.known_hosts import KnownHost
from pleb_coordinator.api.work import answer
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.keys import OnlineKeys, make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import Jobs
from pleb_coordinator.steps import Deps
from pleb_coordinator.steps.serve import Asked, serve
from pleb_coordinator.store.copying import copy_rows
from pleb_coordinator.store.migrate import migrate
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType, WorkRequest
from pleb_shared.protocol.signing import SigningKey, open_envelope
from tests.postgres import shared_postgres

AMOUNTS = Amounts(
    projects=2, hosts=20, finished_rounds=3, leases=40, round_units=60, shortest_unit=1.0
)
USUAL = replace(AMOUNTS, shortest_unit=Amounts.shortest_unit)
"""As projects are: the units in hand of a small round are read with each request."""


def test_a_store_of_a_given_size_has_a_queue_for_each_project_and_a_past():
    large = sized(10_000_000, projects=4)
    assert large.finished_rows + large.projects * large.round_units == 10_000_000
    assert large.leases < large.round_units
    with pytest.raises(ValueError, match="100000 for each of 2 projects"):
        sized(100_000, projects=2)


@pytest.fixture
def deps(tmp_path):
    home = Home(tmp_path)
    home.online_key_file.parent.mkdir()
    make_secret_file(home.online_key_file)
    return Deps(
        clock=time.time,
        random_bytes=secrets.token_bytes,
        secret=bytes(32),
        online_keys=OnlineKeys(home),
        blobs=LocalBlobs(tmp_path),
    )


@pytest.fixture
def filled(tmp_path, deps, request):
    path = tmp_path / "store.sqlite"
    migrate(path)
    with closing(Store(path)) as store:
        yield store, fill_store(store, deps, path, getattr(request, "param", AMOUNTS))


def test_the_store_has_the_promised_past(filled):
    store, groups = filled
    assert [group.project for group in groups] == ["large-0", "large-1"]
    finished = 0
    with store.read() as tx:
        for group in groups:
            project = tx.projects.find(group.project)
            for version in range(project.version):
                units = tx.units.of_round(project.id, 0, version, {UnitState.APPLIED})
                chosen = [tx.assignments.get(unit.canonical) for unit in units]
                assert {found.state for found in chosen} == {AssignmentState.VALID}
                assert all(tx.assignments.delta(found.id) is not None for found in chosen)
                finished += len(units)
    assert finished == AMOUNTS.finished_rows == 180


def test_hosts_hold_what_the_load_process_believes(filled, deps):
    store, groups = filled
    held = [numbers for group in groups for numbers in group.in_hand]
    assert sum(map(len, held)) == AMOUNTS.leases
    with store.read() as tx:
        for group in groups:
            project = tx.projects.find(group.project)
            for host in hosts_of(group):
                row = tx.hosts.find(project.id, host.key.fingerprint)
                leased = {deps.numbers.shown(a.id) for a, _ in tx.assignments.in_hand(row.id)}
                assert leased == set(host.in_hand)


def test_a_host_gets_one_new_unit_for_each_request(filled, deps):
    store, groups = filled
    host = hosts_of(groups[0])[3]
    for _ in range(3):
        envelope = host.request(int(time.time()))
        request = open_envelope(envelope, PayloadType.WORK, WorkRequest, host.key.public)
        asked = Asked(request, digest_of(envelope), [], protocol=1, network="")
        with store.write() as tx:
            answered = serve(tx, deps, asked)
        assert answered.no_work is None
        assert [found.assignment in host.in_hand for found in answered.manifests] == [False]
        host.in_hand.append(answered.manifests[0].assignment)


def test_the_background_process_only_takes_back_what_ran_out(filled, deps):
    store, groups = filled
    Jobs(store, deps).run_due()
    with store.read() as tx:
        for group in groups:
            project = tx.projects.find(group.project)
            kinds = {event.kind for event in tx.events.last(project.id, 100)}
            assert kinds == {"published", "planned", "expired"}
            classes = tx.calibrations.classes(project.id)
            assert [(found.leads, found.isolated) for found in classes] == [(True, False)]


def test_sequences_grow():
    host = LoadHost("large-0", SigningKey.from_bytes(secret(1)), [5, 6])
    requests = [
        open_envelope(host.request(100), PayloadType.WORK, WorkRequest, host.key.public)
        for _ in range(3)
    ]
    assert [request.sequence for request in requests] == [1, 2, 3]
    assert requests[0].in_hand == [5, 6]


class Pipe(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data) -> None:
        self.written += data


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_an_answer_may_come_in_any_pieces(part):
    async def ask() -> tuple[bytes, bytes]:
        line, pipe = Connection(), Pipe()
        line.connection_made(pipe)
        waiting = asyncio.create_task(line.exchange(b"/p", b"question"))
        await asyncio.sleep(0)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
        for start in range(0, len(answer), part):
            line.data_received(answer[start : start + part])
        return pipe.written, await waiting

    written, body = asyncio.run(ask())
    assert body == b"answer"
    assert written.startswith(b"POST /p HTTP/1.1\r\n")
    assert written.endswith(b"Content-Length: 8\r\n\r\nquestion")


def test_a_refusal_ends_the_benchmark():
    line = Connection()
    with pytest.raises(ConnectionError, match="429"):
        line.data_received(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")


class Counting:
    """Counts the statements of a connection, and how often it waits for a database."""

    def __init__(self, connection, monkeypatch):
        self.statements = self.waits = 0
        self._counted(connection, monkeypatch, "_send" if is_postgres(connection) else "execute")
        if is_postgres(connection):
            self._counted(connection, monkeypatch, "_received")

    def _counted(self, connection, monkeypatch, name):
        run = getattr(connection, name)

        def counted(*words, **parameters):
            if name == "_received":
                self.waits += 1
            else:
                self.statements += 1
            return run(*words, **parameters)

        monkeypatch.setattr(connection, name, counted)


def is_postgres(connection):
    return hasattr(connection, "_received")


def in_postgres(filled, tmp_path):
    place = shared_postgres().emptied_database()
    copy_rows(tmp_path / "store.sqlite", place)
    return place


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("filled", "statements", "waits"), [(AMOUNTS, 13, 2), (USUAL, 14, 3)], indirect=["filled"]
)
def test_a_request_costs_few_statements_and_fewer_waits(
    filled, statements, waits, deps, tmp_path, monkeypatch, engine
):
    """Each is paid for by every request of every PC."""
    place = tmp_path / "store.sqlite" if engine == "sqlite" else in_postgres(filled, tmp_path)
    hosts = hosts_of(filled[1][0])
    with closing(Store(place)) as store:
        with store.read() as tx:
            rows = [tx.hosts.find_of(host.project, host.key.fingerprint) for host in hosts]
        known = [KnownHost(row.key, row.id, row.account) for row in rows]

        def served(first):
            with store.write() as tx:
                for host, seen in list(zip(hosts, known, strict=True))[first : first + 5]:
                    envelope = host.request(int(time.time()))
                    request = open_envelope(envelope, PayloadType.WORK, WorkRequest, seen.key)
                    digest = digest_of(envelope)
                    asked = Asked(request, digest, [], protocol=1, network=rows[0].network)
                    _, answered = answer(tx, deps, asked, seen)
                    assert len(answered.manifests) == 1

        served(0)  # what is asked once
        counting = Counting(store._writer, monkeypatch)
        served(5)
    assert counting.statements <= 5 * statements
    assert counting.waits <= 5 * waits + 1
