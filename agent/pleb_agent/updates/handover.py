"""The versions of an agent that updates itself, and the change from one to the next.

    app/
      pleb-agent -> current/pleb-agent      what people and the session start
      current -> versions/0.1.0
      versions/0.1.0/pleb-agent, _internal/
      bad-versions.json                     what did not start on this PC

The old version runs `python -m pleb_agent.updates.handover` when its agentd has ended. That starts
the new version and waits until its API answers, in that process. Only then `current` is moved, so
whatever happens meanwhile, the next start finds an agent that works. If the new version ends, or
does not answer in time, it is stopped and marked as bad, and the old one starts again with the same
arguments. On Windows the link is a junction, which needs no rights.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.program.command import fresh_environment, module_command
from pleb_system.durable import sync_directory, write_durably
from pleb_system.processes import stop_processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.program.installed import Installation

__all__ = ["PROGRAM", "START_SECONDS", "AppFolder", "Change", "change_over", "hand_over"]

PROGRAM: Final = "pleb-agent.exe" if sys.platform == "win32" else "pleb-agent"
START_SECONDS: Final = 60.0
"""How long a new version may take until its API answers; a cold start from a slow disk counts."""
_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
_POSIX: Final = sys.platform != "win32"


@dataclass(frozen=True)
class AppFolder:
    """Paths in it, and the few changes that are made to it."""

    path: Path

    @staticmethod
    def of(installation: Installation) -> AppFolder | None:
        """Return the folder that this installation runs from; None if it has no such layout."""
        folder = installation.folder
        if folder is None or not installation.kind.updates_itself:
            return None
        return AppFolder(folder.parent.parent) if folder.parent.name == "versions" else None

    @property
    def versions(self) -> Path:
        """Where the versions lie."""
        return self.path / "versions"

    @property
    def current(self) -> Path:
        """The link to the version that is started."""
        return self.path / "current"

    @property
    def _bad(self) -> Path:
        return self.path / "bad-versions.json"

    def version_folder(self, version: str) -> Path:
        """Return a version's folder."""
        return self.versions / version

    def program(self, version: str) -> Path:
        """Return a version's binary."""
        return self.version_folder(version) / PROGRAM

    def is_complete(self, version: str) -> bool:
        """Whether the version is unpacked: its folder got its name only then."""
        return self.program(version).is_file()

    def current_version(self) -> str:
        """Return the version that is started."""
        return Path(os.path.realpath(self.current)).name

    def make_current(self, version: str) -> None:
        """Let the link point to a version; on POSIX in one step that also a power cut respects."""
        beside = self.path / "current.new"
        beside.unlink(missing_ok=True)
        if sys.platform == "win32":
            import _winapi

            if self.current.exists():
                self.current.rmdir()
            _winapi.CreateJunction(str(self.version_folder(version)), str(self.current))
            return
        beside.symlink_to(Path("versions") / version, target_is_directory=True)
        beside.replace(self.current)
        sync_directory(self.path)

    def bad_versions(self) -> frozenset[str]:
        """Return the versions that did not start here."""
        try:
            return frozenset(msgspec.json.decode(self._bad.read_bytes(), type=list[str]))
        except (FileNotFoundError, msgspec.MsgspecError):
            return frozenset()

    def mark_bad(self, version: str) -> None:
        """Remember that a version did not start, and remove it."""
        names = sorted(self.bad_versions() | {version})
        write_durably(self._bad, msgspec.json.encode(names))
        shutil.rmtree(self.version_folder(version), ignore_errors=True)

    def remove_all_but(self, *versions: str) -> None:
        """Remove the other versions, and what is left of broken-off ones."""
        for folder in self.versions.iterdir():
            if folder.name not in versions:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Change:
    """From which version to which. `arguments`: of the old agentd, for instance `start`."""

    app: AppFolder
    old: str
    new: str
    home: Path
    arguments: tuple[str, ...]
    start_seconds: float = START_SECONDS


def hand_over(change: Change) -> None:
    """Let a process of the old version change over; agentd has ended, its lock is free.

    On POSIX this process becomes that process and the call does not return: a terminal or a
    service manager that waits for it keeps waiting. On Windows the caller should end now.
    """
    command = [
        *module_command("pleb_agent.updates.handover"),
        str(change.app.path),
        change.old,
        change.new,
        str(change.home),
        str(change.start_seconds),
        *change.arguments,
    ]
    if _POSIX:
        os.execve(command[0], command, fresh_environment())  # noqa: S606
    subprocess.Popen(command, env=fresh_environment(), **_detached())


def main(argv: Sequence[str]) -> int:
    """Change over, as the command line says; see `hand_over`."""
    app, old, new, home, seconds, *arguments = argv
    change = Change(AppFolder(Path(app)), old, new, Path(home), tuple(arguments), float(seconds))
    child = change_over(change)
    if child is None:  # become the old version once more
        command = [str(change.app.program(change.old)), *change.arguments]
        if _POSIX:
            os.execve(command[0], command, fresh_environment())  # noqa: S606
        subprocess.Popen(command, env=fresh_environment(), **_detached())
        return 0
    waited_for_by_systemd = os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
    if not waited_for_by_systemd and not (sys.stdin is not None and sys.stdin.isatty()):
        return 0
    # A terminal or service manager waits for this very process: stay, and pass signals on.
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both of us
    return child.wait()


def change_over(change: Change) -> subprocess.Popen[bytes] | None:
    """Return the process of the new version, now current; None: it did not start, and is bad."""
    program = str(change.app.program(change.new))
    try:
        child = subprocess.Popen(
            [program, *change.arguments], env=fresh_environment(), **_detached()
        )
    except OSError:
        change.app.mark_bad(change.new)
        return None
    deadline = time.monotonic() + change.start_seconds
    while time.monotonic() < deadline and child.poll() is None:
        if _api_answers(change.home / "agentd.json", child.pid):
            change.app.make_current(change.new)
            change.app.remove_all_but(change.old, change.new)
            return child
        time.sleep(_LOOK_SECONDS)
    stop_processes([child], _END_SECONDS)
    change.app.mark_bad(change.new)
    return None


def _api_answers(control_file: Path, pid: int) -> bool:
    """Whether the agentd in process `pid` answers its own API."""
    try:
        control: dict[str, Any] = json.loads(control_file.read_bytes())
        if control["pid"] != pid:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", control["port"], timeout=2.0)
        try:
            headers = {"authorization": f"Bearer {control['token']}"}
            connection.request("GET", "/api/status", headers=headers)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return False
    return response.status == http.client.OK


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
