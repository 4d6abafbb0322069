"""A throw-away coordinator and agents on loopback, in one folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_project.processes.process import (
    ChildError,
    ChildProcess,
    run_json,
    run_text,
    start_process,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Fleet", "agent_command", "coordinator_command", "project_command"]

_START_SECONDS: Final = 60.0
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


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
            ChildError: it does not come up.
        """
        command = coordinator_command(
            "serve", "--home", str(self.coordinator_home), "--port", "0", "--json"
        )
        child = self._start("coordinator", command)
        line = child.first_line(_START_SECONDS)
        try:
            return str(msgspec.json.decode(line, type=dict[str, Any])["url"])
        except (msgspec.DecodeError, KeyError) as error:
            raise ChildError(f"The coordinator's first line has no address: {line!r}.") from error

    def invite(self, role: str) -> str:
        """Return a new invite's token."""
        answer = self.ask("invite", "new", "--role", role)
        return str(answer["token"])

    def ask(self, *arguments: str) -> Any:
        """Return the JSON that an admin command of the coordinator prints."""
        command = coordinator_command(*arguments, "--home", str(self.coordinator_home), "--json")
        return run_json(f"pleb-coordinator {' '.join(arguments)}", command)

    def tell(self, *arguments: str) -> str:
        """Return what an admin command of the coordinator tells people."""
        command = coordinator_command(*arguments, "--home", str(self.coordinator_home))
        return run_text(f"pleb-coordinator {' '.join(arguments)}", command)

    def start_agent(self, name: str, link: str, invite: str | None = None) -> ChildProcess:
        """Attach a new agent to a project and start it.

        Raises:
            ChildError: it cannot attach.
        """
        home = str(self.folder / name)
        extra = ["--invite", invite] if invite else []
        run_json(
            f"pleb-agent attach ({name})",
            agent_command("attach", link, "--name", name, *extra, "--home", home, "--json"),
        )
        return self._start(
            name, agent_command("start", "--headless", "--preset", "full", "--home", home)
        )

    def start_script(self, name: str, arguments: list[str]) -> ChildProcess:
        """Start a Python script as a process of the fleet."""
        return self._start(name, [sys.executable, *arguments])

    def require_alive(self) -> None:
        """Raise unless all processes run.

        Raises:
            ChildError: one ended; the message has its last lines.
        """
        for child in self.processes:
            child.require_alive()

    def stop(self) -> None:
        """End all processes, the last one started first."""
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
