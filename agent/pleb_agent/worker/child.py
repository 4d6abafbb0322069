"""One process that computes: its start, pipes, signals and end. `process` decides about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from pleb_agent.core.devices import CPU, PROCESSOR, FoundDevice
from pleb_agent.core.devices import variables as device_variables
from pleb_agent.program.command import module_command
from pleb_agent.worker.channel import encode_frame, receive_frame
from pleb_agent.worker.job import Bounds, Wake
from pleb_agent.worker.sandbox.limits import die_with_starter
from pleb_shared.protocol.numerics import variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.worker.job import Command, Hello, WorkerSettings
    from pleb_shared.protocol.project import Numerics

__all__ = [
    "Child",
    "child_environment",
    "give_way_as_a_group",
    "last_words",
    "log_file",
    "worker_command",
]

_END_SECONDS: Final = 2.0
_STOP_POLL_SECONDS: Final = 0.002
_STOP_POLLS: Final = 50
_LOG_BYTES: Final = 1_000_000
_WORDS_BYTES: Final = 4_000
_WORDS_CHARACTERS: Final = 300
_IDLE_WEIGHT: Final = 0
"""How `CPUWeight=idle` is written on the bus (systemd 252 and later)."""
_LEAST_WEIGHT: Final = 1
_RUNTIME_BYTES: Final = 2**30
"""Python and torch (0.3 GB), and pages of files."""
_INHERITED: Final = (
    "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "TZ", "VIRTUAL_ENV", "WINDIR",
)  # fmt: skip


class Child:
    """A started process; `is_alive` until it has ended or was killed."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._killed = False
        self.is_suspended = False

    @classmethod
    async def spawn(
        cls,
        work_dir: Path,
        settings: WorkerSettings,
        numerics: Numerics = "native",
        packages: Path | None = None,
        device: FoundDevice = PROCESSOR,
    ) -> Child:
        """Start a process in `work_dir`; its first message must be `Hello`.

        `packages`: where a frozen build's worker finds torch.
        """
        log = log_file(work_dir)
        is_long = log.exists() and log.stat().st_size > _LOG_BYTES
        with log.open("wb" if is_long else "ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *worker_command(packages),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=work_dir,
                env=child_environment(os.environ, work_dir, settings, numerics, device),
                **_group_options(),
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return self._process.returncode is None and not self._killed

    async def send(self, message: Hello | Command) -> None:
        """Send a message.

        Raises:
            ConnectionError: the process has closed its end.
        """
        pipe = self._process.stdin
        if pipe is None:
            raise ConnectionResetError("the worker has no pipe")
        pipe.write(encode_frame(message))
        await pipe.drain()

    def wake(self) -> None:
        """Make it read the flag page; that it is dead is noticed elsewhere."""
        if self.is_alive and self._process.stdin is not None:
            self._process.stdin.write(encode_frame(Wake()))

    async def receive(self, kind: Any) -> Any:
        """Return the next message of type `kind`.

        Raises:
            EOFError: the process has ended.
            FrameError: it sent something else.
        """
        if self._process.stdout is None:
            raise EOFError
        return await receive_frame(self._process.stdout, kind)

    async def suspend(self) -> None:
        """Stop all its threads where they are; return once they have, after 100 ms at most."""
        with contextlib.suppress(psutil.NoSuchProcess):
            system = psutil.Process(self.pid)
            system.suspend()
            self.is_suspended = True
            for _ in range(_STOP_POLLS):
                if not self.is_suspended or system.status() == psutil.STATUS_STOPPED:
                    return
                await asyncio.sleep(_STOP_POLL_SECONDS)

    def thaw(self) -> None:
        """Undo a suspension."""
        if self.is_suspended:
            self.is_suspended = False
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self.pid).resume()

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it at once, and return when it has ended."""
        self.kill()
        await self._process.wait()

    async def see_end(self) -> None:
        """Let a process whose pipe broke end by itself, so that its exit code says why."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        await self.end()

    @property
    def exit_code(self) -> int | None:
        """None until it has ended; the number of the signal, negative, that ended it."""
        return self._process.returncode

    def how_it_died(self) -> str:
        """Return a sentence with its exit code and its last words."""
        code = self._process.returncode
        words = last_words(self._log)
        return f"The worker ended in the middle of a unit (exit code {code}): {words}"


def worker_command(packages: Path | None = None) -> list[str]:
    """Return the worker's command line. `packages`: the torch runtime of a frozen build.

    -P: the work directory is no place to import from. -B: nothing is written beside the code.
    """
    options = ("-P", "-B", "-X", "faulthandler")
    return module_command("pleb_agent.worker.main", *options, packages=packages)


def child_environment(
    environment: Mapping[str, str],
    work_dir: Path,
    settings: WorkerSettings,
    numerics: Numerics = "native",
    device: FoundDevice = PROCESSOR,
) -> dict[str, str]:
    """Return the worker's whole environment: what it must inherit, its threads, numerics, device.

    Secrets in the agent's environment stay there. Thread counts must be here because the
    libraries read them when they are loaded; OpenBLAS, which only numpy uses, gets one, or it
    would start threads before the sandbox is closed.
    """
    threads = str(settings.threads)
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    if "PYTHONPATH" in inherited:  # the child has another working directory
        entries = inherited["PYTHONPATH"].split(os.pathsep)
        inherited["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in entries)
    own = {
        "HOME": str(work_dir),
        "TMPDIR": str(work_dir),
        "OMP_NUM_THREADS": threads,
        "OMP_DYNAMIC": "false",
        "MKL_NUM_THREADS": threads,
        "MKL_DYNAMIC": "false",
        "OPENBLAS_NUM_THREADS": "1",
    }
    of_device = device_variables(device.name, device.uuid)
    return inherited | own | dict(variables(numerics)) | of_device


def _group_options() -> dict[str, Any]:
    """Return the options that make the child independent of the agent's terminal.

    On Linux and macOS it leads a session of its own, which also is its scheduling autogroup. On
    Linux it dies with the thread that starts it.
    """
    if sys.platform == "win32":
        return {
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.IDLE_PRIORITY_CLASS
            | subprocess.CREATE_NO_WINDOW
        }
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "linux":
        options["preexec_fn"] = die_with_starter
    return options


def log_file(work_dir: Path) -> Path:
    """Return the path of the worker's log (its standard error), beside the work directory.

    There the worker cannot replace it by a link, through which the agent would open another file
    for it to write to.
    """
    return work_dir.with_name(work_dir.name + ".log")


def last_words(path: Path) -> str:
    """Return the last line of the log, which usually names the error."""
    if not path.exists():
        return "it wrote nothing."
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _WORDS_BYTES))
        tail = file.read(_WORDS_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:_WORDS_CHARACTERS] if lines else "it wrote nothing."


def give_way_as_a_group(
    pid: int, settings: WorkerSettings, address: str = "", device: str = CPU
) -> str:
    """Move the process into a scope of its own; return what happened, for the log.

    Where systemd gives each program of a session a control group with a share of the processors,
    as desktops do, SCHED_IDLE counts only inside of the worker's group: next to a program in
    another group of the same weight it takes half. So the user's own systemd is asked for a scope
    in `background.slice` with the weight "idle", or the least one where it does not know that. The
    scope also limits threads exactly, and memory with all that is shared or in files in memory.
    Blocks for some seconds at most. Where there is no systemd for the user, the process stays in
    its group, in which its own priority counts.
    Sources: org.freedesktop.systemd1(5), systemd.resource-control(5): CPUWeight=.
    """
    if sys.platform != "linux":
        return "this system has no control groups"
    from jeepney import DBusAddress

    from pleb_agent.dbus.bus import CallRefused, open_bus, session_address
    from pleb_agent.dbus.stream import ServiceError

    manager = DBusAddress(
        "/org/freedesktop/systemd1",
        bus_name="org.freedesktop.systemd1",
        interface="org.freedesktop.systemd1.Manager",
    )
    bounds = Bounds.of(settings, 0, device)
    scope, refusal = f"pleb-worker-{pid}.scope", ""
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", "Pleb-Cluster's worker, which gives way to everything")),
        ("Slice", ("s", "background.slice")),
        ("PIDs", ("au", [pid])),
        ("IOWeight", ("t", _LEAST_WEIGHT)),
        ("TasksMax", ("t", bounds.most_threads)),
        ("MemoryMax", ("t", bounds.memory_bytes + _RUNTIME_BYTES)),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    try:
        with open_bus(address or session_address(os.environ), start_services=True) as bus:
            for weight in (_IDLE_WEIGHT, _LEAST_WEIGHT):
                body: tuple[Any, ...] = (
                    scope,
                    "fail",
                    [*properties, ("CPUWeight", ("t", weight))],
                    [],
                )
                try:
                    bus.call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
                except CallRefused as error:
                    refusal = str(error)
                else:
                    return f"in {scope} with the weight {weight or 'idle'}"
    except ServiceError as error:
        return f"no systemd for the user ({error})"
    return f"systemd refuses a scope ({refusal})"
