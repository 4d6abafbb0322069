"""A small world of real processes on loopback: one coordinator, a project, any number of agents."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psutil

from pleb_agent.cli import main as agent_main
from pleb_agent.control.live_preferences import encode
from pleb_agent.core.preferences import Preferences
from pleb_coordinator.cli import main as coordinator_main
from pleb_project.check.run import check_project
from pleb_project.definition.load import load_definition
from pleb_project.publish.publisher import Publisher
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.client import Coordinator, parse_address
from pleb_project.server.records import Home
from tests.quiet_server import QuietServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pleb_shared.protocol.project import Access, ProjectMetadata

PROJECTS = Path(__file__).parent / "projects"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def wait_until(what: str, happens: Callable[[], object], *, seconds: float = 120) -> Any:
    """Return the first true value of `happens`; fail with `what` when the time is over."""
    end = time.monotonic() + seconds
    while not (value := happens()):
        if time.monotonic() > end:
            message = f"waited {seconds} s in vain for: {what}"
            raise AssertionError(message)
        time.sleep(0.1)
    return value


def run_cli(
    package: str, *arguments: object, check: bool = True, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run one command of ours to its end; fail with its words when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"{package}.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | ONE_THREAD,
        check=False,
    )
    if check and done.returncode:
        message = f"{package} {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise AssertionError(message)
    return done


def run_here(main: Callable[[list[str]], int], *arguments: object, check: bool = True) -> Any:
    """Run one command of ours in this process and return its JSON; fail when it fails.

    A new Python would take half a second of those that train, and three with torch.
    """
    command = [*map(str, arguments), "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = main(command)
    if check and code:
        message = f"{command} ended with {code}:\n{output.getvalue()}"
        raise AssertionError(message)
    return json.loads(output.getvalue().strip().splitlines()[-1])


@contextlib.contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder as any web server would; gives its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with QuietServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@cache
def checked(project: Path) -> tuple[ProjectMetadata, BlobFolder]:
    """Check a project as `publish` does, but once for all tests: it takes ten seconds."""
    folder = tempfile.mkdtemp(prefix="pleb-checked-")
    atexit.register(shutil.rmtree, folder)
    blobs = BlobFolder(Path(folder))
    return check_project(load_definition(project), blobs, print).metadata, blobs


@dataclass
class Running:
    """A process of ours that logs into a file."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] | None = None
    """None: the tester's own."""

    def start(self) -> Self:
        with self.log.open("ab") as log:
            environment = dict(os.environ) if self.environment is None else self.environment
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment | ONE_THREAD
            )
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, *, seconds: float = 20) -> int:
        """Ask it to end as an operator would; fail when it does not."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"{self.name} did not end within {seconds} s:\n{self.tail()}"
            raise AssertionError(message) from None

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait(self, *, seconds: float = 180) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.name} still runs after {seconds} s:\n{self.tail()}"
            raise AssertionError(message) from None

    def descendants(self) -> list[psutil.Process]:
        if not self.alive or self.process is None:
            return []
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class World:
    """Everything lives under `root`; `close` ends every process that was started."""

    root: Path
    port: int = 0
    coordinator: Running | None = None
    agents: dict[str, Running] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    _invites: int = 0

    @property
    def home(self) -> Path:
        return self.root / "coordinator"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, *options: object) -> Running:
        """Start the coordinator; the second time on the same port again."""
        log = self.root / "coordinator.log"
        log.unlink(missing_ok=True)
        if "--with-agent" in options:
            self._let_compete(self.home / "agent")
        if not self.home.exists():  # volunteers on loopback are told apart by their accounts
            self.admin("init", "--own-network", "127.0.0.0/8")
        command = [sys.executable, "-m", "pleb_coordinator.cli", "serve", "--json"]
        command += ["--home", str(self.home), "--port", str(self.port), *map(str, options)]
        self.coordinator = Running("coordinator", command, log).start()
        first = wait_until("the coordinator to listen", self._first_line, seconds=30)
        self.port = int(first["url"].rsplit(":", 1)[1])
        return self.coordinator

    def _first_line(self) -> dict[str, Any] | None:
        assert self.coordinator is not None
        if not self.coordinator.alive:
            message = f"the coordinator ended:\n{self.coordinator.tail()}"
            raise AssertionError(message)
        for line in self.coordinator.log.read_text().splitlines():
            if line.startswith("{") and '"url"' in line:
                return json.loads(line)  # type: ignore[no-any-return]
        return None

    def pids(self) -> dict[str, int]:
        """The coordinator's own and its children's process numbers, by their part."""
        line = self._first_line()
        assert line is not None
        return {name: line[name] for name in ("pid", "http_pid", "jobs_pid")}

    def admin(self, *arguments: object) -> Any:
        """Run one admin command and return its JSON."""
        return run_here(coordinator_main, *arguments, "--home", self.home)

    def invite(self, role: str, *options: object) -> str:
        token: str = self.admin("invite", "new", "--role", role, *options)["token"]
        return token

    @property
    def researcher(self) -> Home:
        """Where the researcher's keys are."""
        return Home(self.root / "researcher")

    def publish(
        self,
        project: Path,
        *,
        quorum: int | None = None,
        access: Access = "public",
        new_epoch: bool = False,
        mirrors: Sequence[str] = (),
        uploads: str = "",
    ) -> str:
        """Publish as a researcher would and return the attach link."""
        metadata, blobs = checked(project)
        if mirrors:
            metadata = msgspec.structs.replace(metadata, mirrors=list(mirrors))
        if uploads:
            metadata = msgspec.structs.replace(metadata, uploads=uploads)
        if quorum is not None:
            round_ = msgspec.structs.replace(metadata.round, quorum=quorum)
            metadata = msgspec.structs.replace(metadata, round=round_)
        with Coordinator(parse_address(self.url)) as coordinator:
            publisher = Publisher(coordinator, self.researcher, time.time, print)
            invite = self.invite("publisher")
            if access == "invited":
                publisher.prepare(metadata.project, invite, access)
            record = publisher.publish(
                metadata, blobs, invite=invite, new_epoch=new_epoch, access=access
            )
        self.links[project.name] = record.attach_link
        return record.attach_link

    def attach(self, name: str, link: str, *, trusted: bool = False) -> None:
        """Attach a new agent of this name to the project."""
        invite = ("--invite", self.invite("trusted")) if trusted else ()
        run_here(agent_main, "attach", link, "--name", name, *invite, "--home", self.root / name)

    def start_agent(self, name: str, *options: object) -> Running:
        """Start the agent of this name, with one thread unless told otherwise."""
        threads = () if "--threads" in options else ("--threads", 1)
        command = [sys.executable, "-m", "pleb_agent.cli", "start", "--headless"]
        command += ["--preset", "full", "--home", str(self.root / name)]
        command += map(str, (*threads, *options))
        self._let_compete(self.root / name)
        agent = Running(name, command, self.root / f"{name}.log").start()
        self.agents[name] = agent
        return agent

    def _let_compete(self, home: Path) -> None:
        """Let an agent not give way: on a machine where others are busy it would never start."""
        preferences = home / "preferences.json"
        if not preferences.exists():
            preferences.parent.mkdir(parents=True, exist_ok=True)
            preferences.write_bytes(encode(Preferences(nice=False)))

    def start_desktop_agent(self, name: str, environment: dict[str, str]) -> Running:
        """Start the agent of this name as the session in this environment would."""
        command = [sys.executable, "-m", "pleb_agent.cli", "start", "--json"]
        command += ["--home", str(self.root / name)]
        log = self.root / f"{name}.log"
        agent = Running(name, command, log, environment=environment).start()
        self.agents[name] = agent
        return agent

    def version(self, project: str) -> int:
        """The newest published version."""
        return int(self.admin("project", "show", project)["version"])

    def wait_for_version(self, project: str, number: int, *, seconds: float = 180) -> None:
        def reached() -> bool:
            self.check_alive()
            return self.version(project) >= number

        try:
            wait_until(f"version {number} of {project}", reached, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tails()}") from None

    def join(self, link: str) -> None:
        """Attach a trusted agent and a volunteer, the same ones for each project."""
        for name in ("trusted", "volunteer"):
            self.attach(name, link, trusted=name == "trusted")
            if name not in self.agents:
                self.start_agent(name)

    def wait_for_end(self, project: str, *, seconds: float = 240) -> None:
        """Wait until the last version is made and measured."""

        def reached() -> bool:
            self.check_alive()
            return "reached its last version" in self.admin("project", "show", project)["waiting"]

        wait_until(f"the last version of {project}, measured", reached, seconds=seconds)

    def check_alive(self) -> None:
        for process in self._all():
            if process.process is not None and process.process.poll() not in (None, 0):
                message = f"{process.name} died:\n{process.tail()}"
                raise AssertionError(message)

    def tails(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.tail()}" for process in self._all())

    def close(self) -> None:
        """End all; whoever does not end by asking is killed."""
        for process in self._all():
            children = process.descendants()
            if process.alive:
                process.process.terminate()  # type: ignore[union-attr]
            try:
                process.wait(seconds=10)
            except AssertionError:
                process.kill()
            for child in children:
                if child.is_running():
                    child.kill()

    def _all(self) -> Iterable[Running]:
        yield from self.agents.values()
        if self.coordinator is not None:
            yield self.coordinator
