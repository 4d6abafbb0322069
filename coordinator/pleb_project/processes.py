"""Other programs of Pleb-Cluster as child processes, and a temporary fleet of them on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode
from pleb_system.processes import stop_processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "ChildError",
    "ChildProcess",
    "Fleet",
    "agent_command",
    "coordinator_command",
    "project_command",
    "run_json",
    "start_process",
    "terminated_as_interrupt",
]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_RUN_SECONDS: Final = 120.0
_TAIL_LINES: Final = 8
_POLL_SECONDS: Final = 0.05
_TRIAL_CONTACT: Final = "a trial on this PC"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
"""Agents of a fleet on one PC may confirm each other, although they share its address."""
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class ChildError(PlebError):
    """A process that was started has failed; the message has its error or its last lines."""

    exit_code = ExitCode.CHILD_FAILED


@dataclass(frozen=True)
class ChildProcess:
    """A running program. Its output is in `log`; `name` is for people."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (nothing)"

    def require_alive(self) -> None:
        """Return if the process runs.

        Raises:
            ChildError: it ended.
        """
        code = self.exit_code
        if code is not None:
            raise ChildError(f"{self.name} ended with code {code}. Its last lines:\n{self.tail()}")

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        stop_processes([self.process], _STOP_SECONDS)

    def first_line(self, seconds: float) -> str:
        """Return the first line of its output, when it is complete.

        Raises:
            ChildError: it ended, or printed nothing in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            head, newline, _ = self.log.read_text(encoding="utf-8").partition("\n")
            if newline:
                return head
            self.require_alive()
            time.sleep(_POLL_SECONDS)
        raise ChildError(f"{self.name} printed nothing in {seconds:g} s. Its log is {self.log}.")


@dataclass
class Fleet:
    """The processes of a demo or a trial, under `folder`; `stop` ends them all."""

    folder: Path
    processes: list[ChildProcess] = field(default_factory=list)

    @property
    def coordinator_home(self) -> Path:
        """The coordinator's home."""
        return self.folder / "coordinator"

    def start_coordinator(self) -> str:
        """Start a coordinator on a free port and return its URL.

        Raises:
            ChildError: it does not start.
        """
        home = str(self.coordinator_home)
        own = [part for network in _LOOPBACK for part in ("--own-network", network)]
        run_json(
            "pleb-coordinator init", coordinator_command("init", "--home", home, *own, "--json")
        )
        command = coordinator_command("serve", "--home", home, "--port", "0", "--json")
        line = self._start("coordinator", command).first_line(_START_SECONDS)
        try:
            return str(msgspec.json.decode(line, type=dict[str, Any])["url"])
        except (msgspec.DecodeError, KeyError) as error:
            raise ChildError(f"The coordinator's first line has no address: {line!r}.") from error

    def invite(self, role: str) -> str:
        """Return a new invite's token."""
        return str(self.ask("invite", "new", "--role", role)["token"])

    def ask(self, *arguments: str) -> Any:
        """Return the JSON that an admin command of the coordinator prints."""
        command = coordinator_command(*arguments, "--home", str(self.coordinator_home), "--json")
        return run_json(f"pleb-coordinator {' '.join(arguments)}", command)

    def read(self, *arguments: str) -> str:
        """Return the text that an admin command of the coordinator prints for people."""
        command = coordinator_command(*arguments, "--home", str(self.coordinator_home))
        return _run_text(f"pleb-coordinator {' '.join(arguments)}", command, _RUN_SECONDS)

    def keep_checks(self, build: Path) -> None:
        """Let `publish` find what was measured for the project in `build`."""
        for file in build.glob("*.check.json"):
            folder = self.folder / "researcher" / "build" / build.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / file.name)

    def publish(
        self, project: Path, url: str, seconds: float, overrides: Sequence[str] = ()
    ) -> str:
        """Publish a project's folder to the coordinator at `url` and return its attach link.

        Only this PC sees it, so it needs no contact of the project file's.

        Raises:
            ChildError: it is refused, or takes longer than `seconds`.
        """
        command = project_command(
            *("publish", str(project), "--to", url, "--invite", self.invite("publisher")),
            "--no-passphrase",
            *("--set", f"project.contact={_TRIAL_CONTACT}"),
            *(part for override in overrides for part in ("--set", override)),
            *("--home", str(self.folder / "researcher"), "--json"),
        )
        return str(run_json("pleb-project publish", command, seconds)["attach_link"])

    def start_agent(self, name: str, link: str, invite: str | None = None) -> ChildProcess:
        """Attach a new agent to a project and start it, at ordinary priority.

        A person waits for a demo or a trial; at low priority it would stall on a busy PC.

        Raises:
            ChildError: it cannot attach.
        """
        home = str(self.folder / name)
        extra = ["--invite", invite] if invite else []
        run_json(
            f"pleb-agent attach ({name})",
            agent_command("attach", link, "--name", name, *extra, "--home", home, "--json"),
        )
        run_json(
            f"pleb-agent prefs set ({name})",
            agent_command("prefs", "set", "nice=off", "--home", home, "--json"),
        )
        return self._start(
            name, agent_command("start", "--headless", "--preset", "full", "--home", home)
        )

    def start_script(self, name: str, arguments: list[str]) -> ChildProcess:
        """Start a Python script as a process of the fleet."""
        return self._start(name, [sys.executable, *arguments])

    def require_alive(self) -> None:
        """Return if all processes run.

        Raises:
            ChildError: one ended; the message has its last lines.
        """
        for child in self.processes:
            child.require_alive()

    def stop(self) -> None:
        """Stop all processes, the last one started first."""
        for child in reversed(self.processes):
            child.stop()
        self.processes.clear()

    def _start(self, name: str, command: list[str]) -> ChildProcess:
        child = start_process(name, command, self.folder / "logs" / f"{name}.log", _ENVIRONMENT)
        self.processes.append(child)
        return child


def coordinator_command(*arguments: str) -> list[str]:
    """Return the command line of the coordinator in this Python."""
    return [sys.executable, "-m", "pleb_coordinator.cli", *arguments]


def agent_command(*arguments: str) -> list[str]:
    """Return the command line of the agent in this Python."""
    return [sys.executable, "-m", "pleb_agent.cli", *arguments]


def project_command(*arguments: str) -> list[str]:
    """Return the command line of this program in this Python."""
    return [sys.executable, "-m", "pleb_project.cli", *arguments]


def start_process(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> ChildProcess:
    """Start `command` with its output in `log`; Ctrl-C at the terminal does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            **own_group,
        )
    return ChildProcess(name, process, log)


def run_json(name: str, command: Sequence[str], seconds: float = _RUN_SECONDS) -> Any:
    """Run `command`, which has `--json`, to its end and return the last line of its output.

    Raises:
        ChildError: it failed, took too long, or printed no JSON.
    """
    line = _last_line(_run_text(name, command, seconds))
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ChildError(f"{name} printed no JSON: {line!r}.") from error


def _run_text(name: str, command: Sequence[str], seconds: float) -> str:
    """Return the output of `command`; raises as `run_json`."""
    try:
        done = subprocess.run(list(command), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"{name} did not end within {seconds:g} s.") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        try:  # with --json an error is an object
            message = str(msgspec.json.decode(_last_line(text), type=dict[str, Any])["message"])
        except (msgspec.DecodeError, KeyError):
            said = done.stderr.decode(errors="replace").strip() or text or "no message"
            message = _last_line(said)
        raise ChildError(f"{name} failed with code {done.returncode}: {message}")
    return text


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does, so that no process of a fleet stays behind."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
