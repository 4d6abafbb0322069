"""One child process with its log file: it is ended when its owner ends, and can be explained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "ChildError",
    "ChildProcess",
    "end_process",
    "run_json",
    "run_text",
    "start_process",
    "tail",
]

_STOP_SECONDS: Final = 10.0
_TAIL_LINES: Final = 8
_POLL_SECONDS: Final = 0.05


class ChildError(PlebError):
    """A process that was started has failed; the message has the last lines of its log."""

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
        return tail(self.log)

    def require_alive(self) -> None:
        """Raise unless the process runs.

        Raises:
            ChildError: it ended.
        """
        code = self.exit_code
        if code is not None:
            raise ChildError(f"{self.name} ended with code {code}. Its last lines:\n{self.tail()}")

    def stop(self) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        if self.exit_code is None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def first_line(self, seconds: float) -> str:
        """Return the first line of its output once it is there.

        Raises:
            ChildError: it ended or said nothing in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            head, newline, _ = self.log.read_text(encoding="utf-8").partition("\n")
            if newline:
                return head
            self.require_alive()
            time.sleep(_POLL_SECONDS)
        raise ChildError(f"{self.name} said nothing in {seconds:g} s. Its log is {self.log}.")


def start_process(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> ChildProcess:
    """Start `command` with its output in `log`; Ctrl-C at the terminal does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    own_group: dict[str, Any] = (
        {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
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


def run_json(name: str, command: Sequence[str], seconds: float = 120.0) -> Any:
    """Run `command` to its end and return the JSON of its last line of output.

    Raises:
        ChildError: it failed, took too long, or printed no JSON.
    """
    text = run_text(name, command, seconds)
    try:
        return msgspec.json.decode(text.strip().rpartition("\n")[2])
    except msgspec.DecodeError as error:
        raise ChildError(f"{name} printed no JSON: {_last(text)!r}.") from error


def run_text(name: str, command: Sequence[str], seconds: float = 120.0) -> str:
    """Run `command` to its end and return its output.

    Raises:
        ChildError: it failed or took too long.
    """
    try:
        done = subprocess.run(list(command), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"{name} did not end within {seconds:g} s.") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or text.strip() or "no message"
        raise ChildError(f"{name} failed with code {done.returncode}: {_last(said)}")
    return text


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (nothing)"


def end_process(pid: int) -> None:
    """Ask a process that another run has started to end; nothing if it is gone."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""
