"""`python -m tests.soak.traffic [--agents 500] [--minutes 30]`: the traffic of a fleet.

`pleb-coordinator serve` runs as operators run it, with retention so short that most of what comes
is gone before the end. Every version must recompute, every accepted result be accounted
for and in one version at most, no unit be left over, and no log have an error. After half of the
time memory may not grow any more, nor the disk once what came first has gone; a run that is too
short for that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import numpy as np
import psutil

from benchmarks.dispatch_load import loop_factory
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.config import Retention, config_text
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import RETENTION_SECONDS
from pleb_coordinator.simulation.project import SmallProject, publish_small
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.project import Round, TensorSpec, elements
from tests.e2e.world import World
from tests.soak.traffic_agents import Fleet, follow, now, visit
from tests.soak.traffic_watch import MB, Ledger, Samples, errors_in, lost_leases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps

PARAMETERS: Final = (TensorSpec(name="w", dtype="float32", shape=[128, 128]),)
UNIT_SECONDS: Final = 12.0
KEPT_VERSIONS: Final = 10
HISTORY_UNITS: Final = 15
"""How long events and results that did not count are kept, in times of a unit."""
LEASE_UNITS: Final = 6
TRUSTED: Final = 1 / 100
"""Part of the agents that are trusted."""
SAMPLES: Final = 180
ALLOCATOR: Final = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""glibc's first values, kept: it raises both when a large array is freed, and then keeps what a
version took to be made, 8 of 60 MB, or not, as it happens. Memory in use is what must not grow."""
WARM_UP: Final = 1 / 2
"""Of the time: by then caches are nearly full that only fill, as that of assignments' numbers."""
GROWTH: Final = 0.05
"""Between two medians: neither memory nor disk may grow by more."""
ROW_BYTES: Final = 4096
"""Of a unit with its results and events, and what indices and half-empty pages add."""
DAY_BYTES: Final = 1024
"""Of what a host, an upload or a version leaves for a day or for ever: its row."""


@dataclass(frozen=True)
class Plan:
    """How many agents work for how long."""

    agents: int
    seconds: float
    unit_seconds: float = UNIT_SECONDS
    """How long a unit takes a PC of median speed."""

    @property
    def trusted(self) -> int:
        return max(1, int(TRUSTED * self.agents))

    @property
    def round(self) -> Round:
        """A round is for half of the agents, so that the others wait for the next one."""
        units = max(2, self.agents // 2)
        return Round(
            units=units,
            quorum=max(1, 4 * units // 5),
            grace_seconds=self.unit_seconds / 6,
            shortest_unit=1.0,
        )

    @property
    def retention(self) -> Retention:
        days = HISTORY_UNITS * self.unit_seconds / 86_400
        return Retention(history_days=days, versions=KEPT_VERSIONS, milestones=4)


@dataclass(frozen=True)
class Outcome:
    """What was seen of a run."""

    plan: Plan
    samples: Samples
    ledger: Ledger
    seconds: float
    cpu_seconds: dict[str, float]
    """Of each process, and of this one, which plays the agents."""


def run(plan: Plan, folder: Path, file: Path | None = None) -> Outcome:
    """Let a coordinator in that folder serve so many agents.

    `file`: where every look at memory and disk is written to, a line of JSON each.

    Raises:
        AssertionError: a result, a version or a unit is not as it should be, or a log has an
            error.
    """
    began = time.monotonic()
    world = World(folder)
    home = Home(world.home)
    deps, project, invites = _prepare(home, plan)
    with ExitStack() as stack:
        stack.callback(lambda: world.coordinator and world.coordinator.stop())
        with patch.dict(os.environ, ALLOCATOR):
            world.serve()
        processes = {
            name.removesuffix("_pid"): psutil.Process(pid) for name, pid in world.pids().items()
        }
        samples = Samples(home, processes, file)
        store = Store(home.store_file)
        stack.callback(store.close)
        fleet = Fleet(
            world.url,
            project.name,
            fingerprint_of(project.metadata.root_key),
            plan.unit_seconds,
            np.random.default_rng(20261130),
        )
        ledger = Ledger(store, deps, project.name, fleet)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_let_work(plan, invites, samples, ledger))
        ledger.finish()
        cpu = {name: _cpu_seconds(process) for name, process in processes.items()}
        assert not lost_leases(home.store_file, now() - plan.unit_seconds), "a lease never ended"
    errors = errors_in(home.logs)
    assert not errors, f"{len(errors)} errors in the logs, such as {errors[0]}"
    assert world.coordinator is not None
    assert "Traceback" not in world.coordinator.tail(100_000), world.coordinator.tail()
    cpu["agents"] = _cpu_seconds(psutil.Process())
    return Outcome(plan, samples, ledger, time.monotonic() - began, cpu)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return round(times.user + times.system, 1)


def _prepare(home: Home, plan: Plan) -> tuple[Deps, Project, list[str]]:
    """Make a home with one project; return invites of trusted PCs and of such as are known."""
    config = make_home(home, own_networks=["127.0.0.0/8"])  # else all agents are one voice
    networks = replace(
        config.networks,
        own_new_hosts_per_hour=1_000_000,
        own_new_hosts_per_day=1_000_000,
        own_unproven_hosts=1_000_000,
    )
    config = replace(config, networks=networks, retention=plan.retention)
    home.config_file.write_text(config_text(config), encoding="utf-8")
    deps = deps_of(home, now, config)
    store = Store(home.store_file)
    small = SmallProject(
        "traffic",
        plan.round,
        lease_seconds=LEASE_UNITS * plan.unit_seconds,
        parameters=PARAMETERS,
    )
    try:
        project = publish_small(store, deps, small)
        with store.write() as tx:
            invites = [
                new_invite(tx, deps, Role.TRUSTED, lifetime_seconds=3600, uses=plan.trusted),
                new_invite(tx, deps, Role.HOST, lifetime_seconds=3600, uses=10**6, proven=True),
            ]
    finally:
        store.close()
    return deps, project, invites


async def _let_work(plan: Plan, invites: list[str], samples: Samples, ledger: Ledger) -> None:
    """Let all agents work, and look at the coordinator meanwhile."""
    async with asyncio.TaskGroup() as group:
        for number in range(plan.agents):
            leaves = number >= plan.trusted
            group.create_task(ledger.fleet.place(number, invites[leaves], leaves=leaves))
        group.create_task(visit(ledger.fleet))
        group.create_task(follow(ledger.fleet))
        group.create_task(_watch(plan, samples, ledger))


async def _watch(plan: Plan, samples: Samples, ledger: Ledger) -> None:
    """Look at memory, disk and versions until the time is over; then the agents end."""
    began = time.monotonic()
    for number in range(1, SAMPLES + 1):
        await asyncio.sleep(max(0.0, began + number * plan.seconds / SAMPLES - time.monotonic()))
        await asyncio.to_thread(samples.take, time.monotonic() - began)
        await asyncio.to_thread(ledger.look, dict(ledger.fleet.accepted))
    ledger.fleet.is_ending = True


@dataclass(frozen=True)
class Windows:
    """Two times of a run whose medians are compared."""

    first: tuple[float, float]
    last: tuple[float, float]

    @classmethod
    def after(cls, warm_up: float, seconds: float) -> Windows:
        length = min(seconds / 6, (seconds - warm_up) / 3)
        return cls((warm_up, warm_up + length), (seconds - length, seconds + 60))


def kept_seconds(plan: Plan, ledger: Ledger) -> float:
    """Return after how long the rows of a version are gone: the retention's arithmetic.

    They leave when so many newer versions are exact, but not before the history is over; `retain`
    looks for them now and then.
    """
    version_seconds = plan.seconds / max(1, ledger.version)
    kept = max(KEPT_VERSIONS * version_seconds, plan.retention.history_days * 86_400)
    return kept + 2 * version_seconds + 2 * RETENTION_SECONDS


def lifetime_seconds(plan: Plan, ledger: Ledger) -> float:
    """Return after how long its files are gone, too: they wait until no process can read them."""
    return kept_seconds(plan, ledger) + CLAIM_SECONDS


def bound_bytes(plan: Plan, ledger: Ledger) -> float:
    """Return what the home may take at most: what comes in its lifetime, and what stays."""
    fleet = ledger.fleet
    model = 4 * sum(elements(spec) for spec in PARAMETERS)
    counts = fleet.counts
    units = counts["results"] + counts["unneeded"] + counts["left"]
    came = counts["results"] * fleet.packed_bytes + units * ROW_BYTES + 3 * ledger.version * model
    part = min(1.0, lifetime_seconds(plan, ledger) / plan.seconds)
    milestones = 2 * (plan.retention.milestones + 2) * model
    return part * came + milestones + staying_bytes(ledger) + 8 * MB  # data, graphs, the log


def staying_bytes(ledger: Ledger) -> float:
    """Return what the rows take that stay for a day or for ever."""
    counts = ledger.fleet.counts
    return DAY_BYTES * (counts["uploads"] + 2 * counts["joined"] + ledger.version)


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return what is printed of a run."""
    plan, samples, ledger = outcome.plan, outcome.samples, outcome.ledger
    memory = Windows.after(WARM_UP * plan.seconds, plan.seconds)
    last = samples.taken[-1]
    counts = ledger.fleet.counts
    return {
        "agents": plan.agents,
        "minutes": round(plan.seconds / 60, 1),
        **{name: counts[name] for name in sorted(counts)},
        "versions": ledger.version,
        **{f"checked_{name}": count for name, count in ledger.checked.items()},
        "memory_mb_warm": _in_mb(samples.memory(*memory.first)),
        "memory_mb_end": _in_mb(samples.memory(*memory.last)),
        "private_mb_warm": _in_mb(samples.private(*memory.first)),
        "private_mb_end": _in_mb(samples.private(*memory.last)),
        "disk_mb_most": round(max(sample.total for sample in samples.taken) / MB, 1),
        "disk_mb_end": round(last.total / MB, 1),
        "disk_mb_bound": round(bound_bytes(plan, ledger) / MB, 1),
        "disk_mb": {name: size for name, size in _in_mb(last.disk).items() if size},
        "lifetime_seconds": round(lifetime_seconds(plan, ledger)),
        "cpu_seconds": outcome.cpu_seconds,
        "seconds": round(outcome.seconds),
    }


def _in_mb(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value / MB, 1) for name, value in values.items()}


def check_growth(outcome: Outcome) -> list[str]:
    """Fail if memory or disk grew after the warm-up, or the disk took more than it may.

    Return what the run was too short for.
    """
    plan, samples, ledger = outcome.plan, outcome.samples, outcome.ledger
    most, bound = max(sample.total for sample in samples.taken), bound_bytes(plan, ledger)
    assert most <= bound, f"{most} bytes on the disk, which may be {bound:.0f}"
    short = []
    if kept_seconds(plan, ledger) < WARM_UP * plan.seconds:
        memory = Windows.after(WARM_UP * plan.seconds, plan.seconds)
        # pages shared with other programs count for more when those end
        before, after = samples.private(*memory.first), samples.private(*memory.last)
        grown = {name: after[name] / before[name] - 1 for name in before}
        assert max(grown.values()) <= GROWTH, f"memory grew: {grown}"
    else:
        short.append("memory")
    lifetime = lifetime_seconds(plan, ledger)
    if lifetime < 0.7 * plan.seconds:
        disk = Windows.after(lifetime, plan.seconds)
        first, last = samples.on_disk(*disk.first), samples.on_disk(*disk.last)
        may = (1 + GROWTH) * first + staying_bytes(ledger)
        assert last <= may, f"the disk grew from {first:.0f} to {last:.0f} bytes"
    else:
        short.append("disk")
    return short


def main() -> None:
    """Run the soak and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.traffic")
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--samples", type=Path, help="a file for every look at memory and disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pleb-traffic-") as folder:
        plan = Plan(options.agents, 60 * options.minutes)
        outcome = run(plan, Path(folder), options.samples)
    print(json.dumps(figures(outcome)), flush=True)
    for what in check_growth(outcome):
        sys.stderr.write(f"too short to see whether the {what} grows\n")


if __name__ == "__main__":
    main()
