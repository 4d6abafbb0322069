"""From the user's input to a worker that has stopped: input, X server, probe, agentd, worker.

The clock starts right before a motion of the mouse is sent to the X server. It stops when the
worker has been asked to pause and has computed for the last time: it uses less than 2 ms until the
flag page says that it computes no more, or the kernel that it is stopped. That it uses nothing
afterwards is checked.
"""

from __future__ import annotations

import struct
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.manners_desktop import cpu_seconds, settled
from benchmarks.manners_job import publish_project
from pleb_agent.probe.x11_place import NO_COOKIE, parse_display
from pleb_agent.probe.x11_wire import X11Connection
from pleb_agent.worker.channel import FlagPage, Request, State
from pleb_project.processes import Fleet, agent_command, run_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.manners_desktop import Desktop
    from pleb_agent.app.remote import Remote
    from pleb_project.processes import ChildProcess

__all__ = ["measure_pauses"]

IDLE_MINUTES: Final = 0.1
"""The shortest that is longer than what the probe calls a new input."""
FAKE_INPUT: Final = 2
MOTION: Final = 6
RELATIVE: Final = 1
POLL_SECONDS: Final = 0.0005
PAUSING_SECONDS: Final = 0.002
"""What pausing may cost: a thread that waits for a processor takes a signal when it gets one."""
QUIET_CHECK_SECONDS: Final = 0.1
WORK_SECONDS: Final = 120.0
STILL_SECONDS: Final = 5.0


def measure_pauses(place: Desktop, layers: dict[int, int], *, quick: bool) -> dict[str, Any]:
    """Return the milliseconds of all pauses, by the step's length in milliseconds."""
    samples = 2 if quick else 60
    with tempfile.TemporaryDirectory(prefix="pleb-manners-", ignore_cleanup_errors=True) as name:
        fleet = Fleet(Path(name))
        try:
            url = fleet.start_coordinator()
            taken = {
                milliseconds: _pauses(place, fleet, url, milliseconds, count, samples)
                for milliseconds, count in layers.items()
            }
        finally:
            fleet.stop()
    everything = [pause for pauses in taken.values() for pause in pauses]
    return {
        "p99": float(np.percentile(everything, 99)),
        "samples_each": samples,
        "by_step": {
            f"{milliseconds}ms": {
                "median": float(np.median(pauses)),
                "p99": float(np.percentile(pauses, 99)),
                "max": max(pauses),
            }
            for milliseconds, pauses in taken.items()
        },
    }


def _pauses(
    place: Desktop, fleet: Fleet, url: str, milliseconds: int, layers: int, samples: int
) -> list[float]:
    """Attach an agent to a project of such steps; let the user touch the mouse over and over."""
    link = publish_project(fleet, url, milliseconds, layers)
    home = place.folder / f"steps-{milliseconds}"
    run_json(
        "pleb-agent attach",
        agent_command(
            *("attach", link, "--invite", fleet.invite("trusted")),
            *("--home", str(home), "--json"),
        ),
    )
    remote = place.start_agent(home)
    try:
        _prefer(remote, idle_minutes=IDLE_MINUTES, cpu_others_percent=None)
        watched = _Watched(place.agents[-1], home, remote)
        with closing(X11Connection(parse_display(place.display), NO_COOKIE)) as x, watched.page:
            moments = np.random.default_rng(milliseconds).uniform(0, 0.5, samples)
            mouse = _Mouse(x)
            return [_pause(watched, mouse, remote, delay) for delay in moments]
    finally:
        place.stop_agents()


def _prefer(remote: Remote, **values: object) -> None:
    remote.post("preferences", changes=values)


class _Mouse:
    """Moves the pointer by the X server's XTEST extension, as a user would."""

    def __init__(self, connection: X11Connection) -> None:
        self._connection = connection
        self._major = connection.extension("XTEST").major

    def move(self) -> None:
        """FakeInput: type, detail, time, root, 8 unused bytes, x, y, 8 unused bytes."""
        motion = struct.pack("<BBxxII8xhh8x", MOTION, RELATIVE, 0, 0, 3, 2)
        self._connection.send(self._major, FAKE_INPUT, motion)


class _Watched:
    """The worker of an agent, seen from outside."""

    def __init__(self, agentd: ChildProcess, home: Path, remote: Remote) -> None:
        self._agentd = agentd
        self._remote = remote
        self.pid = settled(agentd, "worker")["worker"].pid
        self.page = FlagPage(home / "work.flags")

    @property
    def computes(self) -> bool:
        if self.page.state is not State.COMPUTING:
            return False
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[0] not in "Tt"

    def until_computing(self) -> None:
        """Return when it does a unit's steps, and has done so for a while."""
        deadline = time.monotonic() + WORK_SECONDS
        for _ in self._looks(deadline):
            unit = self._remote.get("status")["unit"]
            used = cpu_seconds(self.pid)
            time.sleep(0.2)
            used = cpu_seconds(self.pid) - used
            if unit and unit["kind"] == "train" and unit["steps_done"] and used > 0.02:
                return
        raise RuntimeError(f"The worker does not compute: {self._remote.get('status')}")

    def paused_at(self) -> float:
        """Return when it was asked to pause and computed for the last time."""
        asked_at = 0.0
        used: list[tuple[float, float]] = []
        for _ in self._looks(time.monotonic() + STILL_SECONDS, POLL_SECONDS):
            used.append((time.monotonic(), cpu_seconds(self.pid)))
            if self.page.request is not Request.PAUSE:
                continue
            asked_at = asked_at or time.monotonic()
            if not self.computes:
                most = cpu_seconds(self.pid) - PAUSING_SECONDS
                last = next((now for now, seconds in used if seconds >= most), time.monotonic())
                return max(asked_at, last)
        raise RuntimeError(f"The worker does not pause: {self._remote.get('status')}")

    def check_still(self) -> None:
        used = cpu_seconds(self.pid)
        time.sleep(QUIET_CHECK_SECONDS)
        more = cpu_seconds(self.pid) - used
        if more > 0.005:
            raise RuntimeError(f"A worker that is paused has used {1000 * more:.0f} ms.")

    def _looks(self, deadline: float, seconds: float = 0.05) -> Iterator[None]:
        while time.monotonic() < deadline:
            self._agentd.require_alive()
            yield
            time.sleep(seconds)


def _pause(watched: _Watched, mouse: _Mouse, remote: Remote, delay: float) -> float:
    """Return the milliseconds of one pause; `delay` puts the input anywhere in a step."""
    watched.until_computing()
    time.sleep(delay)
    start = time.monotonic()
    mouse.move()
    taken = watched.paused_at() - start
    watched.check_still()
    _prefer(remote, watts_per_thread=8.0 + delay)  # a change of preferences ends the wait
    return 1000 * taken
