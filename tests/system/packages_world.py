"""The operator's side of the packages' tests: keys, a repository, a web server, builds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from installers.build import build_agent, build_runtime
from installers.build.repository import Publisher
from pleb_agent.program.installed import BUILD_FOLDER, BuildFacts
from tests.unit.agent.updates.served import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVE_LEVEL = 1


@dataclass
class Operator:
    """Publishes to a repository that a loopback server serves."""

    folder: Path
    server: Server

    def publisher(self) -> Publisher:
        now = datetime.now(UTC)
        return Publisher(self.folder / "repository", self.folder / "keys", now)

    def facts(self, version: str) -> BuildFacts:
        return BuildFacts(version=version, update_url=self.server.url)

    @property
    def root(self) -> bytes:
        return (self.folder / "repository" / "metadata" / "root.json").read_bytes()

    def build(self, version: str) -> Path:
        """PyInstaller's folder, as a release is built."""
        return build_agent.build(self.folder / "agent", self.facts(version), self.root)

    def as_version(self, agent: Path, version: str) -> Path:
        """The same build under another version."""
        other = self.folder / f"agent-{version}"
        shutil.copytree(agent, other, symlinks=True)
        described = other / "_internal" / BUILD_FOLDER
        build_agent.describe(described, self.facts(version), self.root, "archive")
        return other

    def publish_runtime(self) -> Path:
        """The CPU runtime, of this environment's torch."""
        site = self.folder / "site"
        build_runtime.collect_installed(site)
        archive = build_runtime.build_runtime(
            site, "cpu", self.folder, suffix=".tar.gz", level=ARCHIVE_LEVEL
        )
        self.publisher().add([archive])
        shutil.rmtree(site)
        return archive


@contextmanager
def an_operator(folder: Path) -> Iterator[Operator]:
    with Server(folder / "repository") as server:
        operator = Operator(folder, server)
        operator.publisher().init()
        yield operator


class CleanRoot:
    """A Debian of its own with one user; programs in it share only the network and the kernel."""

    USER = "volunteer"

    def __init__(self, path: Path):
        self.path = path
        self._mounted: list[Path] = []

    def make(self, include: tuple[str, ...] = ()) -> None:
        more = [f"--include={','.join(include)}"] if include else []
        command = ["debootstrap", "--variant=minbase", *more, "bookworm", str(self.path)]
        subprocess.run(command, check=True)
        self.run("useradd", "--create-home", "--uid", "4242", self.USER)

    def __enter__(self):
        for kind in ("proc", "sysfs"):
            place = self.path / kind.removesuffix("fs")
            subprocess.run(["mount", "-t", kind, kind, place], check=True)
            self._mounted.append(place)
        return self

    def __exit__(self, *_):
        self.end_processes()
        for place in reversed(self._mounted):
            subprocess.run(["umount", place], check=True)

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root."""
        return self._run(["chroot", self.path, *command], check=check)

    def run_as_user(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run(self._as_user(command), check=check)

    def start_as_user(self, *command: object, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            words = list(map(str, self._as_user(command)))
            return subprocess.Popen(words, stdout=file, stderr=file)

    @property
    def user_home(self) -> Path:
        return self.path / "home" / self.USER

    def files(self) -> set[str]:
        """Every path outside of users' homes and of what the kernel shows."""
        shown = {self.path / name for name in ("proc", "sys", "home")}
        found = set()
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if Path(folder, name) not in shown]
            found |= {str(Path(folder, name).relative_to(self.path)) for name in folders + files}
        return found

    def end_processes(self) -> None:
        """Kill whatever still runs in there."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = (process / "root").readlink() == self.path
            except OSError:
                continue
            if inside:
                os.kill(int(process.name), signal.SIGKILL)

    def _as_user(self, command: tuple[object, ...]) -> list[object]:
        words = {"HOME": f"/home/{self.USER}", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        return [
            "chroot", f"--userspec={self.USER}:{self.USER}", self.path,
            "env", "--ignore-environment", f"--chdir=/home/{self.USER}",
            *(f"{name}={value}" for name, value in words.items()), *command,
        ]  # fmt: skip

    def _run(self, command: list[object], *, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done
