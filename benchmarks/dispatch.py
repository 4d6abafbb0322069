"""Signed work request -> lease -> signed manifest, over HTTP on loopback.

`pleb-coordinator serve` runs as operators run it (HTTP and background process, synchronous=FULL);
a load process plays many hosts over a few dozen kept connections. The hosts are proven and
hold units already; each request asks for one more, names what is in hand, and is newly signed.
Beside it a project of small rounds is trained (reports with deltas), so that the background
process verifies and advances while it expires the leases that run out: about 28 a second.

The limit is measured in the same run: verifying a request and signing a reply, and nothing
else. A request cannot cost less CPU time than that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec
import psutil

from benchmarks.dispatch_fleet import LoadHost, secret
from benchmarks.dispatch_load import Measured, Plan
from benchmarks.dispatch_store import LARGEST_ROUND, Amounts, fill_brisk, fill_store
from pleb_coordinator.backups.move import move_home
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.config import config_text, read_config, store_place
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import SigningKey, sign_payload, verify_bytes
from pleb_system.durable import write_durably
from tests.postgres import DURABLE, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS: Final = 32
"""Requests under way at a time: what a fleet of some ten thousand PCs has."""
QUICK: Final = Amounts(projects=2, hosts=25_000, finished_rounds=1, leases=100_000)
FULL: Final = Amounts(projects=4, hosts=25_000, finished_rounds=20, leases=100_000)
LARGE_LEASES: Final = 50_000
"""In a store of a given size: half of the smallest one's, so that no project runs dry."""
BRISK_HOSTS: Final = 8
_LIMIT_ROUNDS: Final = 5000


@dataclass(frozen=True)
class Served:
    """A running coordinator."""

    url: str
    http: psutil.Process
    jobs: psutil.Process

    def cpu_seconds(self) -> dict[str, float]:
        return {"http": _seconds_of(self.http), "jobs": _seconds_of(self.jobs)}

    def memory_mb(self) -> dict[str, float]:
        """Return what the HTTP process has in memory, and the part that is its alone.

        The rest are pages of the store's file, which SQLite maps and the system may drop.
        """
        found = self.http.memory_full_info()
        return {"all": found.rss / 1e6, "private": found.uss / 1e6}


def main(quick: bool, store: str = "sqlite", units: int = 0, projects: int = 1) -> dict[str, Any]:
    amounts = QUICK if quick else FULL
    if units:
        amounts = sized(units, projects)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pleb-dispatch-"))
        home = Home(Path(folder) / "home")
        plan = _prepare(home, amounts, quick or units > 0)
        database = None if store == "sqlite" else moved(home, stack, store)
        limit = _limit(plan.groups[0].in_hand[0])
        with served(home) as running:
            plan_file = Path(folder) / "plan.json"
            plan_file.write_bytes(
                msgspec.json.encode(msgspec.structs.replace(plan, url=running.url))
            )
            with _load_process(plan_file) as load:
                return _figures(running, home, load, database) | limit | _amounts(home, amounts)


def sized(units: int, projects: int) -> Amounts:
    """Return a store of so many units: one round of each project is queued, the others are done.

    Raises:
        ValueError: a project's round would be empty.
    """
    rounds = units // LARGEST_ROUND
    if rounds < projects or projects < 1:
        raise ValueError(f"--units: at least {LARGEST_ROUND} for each of {projects} projects")
    return Amounts(projects, QUICK.hosts, finished_rounds=rounds - projects, leases=LARGE_LEASES)


def moved(home: Home, stack: ExitStack, store: str) -> psutil.Process | None:
    """Move the filled store into PostgreSQL, with statistics as a running database has them.

    Return the server, if it is one of this benchmark.
    """
    process = None
    if store == "postgresql":
        server = stack.enter_context(running_postgres(DURABLE))
        server.run("CREATE DATABASE dispatch")
        store = server.url("dispatch")
        assert server.process is not None
        process = psutil.Process(server.process.pid)
    before = read_config(home.config_file)
    after = dataclasses.replace(before, store=store)
    move_home(
        home,
        before,
        after,
        lambda config: write_durably(home.config_file, config_text(config).encode()),
    )
    opened = Store(store)
    opened.compact()
    opened.close()
    return process


def database_seconds(server: psutil.Process | None) -> float:
    """Return the processor time of a database's server and all its processes so far."""
    if server is None:
        return 0.0
    return sum(_seconds_of(process) for process in [server, *server.children()])


def _seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # a helper of the database has ended
        return 0.0
    return times.user + times.system


def _prepare(home: Home, amounts: Amounts, quick: bool) -> Plan:
    """Make and fill a home; return what the load process shall do with it."""
    config = make_home(home, own_networks=["127.0.0.0/8"])  # else all hosts are one voice
    deps = deps_of(home, time.time, config)  # noqa: TID251 - a composition root
    store = Store(home.store_file)
    try:
        groups = fill_store(store, deps, home.store_file, amounts)
        brisk = fill_brisk(store, deps, home.store_file, amounts.hosts + 1, BRISK_HOSTS)
    finally:
        store.close()
    if sys.platform != "win32":
        os.sync()  # no commit shall wait for what was filled
    return Plan(
        url="",
        online_key=deps.online_keys.newest().public,
        groups=groups,
        brisk=brisk,
        connections=CONNECTIONS,
        warm_up=3_000 if quick else 10_000,
        requests=25_000 if quick else 150_000,
    )


def _limit(in_hand: list[int]) -> dict[str, float]:
    """Return how often a request can be verified and a reply signed in a CPU second."""
    host, online = LoadHost("large-0", SigningKey.from_bytes(secret(1)), in_hand), _key()
    envelope = host.request(int(time.time()))  # noqa: TID251
    reply = bytes(1000)  # about what a reply with one manifest has
    start = time.process_time()
    for _ in range(_LIMIT_ROUNDS):
        verify_bytes(envelope, PayloadType.WORK, host.key.public)
        sign_payload(reply, PayloadType.WORK_REPLY, online)
    per_second = _LIMIT_ROUNDS / (time.process_time() - start)
    return {"limit_verify_sign_per_cpu_s": per_second, "limit_ms": 1000 / per_second}


def _key() -> SigningKey:
    return SigningKey.from_bytes(secret(0))


def _figures(
    running: Served, home: Home, load: subprocess.Popen[str], database: psutil.Process | None
) -> dict[str, Any]:
    """Wait for the warm-up, let the load run, and return what was measured meanwhile."""
    assert load.stdin is not None
    assert load.stdout is not None
    line(load.stdout)
    before, cpu, memory = _counts(home), running.cpu_seconds(), running.memory_mb()
    cpu["database"] = database_seconds(database)
    load.stdin.write("go\n")
    load.stdin.flush()
    found = msgspec.json.decode(line(load.stdout), type=Measured)
    now = running.cpu_seconds() | {"database": database_seconds(database)}
    used = {name: after - cpu[name] for name, after in now.items()}
    grown = {name: after - memory[name] for name, after in running.memory_mb().items()}
    counted = {name: after - before[name] for name, after in _counts(home).items()}
    asked = found.requests
    assert counted["issued"] >= asked, counted
    ordered = sorted(found.latencies_seconds)
    return {
        "rps": asked / found.seconds,
        "p50_ms": 1000 * ordered[asked // 2],
        "p99_ms": 1000 * ordered[asked * 99 // 100],
        "max_ms": 1000 * ordered[-1],
        "cpu_ms_per_request": 1000 * sum(used.values()) / asked,
        "cpu_ms_per_request_http": 1000 * used["http"] / asked,
        "cpu_ms_per_request_jobs": 1000 * used["jobs"] / asked,
        "cpu_ms_per_request_database": 1000 * used["database"] / asked,
        "cpu_ms_per_request_load": 1000 * found.cpu_seconds / asked,
        "http_share_of_a_core": used["http"] / found.seconds,
        "units_per_request": 1,
        "requests": asked,
        "connections": CONNECTIONS,
        "repeated_requests": found.repeated,
        "memory_mb": memory["all"],
        "memory_growth_mb": grown["all"],
        "memory_growth_private_mb": grown["private"],
        "expired": counted["expired"],
        "reported": counted["reported"],
        "advanced": counted["advanced"],
    }


def _amounts(home: Home, amounts: Amounts) -> dict[str, Any]:
    return {
        "store": "sqlite" if isinstance(store_place(home), Path) else "postgresql",
        **_store_size(home),
        "projects": amounts.projects,
        "queued": amounts.projects * amounts.round_units - amounts.leases,
        "rows": amounts.finished_rows,
        "leases": amounts.leases,
        "hosts": amounts.hosts,
    }


def _store_size(home: Home) -> dict[str, float]:
    file = home.store_file
    return {"store_mb": file.stat().st_size / 1e6} if file.exists() else {}


def _counts(home: Home) -> dict[str, int]:
    """Return how many events of each kind the log has."""
    store = Store(store_place(home))
    try:
        with store.read() as tx:
            projects = [tx.projects.find(name).id for name in tx.projects.names()]
            found = [event for project in projects for event in tx.events.after(project, 0, 10**9)]
    finally:
        store.close()
    kinds = ("issued", "expired", "reported", "advanced")
    return {kind: sum(event.kind == kind for event in found) for kind in kinds}


@contextmanager
def served(home: Home) -> Iterator[Served]:
    """Run the coordinator as its operator would."""
    place = ("--home", str(home.path), "--port", "0", "--json")
    with started(["-m", "pleb_coordinator.cli", "serve", *place]) as process:
        assert process.stdout is not None
        said = json.loads(line(process.stdout))
        yield Served(
            said["url"], psutil.Process(said["http_pid"]), psutil.Process(said["jobs_pid"])
        )


@contextmanager
def _load_process(plan: Path) -> Iterator[subprocess.Popen[str]]:
    with started(["-m", "benchmarks.dispatch_load", str(plan)]) as process:
        yield process


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a Python process with pipes; end it at the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # it could write a long line only in part
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def line(stream: IO[str]) -> str:
    """Return the next line; an ended process says nothing."""
    found = stream.readline()
    if not found:
        raise RuntimeError("A process of the benchmark ended too early; see above.")
    return found
