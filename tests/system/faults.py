"""A coordinator under fire: everything that can fail does so, in an order that a seed decides.

Hosts work meanwhile, over a network that loses, doubles, delays and replays what they send. At the
end every accepted result is where it belongs, and every version recomputes.
"""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import httpx
import numpy as np
import psutil

from pleb_coordinator.home.config import (
    S3,
    CoordinatorConfig,
    Networks,
    Retention,
    config_text,
    read_config,
    store_place,
)
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol.messages import Role
from tests.e2e.world import Running, run_cli, wait_until
from tests.integration.steps_world import World
from tests.integration.test_move import rows_of
from tests.postgres import free_port, shared_postgres
from tests.quiet_server import QuietServer
from tests.s3_server import KEYS, FaultyProxy, shared_s3
from tests.system.test_many_machines import (
    FAULTS,
    OFFSET,
    Host,
    SharedClock,
    _blobs,
    check,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

BACKGROUND_IS_READY: Final = re.compile(r'"time": ([0-9.]+)[^{}]*"The background process is ready"')
"""A line of its log, also after one that a full disk cut off."""
DISK_BYTES: Final = 96 * 2**20
JUMP_SECONDS: Final = 3600.0
ALL: Final = Retention(versions=0, result_bytes=0, version_bytes=0)
"""Every version is recomputed at the end."""


class UnreliableNetwork:
    """Passes requests on to a port of this PC, and does what networks do to one in three."""

    def __init__(self, port: int, seed: int) -> None:
        self.target = port
        self.done = dict.fromkeys(("lost", "unanswered", "doubled", "replayed", "delayed"), 0)
        self._generator = np.random.default_rng(seed)
        self._kept: list[tuple[str, str, bytes, dict[str, str]]] = []
        self._lock = threading.Lock()
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                network._answer(self)

            do_GET = do_POST = do_PATCH = do_HEAD = handle_any  # noqa: N815

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("content-length") or 0)
        names = ("Upload-Offset", "Content-Type")
        headers = {name: handler.headers[name] for name in names if name in handler.headers}
        request = (handler.command, handler.path, handler.rfile.read(size), headers)
        with self._lock:
            fate = ["lost", "unanswered", "doubled", "replayed", "delayed", *[""] * 10]
            chosen = fate[int(self._generator.integers(len(fate)))]
            old = None
            if chosen == "replayed" and self._kept:
                old = self._kept[int(self._generator.integers(len(self._kept)))]
            if chosen:
                self.done[chosen] += 1
            self._kept = [*self._kept[-50:], request]
        if chosen == "delayed":
            time.sleep(0.3)  # later ones overtake it
        if old is not None:
            self._passed_on(old)
        answer = None if chosen == "lost" else self._passed_on(request)
        if chosen == "doubled":
            answer = self._passed_on(request)
        if chosen == "unanswered" or answer is None:
            handler.close_connection = True
            return
        status, fields, body = answer
        handler.send_response(status)
        for name, value in fields.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _passed_on(
        self, request: tuple[str, str, bytes, dict[str, str]]
    ) -> tuple[int, dict[str, str], bytes] | None:
        method, path, body, headers = request
        line = http.client.HTTPConnection("127.0.0.1", self.target, timeout=30)
        try:
            line.request(method, path, body, headers)
            answer = line.getresponse()
            fields = {n: v for n, v in answer.getheaders() if n.lower().startswith("upload-")}
            return answer.status, fields, answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()


class PatientHost(Host):
    """Sends a request again that is refused for its time: the coordinator's clock is wrong."""

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        end = time.monotonic() + 120
        while True:
            answer = super().send(method, path, body, headers)
            if answer.status_code not in {403, 429} or not path.endswith("/work"):
                return answer
            assert time.monotonic() < end, answer.text
            time.sleep(0.2)


@dataclass
class Fire:
    """One `serve` with its two processes, and what happens to it."""

    world: World
    home: Path
    port: int
    generator: np.random.Generator
    proxy: FaultyProxy | None = None
    """Before the bucket; None: files."""
    done: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, list[float]] = field(default_factory=dict)
    """Seconds until requests were answered again, by what happened: from a kill, or from when the
    database accepted connections. Of kills of the background process: until it was ready."""
    undisturbed: dict[str, list[float]] = field(default_factory=dict)
    """Of these what `serve` and its HTTP process did not wait for a processor, where others had
    it: what a restart takes on a machine that is free."""
    database_seconds: list[float] = field(default_factory=list)
    """What a database that had crashed took itself until it accepted connections."""
    background_killed_at: list[float] = field(default_factory=list)
    process: Running | None = None
    network: UnreliableNetwork | None = None
    """Between the hosts and `serve`."""
    pause_seconds: float = 0.0
    """The longest that `serve` waited on purpose before it started a process again."""
    versions: int = 0
    """Made until the end."""

    def start(self, offset: float = OFFSET) -> None:
        words = ["serve", "--home", str(self.home), "--port", str(self.port), "--json"]
        program = [sys.executable, "-m", "pleb_coordinator.cli", *words]
        log = self.home.parent / "serve.log"
        program += ["--clock-offset", str(offset)]
        self.process = Running("serve", program, log).start()
        self.answers()

    def answers(self, path: str = "/health") -> None:
        """Wait until it answers again, as a service manager and its supervisor let it."""

        def healthy() -> bool:
            assert self.process is not None
            assert self.process.alive, self.process.tail()
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5).is_success
            except httpx.TransportError:
                return False

        try:
            wait_until("the coordinator to answer", healthy, seconds=120)
        except AssertionError as error:
            assert self.process is not None
            message = f"{error}\n{self.done}\n{self.process.tail()}"
            raise AssertionError(message) from None

    def kill_all(self) -> None:
        """kill -9 of all three, as a power cut would."""
        assert self.process is not None
        for child in self.process.descendants():
            child.kill()
        self.process.kill()
        self.background_killed_at.append(time.time())

    def kill_everything(self) -> None:
        self.kill_all()
        with self.measured("everything killed"):
            self.start()

    def kill_serve(self) -> None:
        """kill -9 of the parent alone; its processes end in their own time."""
        assert self.process is not None
        left = self.process.descendants()
        self.process.kill()
        self.background_killed_at.append(time.time())
        with self.measured("serve killed"):
            self.start()
            psutil.wait_procs(left, timeout=60)  # until then an old one may have answered
            self.answers()

    def kill_http(self) -> None:
        self._kill("web_app")
        with self.measured("http killed"):
            self.answers()

    def kill_jobs(self) -> None:
        self._kill("jobs_app")
        self.background_killed_at.append(time.time())

    def _kill(self, part: str) -> None:
        assert self.process is not None
        for child in self.process.descendants():
            try:
                if any(part in word for word in child.cmdline()):
                    child.kill()
            except psutil.NoSuchProcess:
                continue

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Measure a restart."""
        before = self._waited()
        began = time.monotonic()
        yield
        seconds, after = time.monotonic() - began, self._waited()
        waited = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
        self.restarts.setdefault(what, []).append(seconds)
        self.undisturbed.setdefault(what, []).append(seconds - waited)

    def _waited(self) -> dict[int, float]:
        """Return how long `serve` and its HTTP process have waited for a processor, in seconds."""
        if self.process is None or self.process.process is None or not self.process.alive:
            return {}
        found = {self.process.process.pid}
        for child in self.process.descendants():
            with suppress(psutil.NoSuchProcess):
                if any("web_app" in word for word in child.cmdline()):
                    found.add(child.pid)
        return {pid: _run_delay_seconds(pid) for pid in found}

    def read_logs(self) -> None:
        """Read when the background process was ready again, and how long `serve` paused."""
        said_by_serve = (self.home.parent / "serve.log").read_text(errors="replace")
        pauses = re.findall("restarts in ([0-9.]+) s", said_by_serve)
        self.pause_seconds = max(map(float, pauses), default=0.0)
        logs = (self.home / "logs").glob("jobs.jsonl*")
        said = (found for log in logs for found in BACKGROUND_IS_READY.findall(log.read_text()))
        ready = sorted(map(float, said))
        kills = self.background_killed_at
        self.restarts["jobs killed"] = [
            min(then) - killed
            for killed, again in zip(kills, [*kills[1:], float("inf")], strict=True)
            if (then := [at for at in ready if killed < at < again])  # else killed as it started
        ]

    def jump_clock(self) -> None:
        """The clock is an hour ahead or behind for a while, over a restart."""
        sign = 1 if self.generator.random() < 0.5 else -1
        for offset in (OFFSET + sign * JUMP_SECONDS, OFFSET):
            self.kill_all()
            with self.measured("clock jumped"):
                self.start(offset)
            time.sleep(1.0)

    def crash_database(self) -> None:
        shared_postgres().stop(signal.SIGQUIT)
        time.sleep(0.5)
        began = time.monotonic()
        shared_postgres().start()
        self.database_seconds.append(time.monotonic() - began)
        with self.measured("database crashed"):
            self.answers("/ready")

    def trouble_bucket(self) -> None:
        assert self.proxy is not None
        self.proxy.faults = [FAULTS[int(self.generator.integers(len(FAULTS)))]()]

    def fill_disk(self) -> None:
        """Nothing can be written for a second: the home is a file system of its own."""
        filler = self.home / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**16)):
                    pass
            except OSError:
                time.sleep(1.0)
        filler.unlink()

    def move(self, *places: str) -> None:
        """Move rows and files elsewhere; the hosts send again what is not answered meanwhile."""
        assert self.process is not None
        home = Home(self.home)
        self.process.stop()
        self.world.store.close()
        before = rows_of(home)
        run_cli("pleb_coordinator", "migrate", "--home", self.home, "--to", *places)
        assert rows_of(home) == before
        config = read_config(home.config_file)
        self.world.store = Store(store_place(home, config))
        self.world.deps = deps_of(home, self.world.clock, config)
        self.start()

    def happen(self, name: str) -> None:
        """Let one thing happen."""
        events: dict[str, Callable[[], None]] = {
            "everything killed": self.kill_everything,
            "serve killed": self.kill_serve,
            "http killed": self.kill_http,
            "jobs killed": self.kill_jobs,
            "clock jumped": self.jump_clock,
            "database crashed": self.crash_database,
            "bucket failed": self.trouble_bucket,
            "disk full": self.fill_disk,
        }
        events[name]()
        self.done[name] = self.done.get(name, 0) + 1


KILLS: Final = ("everything killed", "serve killed", "http killed", "jobs killed")
EVENTS: Final = {
    "sqlite": (*KILLS, "clock jumped"),
    "postgresql": (*KILLS, "clock jumped", "database crashed", "bucket failed"),
}
"""What can fail, by the store: files, or a database and a bucket."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Make a small file system of memory; only root can."""
    folder.mkdir(exist_ok=True)
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "pleb-small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def fire_on(
    folder: Path, patch: pytest.MonkeyPatch, *, store: str, seed: int, full_disks: bool = False
) -> Iterator[Fire]:
    """Serve a small project from a store of that kind."""
    patch.setattr("tests.integration.steps_world.Clock", SharedClock)
    with ExitStack() as stack:
        disk = folder / "disk"
        disk.mkdir()
        if full_disks:
            stack.enter_context(small_disk(disk))
        home = disk / "home"
        home.mkdir()
        networks, proxy = Networks(own=("127.0.0.0/8",)), None
        config = CoordinatorConfig(networks=networks, retention=ALL)
        if store == "postgresql":
            proxy = stack.enter_context(FaultyProxy(shared_s3().endpoint))
            s3 = S3(endpoint=proxy.endpoint, region="us-east-1", **KEYS)
            url, bucket = shared_postgres().new_database(), f"s3://{shared_s3().new_bucket()}/pleb"
            config = replace(config, store=url, blobs=bucket, s3=s3)
            patch.setattr(World, "new_place", staticmethod(lambda _: url))
            patch.setattr(World, "new_blobs", staticmethod(lambda _: _blobs(bucket, s3)))
        world = World(home, units=6, quorum=5, versions=100_000, grace_seconds=0.5)

        def close_store() -> None:
            world.store.close()  # by then it may be another one

        stack.callback(close_store)
        _write_home(world, config)
        fire = Fire(world, home, free_port(), np.random.default_rng(seed), proxy)
        fire.start()
        stack.callback(fire.kill_all)
        fire.network = stack.enter_context(UnreliableNetwork(fire.port, seed))
        yield fire


def under_fire(
    folder: Path, patch: pytest.MonkeyPatch, *, store: str, seed: int, kills: int, full_disks: bool
) -> Fire:
    """Let things happen until that many processes were killed; return what happened, checked."""
    events = (*EVENTS[store], *(["disk full"] if full_disks else []))
    with fire_on(folder, patch, store=store, seed=seed, full_disks=full_disks) as fire:
        with working_hosts(fire) as faults:
            number = 0
            while sum(fire.done.get(name, 0) for name in KILLS) < kills:
                once = number < len(events)  # each at least once
                fire.happen(events[number if once else int(fire.generator.integers(len(events)))])
                number += 1
                time.sleep(fire.generator.uniform(0.0, 0.6))
                assert faults() == []
            if fire.proxy is not None:
                fire.proxy.faults = []
        assert fire.network is not None
        fire.done |= fire.network.done
        fire.read_logs()
    return fire


@contextmanager
def working_hosts(fire: Fire) -> Iterator[Callable[[], list[Exception]]]:
    """Let hosts work meanwhile; then two more versions must come, and all must be as it should."""
    world, stop = fire.world, threading.Event()
    assert fire.network is not None
    roles = {"trusted": Role.TRUSTED, "anna": Role.HOST, "boris": Role.HOST}
    volunteers = [world.volunteer(name, role=role) for name, role in roles.items()]
    hosts = [PatientHost(world, host, [fire.network.port], stop) for host in volunteers]

    def faults() -> list[Exception]:
        return [host.fault for host in hosts if host.fault is not None]

    for host in hosts:
        host.start()
    try:
        wait_until("a first version", lambda: world.project.version > 0, seconds=120)
        yield faults
        last = world.project.version
        wait_until("two more versions", lambda: world.project.version > last + 1, seconds=120)
    finally:
        stop.set()
        for host in hosts:
            host.join(120)
    assert faults() == []
    assert fire.process is not None
    fire.process.stop()
    fire.versions = world.project.version
    check(world, set().union(*(host.accepted for host in hosts)))


def _run_delay_seconds(pid: int) -> float:
    """Return how long the threads of a process have been ready to run without a processor.

    The second number of `schedstat` (Linux, Documentation/scheduler/sched-stats.rst), nanoseconds.
    """
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(file.read_text().split()[1]) for file in files) / 1e9
    except OSError:  # a thread has just ended
        return 0.0


def _write_home(world: World, config: CoordinatorConfig) -> None:
    home = Home(world.home)
    home.secret_file.write_bytes(world.deps.secret)
    for made in home.folders:
        made.mkdir(exist_ok=True)
    for secret in (home.secret_file, home.online_key_file):
        secret.chmod(0o600)
    home.config_file.write_text(config_text(config))
