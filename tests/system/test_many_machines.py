"""Three `serve` and three `work` on one database and one bucket; everything fails in turn.

One process after the other is killed, the database crashes, the bucket fails, is slow and lies.

Each has a home of its own, as on a machine of its own. Hosts send each request to any of the three,
and the same request to another one when no answer comes.
"""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.config import S3, CoordinatorConfig, Networks, config_text
from pleb_coordinator.home.layout import Home
from pleb_shared.protocol.messages import ReceiptOutcome, Role
from pleb_shared.protocol.unit import UnitKind
from tests.e2e.world import Running, wait_until
from tests.integration.http_world import HttpWorld
from tests.integration.steps_world import START, World
from tests.postgres import free_port, shared_postgres
from tests.s3_server import KEYS, Fault, FaultyProxy, shared_s3

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.messages import WorkReply, WorkRequest
    from pleb_shared.protocol.report import Report
    from tests.integration.steps_world import Volunteer

pytestmark = pytest.mark.system

MACHINES = 3
KILLS = 2 * MACHINES
OFFSET = START - time.time()
FAULTS = (
    partial(Fault, 5, status=503),
    partial(Fault, 5, status=500, after=True),
    partial(Fault, 5, ("GET",), spoil=True, only_bodies=True),
    partial(Fault, 5, delay_seconds=0.5),
)


class SharedClock:
    """The clock of the processes, which are told to be as far in the future as the small world."""

    @property
    def now(self) -> float:
        return time.time() + OFFSET

    def __call__(self) -> float:
        return self.now


class Machines:
    """Homes with the same keys, database and bucket; and the processes on them."""

    def __init__(self, folder: Path, world: World, url: str, s3: S3, bucket: str) -> None:
        config = CoordinatorConfig(
            store=url, blobs=bucket, s3=s3, networks=Networks(own=("127.0.0.0/8",))
        )
        first = Home(world.home)
        first.secret_file.write_bytes(world.deps.secret)
        for made in first.folders:
            made.mkdir(exist_ok=True)
        for secret in (first.secret_file, first.online_key_file):
            secret.chmod(0o600)
        first.config_file.write_text(config_text(config))
        self.homes = [first.path]
        for number in range(1, MACHINES):
            self.homes.append(folder / f"machine-{number}")
            shutil.copytree(first.path, self.homes[-1])
        self.ports = [free_port() for _ in self.homes]
        self.running: dict[str, Running] = {}
        for number, home in enumerate(self.homes):
            words = ("--home", str(home), "--clock-offset", str(OFFSET), "--json")
            port = ("--port", str(self.ports[number]))
            for name, command in (("serve", [*words, *port]), ("work", [*words])):
                program = [sys.executable, "-m", "pleb_coordinator.cli", name, *command]
                log = folder / f"{name}-{number}.log"
                self.running[f"{name}-{number}"] = Running(name, program, log).start()

    def wait(self) -> None:
        for name, process in self.running.items():
            wait_until(f"{name} to start", partial(_has_started, process), seconds=60)

    def kill(self, name: str) -> None:
        """kill -9 a process with all its children, as a power cut would."""
        process = self.running[name]
        for child in process.descendants():
            child.kill()
        process.kill()

    def stop(self) -> None:
        for process in self.running.values():
            if process.alive:
                process.stop()


def _has_started(process: Running) -> bool:
    return '"pid"' in process.tail()


class Host(threading.Thread):
    """A host that works until `done`, and remembers which of its results were accepted."""

    def __init__(
        self, world: World, host: Volunteer, ports: list[int], done: threading.Event
    ) -> None:
        super().__init__()
        self.wire = HttpWorld(world, None, None)  # type: ignore[arg-type]
        self.world, self.host, self.done = world, host, done
        self.ports, self.generator = ports, np.random.default_rng(ports[0])
        self.client = httpx.Client(timeout=20)
        self.accepted: set[int] = set()
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            while not self.done.is_set():
                self.work()
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.fault = error
        finally:
            self.client.close()

    def work(self) -> None:
        reply = self.ask([], 1)
        for manifest in reply.manifests:
            if manifest.unit.kind == UnitKind.CALIBRATE:
                continue
            attached = self.generator.random() < 0.5
            said, packed = self.wire.result(self.host, manifest, attached=attached)
            receipt = self.ask([said], 0, packed if attached else b"").receipts[0]
            if receipt.outcome == ReceiptOutcome.STORED or (
                receipt.upload is not None and self.upload(receipt.upload, packed)
            ):
                self.accepted.add(manifest.assignment)
        if not reply.manifests:
            self.done.wait(0.05)

    def ask(self, reports: list[Report], units: int, attached: bytes = b"") -> WorkReply:
        request = self.wire.request(self.host, reports, units=units)
        return self.opened(request, self.wire.signed(self.host, request) + b"\n" + attached)

    def opened(self, request: WorkRequest, body: bytes) -> WorkReply:
        answer = self.send("POST", "/projects/tiny/work", body)
        return self.wire.opened(answer, request)

    def upload(self, token: str, data: bytes) -> bool:
        """Send a delta in parts, each to any machine; False: it came too late."""
        offset = 0
        while True:
            part = data[offset : offset + len(data) // 2 + 1]
            headers = {"Upload-Offset": str(offset)}
            answer = self.send("PATCH", f"/uploads/{token}", part, headers)
            if answer.status_code in {400, 404, 409, 416}:
                found = self.send("HEAD", f"/uploads/{token}")
                if found.status_code != 200:
                    return False
                offset = int(found.headers["upload-offset"])
                if found.headers["upload-complete"] == "?1":
                    return True
                continue
            if answer.status_code != 204:
                return False
            offset = int(answer.headers["upload-offset"])
            if answer.headers["upload-complete"] == "?1":
                return True

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request to any machine; the same one again until one answers."""
        end = time.monotonic() + 60
        while True:
            port = self.ports[int(self.generator.integers(len(self.ports)))]
            try:
                answer = self.client.request(
                    method, f"http://127.0.0.1:{port}{path}", content=body, headers=headers
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            assert time.monotonic() < end, f"no machine answers: {answer and answer.text}"
            time.sleep(0.1)


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with FaultyProxy(shared_s3().endpoint) as proxy:
        yield proxy


@pytest.fixture
def machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy
) -> Iterator[tuple[Machines, World]]:
    url, server = shared_postgres().new_database(), shared_s3()
    bucket = f"s3://{server.new_bucket()}/pleb"
    s3 = S3(endpoint=proxy.endpoint, region="us-east-1", **KEYS)
    blobs = _blobs(bucket, s3)
    monkeypatch.setattr(World, "new_place", staticmethod(lambda _: url))
    monkeypatch.setattr(World, "new_blobs", staticmethod(lambda _: blobs))
    monkeypatch.setattr("tests.integration.steps_world.Clock", SharedClock)
    home = tmp_path / "machine-0"
    home.mkdir()
    world = World(home, units=6, quorum=5, versions=10_000, grace_seconds=0.5)
    found = Machines(tmp_path, world, url, s3, bucket)
    try:
        found.wait()
        yield found, world
    finally:
        found.stop()
        world.store.close()


def _blobs(bucket: str, s3: S3) -> Any:
    from pleb_coordinator.blobs.s3 import S3Blobs

    return S3Blobs(bucket, **dataclasses.asdict(s3))


def test_one_machine_after_the_other_is_killed(
    machines: tuple[Machines, World], proxy: FaultyProxy
) -> None:
    fleet, world = machines
    done = threading.Event()
    roles = {"trusted": Role.TRUSTED, "anna": Role.HOST, "boris": Role.HOST}
    volunteers = [world.volunteer(name, role=role) for name, role in roles.items()]
    hosts = [
        Host(world, host, fleet.ports[n:] + fleet.ports[:n], done)
        for n, host in enumerate(volunteers)
    ]
    for host in hosts:
        host.start()
    generator = np.random.default_rng(20261129)
    names = sorted(fleet.running)
    killed = dict.fromkeys(names, 0)
    try:
        wait_until("a first version", lambda: world.project.version > 0, seconds=60)
        for number in range(KILLS):
            name = names[(number * 5) % len(names)]  # each of them
            fleet.kill(name)
            killed[name] += 1
            time.sleep(generator.uniform(0.2, 1.0))
            fleet.running[name].start()
            proxy.faults = [FAULTS[number % len(FAULTS)]()]
            if number % MACHINES == 1:  # the database crashes, too
                shared_postgres().stop(signal.SIGQUIT)
                time.sleep(1.0)
                shared_postgres().start()
        last = world.project.version
        wait_until("two more versions", lambda: world.project.version > last + 1, seconds=60)
    finally:
        done.set()
        for host in hosts:
            host.join(60)
    assert [host.fault for host in hosts] == [None] * len(hosts)
    fleet.stop()
    assert min(killed.values()) > 0
    assert last > 0
    check(world, set().union(*(host.accepted for host in hosts)))


def check_accepted(tx: Transaction, accepted: Iterable[int], used: Collection[int]) -> None:
    """Every accepted result has been taken up; if its unit is in a version, so is its result.

    `used`: the results that are in a version.
    """
    for assignment in accepted:
        row = tx.assignments.get(assignment)
        assert row.state not in {
            AssignmentState.UNSENT,
            AssignmentState.LEASED,
            AssignmentState.UPLOADING,
            AssignmentState.EXPIRED,
        }, f"{assignment} was accepted, and is {row.state}"
        unit = tx.units.get(row.unit)
        if unit.state == UnitState.APPLIED:
            assert unit.canonical in used, "an applied unit is in no version"


def check(world: World, accepted: set[int]) -> None:
    """Every accepted result is where it belongs: in one version, or known not to be in one."""
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        history = tx.versions.history(project.id, 0, after=-1, limit=1_000_000)
        inputs = [entry.assignment for version in history for entry in version.inputs]
        used = set(inputs)
        assert len(inputs) == len(used), "a result is in two versions"
        check_accepted(tx, accepted, used)
        for version in range(project.version):
            for unit in tx.units.of_round(project.id, 0, version, {UnitState.APPLIED}):
                assert unit.canonical in used
        made = recompute(
            history,
            lambda number: tx.projects.metadata_at(project.id, number),
            world.deps.blobs.get,
            lambda assignment: world.deps.blobs.delta(tx.assignments.delta(assignment)),  # type: ignore[arg-type]
        )
        found = list(made)
    assert all(version.matches for version in found)
    assert len(found) >= project.version
    assert len(accepted) > project.version
