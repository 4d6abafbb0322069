"""A desktop for the agent to live in, and what its processes take there when nothing happens."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from pleb_agent.app.home import Home
from pleb_agent.app.remote import NotRunningError, Remote
from pleb_project.processes import ChildProcess, agent_command, start_process
from tests.system.desktop import panel, runtime_folder, session_bus, x_server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Desktop",
    "cpu_seconds",
    "crowded_out_seconds",
    "desktop",
    "measure_idle",
    "require_programs",
    "settled",
]

NEEDED: Final = {"Xvfb": "xvfb", "dbus-daemon": "dbus", "xfce4-panel": "xfce4-panel"}
START_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 5.0
"""After its start agentd reads everything once, and Python frees what it needed for that."""
PARTS: Final = {
    "probe": "pleb_agent.probe.main",
    "tray": "pleb_agent.tray.main",
    "worker": "pleb_agent.worker.main",
}


def require_programs() -> None:
    """Raises SystemExit: a program without which this would measure something easier is missing."""
    missing = {program: package for program, package in NEEDED.items() if not shutil.which(program)}
    if missing:
        raise SystemExit(
            f"manners needs {', '.join(missing)}: apt-get install {' '.join(missing.values())}"
        )


@dataclass
class Desktop:
    """An X server with a session bus and a panel, and the agents that were started in it."""

    display: str
    environment: dict[str, str]
    folder: Path
    agents: list[ChildProcess] = field(default_factory=list)

    def start_agent(self, home: Path) -> Remote:
        """Start agentd in desktop mode and return the way to talk to it."""
        command = agent_command("start", "--home", str(home), "--json")
        log = self.folder / "logs" / f"{home.name}.log"
        child = start_process(f"agentd ({home.name})", command, log, self.environment)
        self.agents.append(child)
        child.first_line(START_SECONDS)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(NotRunningError):
                remote = Remote(Home(home))
                remote.get("status")
                return remote
            child.require_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"agentd does not answer: {child.tail()}")
            time.sleep(0.1)

    def stop_agents(self) -> None:
        for child in reversed(self.agents):
            child.stop()
        self.agents.clear()


@contextmanager
def desktop() -> Iterator[Desktop]:
    """Start a desktop on free places; end it and all agents in it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pleb-manners-")))
        bus, server = stack.enter_context(session_bus()), stack.enter_context(x_server())
        stack.enter_context(panel("xfce4-panel", server, bus))
        runtime = stack.enter_context(runtime_folder())
        environment = server.environment | bus.environment
        environment |= {"XDG_RUNTIME_DIR": str(runtime), "WAYLAND_DISPLAY": ""}
        made = Desktop(server.display, environment, folder)
        stack.callback(made.stop_agents)
        yield made


def settled(agentd: ChildProcess, *names: str) -> dict[str, psutil.Process]:
    """Return these parts of the agent (`probe`, `tray`, `worker`) once they all run.

    Raises:
        RuntimeError: one does not come.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        agentd.require_alive()
        found = _parts(agentd.pid)
        missing = set(names) - found.keys()
        if not missing:
            return {name: found[name] for name in names}
        if time.monotonic() > deadline:
            raise RuntimeError(f"agentd has started no {', '.join(sorted(missing))}.")
        time.sleep(0.1)


def _parts(pid: int) -> dict[str, psutil.Process]:
    found: dict[str, psutil.Process] = {}
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            found |= {name: process for name, module in PARTS.items() if module in command}
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time of all threads, to the nanosecond."""
    return _scheduler_seconds(pid, 0)


def crowded_out_seconds(pid: int) -> float:
    """Return how long its threads have been ready and had no processor."""
    return _scheduler_seconds(pid, 1)


def _scheduler_seconds(pid: int, field: int) -> float:
    """Return the sum over threads of a field of the kernel's sched-stats.rst."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int((thread / "schedstat").read_text(encoding="ascii").split()[field])
    return nanoseconds / 1e9


def measure_idle(place: Desktop, *, quick: bool) -> dict[str, Any]:
    """Return memory and processor time of agentd, probe and tray when nothing is attached."""
    seconds = 10.0 if quick else 180.0
    place.start_agent(place.folder / "idle")
    agentd = place.agents[-1]
    parts = {"agentd": psutil.Process(agentd.pid)} | settled(agentd, "probe", "tray")
    time.sleep(SETTLE_SECONDS)
    before = {name: cpu_seconds(process.pid) for name, process in parts.items()}
    time.sleep(seconds)
    measured = {
        name: {
            "rss_mb": process.memory_info().rss / 1e6,
            "pss_mb": process.memory_full_info().pss / 1e6,
            "cpu_ms_per_min": 60_000 * (cpu_seconds(process.pid) - before[name]) / seconds,
        }
        for name, process in parts.items()
    }
    place.stop_agents()
    return {"seconds": seconds} | measured
