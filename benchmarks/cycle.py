"""The whole life of a small unit: request, train, report, upload, verify, apply.

Real processes on loopback: `pleb-coordinator serve` (its HTTP and background processes) and one
trusted agent with its worker, on a small model that a project file defines. What is counted
starts after the first version, when everything is warm. `coordinator_cpu_ms_per_unit` is the
processor time of all processes of the coordinator over the units that were verified meanwhile;
evaluation of every version on the holdout is part of what the fleet has to do.
With `--recorded` hosts replay recorded deltas, to load the coordinator (`cycle_recorded`).
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from pleb_project.processes import Fleet, project_command, run_json
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.status import decode_status
from pleb_shared.protocol.ids import AttachLink, parse_attach_link

if TYPE_CHECKING:
    from pleb_shared.protocol.status import ProjectStatus

POLL_SECONDS: Final = 0.5
WARM_UP_SECONDS: Final = 120.0
UNITS_PER_ROUND: Final = 32

PROJECT: Final = f"""
[project]
contact = "the benchmark"
name = "cycle"
[data]
source = "sklearn:digits"
[training]
optimizer = "adamw"
local_steps = 10
versions = 1000000
[codec]
up = "int4"
down = "int4"
[round]
units = {UNITS_PER_ROUND}
quorum = {UNITS_PER_ROUND}
grace_seconds = 0
"""

MODEL: Final = """
from torch import nn
from torch.nn import functional

def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))

def loss(model, batch):
    return functional.cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    logits = model(batch["x"])
    accuracy = (logits.argmax(-1) == batch["y"]).float().mean()
    return {"loss": functional.cross_entropy(logits, batch["y"]), "accuracy": accuracy}
"""


@dataclass(frozen=True)
class Moment:
    """What has happened until `seconds`, a monotonic time."""

    seconds: float
    version: int
    verified: int
    coordinator_cpu_seconds: dict[str, float]
    agent_cpu_seconds: float


def main(quick: bool, recorded: bool = False, store: str = "sqlite") -> dict[str, Any]:
    if recorded:
        from benchmarks import cycle_recorded

        return cycle_recorded.main(quick, store)
    with tempfile.TemporaryDirectory(prefix="pleb-cycle-", ignore_cleanup_errors=True) as name:
        fleet = Fleet(Path(name))
        try:
            link = set_up(fleet)
            return measure(fleet, link, seconds=25.0 if quick else 120.0)
        finally:
            fleet.stop()


def set_up(fleet: Fleet) -> AttachLink:
    """Start the coordinator, publish the project and start the agent."""
    folder = fleet.folder / "project"
    folder.mkdir()
    (folder / "project.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    url = fleet.start_coordinator()
    command = project_command(
        *("publish", str(folder), "--to", url, "--invite", fleet.invite("publisher")),
        "--no-passphrase",
        *("--home", str(fleet.folder / "researcher"), "--json"),
    )
    link = str(run_json("pleb-project publish", command)["attach_link"])
    fleet.start_agent("agent", link, fleet.invite("trusted"))
    return parse_attach_link(link)


def measure(fleet: Fleet, link: AttachLink, seconds: float) -> dict[str, Any]:
    with Coordinator(Address(link.base_url, link.certificate)) as coordinator:
        wait_for_version(fleet, coordinator, link.project, 1)
        start = moment(fleet, status_of(coordinator, link.project))
        time.sleep(seconds)
        fleet.require_alive()
        end = moment(fleet, status_of(coordinator, link.project))
    units = end.verified - start.verified
    if units <= 0:
        message = f"No unit was verified in {seconds:.0f} s."
        raise RuntimeError(message)
    wall = end.seconds - start.seconds
    by_process = {
        name: 1000 * (cpu - start.coordinator_cpu_seconds.get(name, 0.0)) / units
        for name, cpu in end.coordinator_cpu_seconds.items()
    }
    return {
        "units_per_s": units / wall,
        "coordinator_cpu_ms_per_unit": sum(by_process.values()),
        "wall_ms_per_unit": 1000 * wall / units,
        "recorded": False,
        "units": units,
        "versions": end.version - start.version,
        "units_per_round": UNITS_PER_ROUND,
        "agents": 1,
        "agent_cpu_ms_per_unit": 1000 * (end.agent_cpu_seconds - start.agent_cpu_seconds) / units,
        "by_process": by_process,
    }


def wait_for_version(fleet: Fleet, coordinator: Coordinator, project: str, number: int) -> None:
    deadline = time.monotonic() + WARM_UP_SECONDS
    while status_of(coordinator, project).version < number:
        fleet.require_alive()
        if time.monotonic() > deadline:
            message = f"No version {number} after {WARM_UP_SECONDS:.0f} s."
            raise RuntimeError(message)
        time.sleep(POLL_SECONDS)


def status_of(coordinator: Coordinator, project: str) -> ProjectStatus:
    return decode_status(coordinator.status(project))


def moment(fleet: Fleet, status: ProjectStatus) -> Moment:
    """Read the clocks of the processes; `status` was asked for right before."""
    coordinator, agent = fleet.processes
    return Moment(
        seconds=time.monotonic(),
        version=status.version,
        verified=status.counts.verified,
        coordinator_cpu_seconds=cpu_seconds(coordinator.pid),
        agent_cpu_seconds=sum(cpu_seconds(agent.pid).values()),
    )


def cpu_seconds(pid: int) -> dict[str, float]:
    """Return the processor time of a process and of each of its descendants, by what they run."""
    root = psutil.Process(pid)
    times: dict[str, float] = {}
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            name = next((part for part in process.cmdline() if part.startswith("pleb_")), "other")
            times[name] = times.get(name, 0.0) + used.user + used.system
    return times
