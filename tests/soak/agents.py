"""`python -m tests.soak.agents [--minutes 60] [--kills 24]`: kill -9 while units take minutes.

A coordinator and agents with real workers, each held to a small share of a core. Processes are
killed one by one, evenly of each kind, when and where a seed says, and are started again as a
service manager would. At the end: every finished unit has its credit, every accepted result is in
one version, versions recompute, nothing is stuck, and no kill has cost more than the steps since
the last checkpoint was due.

What an agent computes is looked at twice a second: that much may be missing from what is counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from pleb_agent.app.home import Home
from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.control.live_preferences import encode
from pleb_agent.core.preferences import Preferences
from pleb_agent.worker.job import WorkerSettings
from pleb_project.publish.move import finish_round
from pleb_project.publish.publisher import Publisher
from pleb_project.server.client import Coordinator, parse_address
from tests.e2e.recompute import recompute
from tests.e2e.test_kills import kill, revive
from tests.e2e.world import PROJECTS, World, wait_until

OF_AGENTS: Final = ("agentd", "worker", "both")
KINDS: Final = (*OF_AGENTS, "serve", "http", "jobs")
UNIT: Final = {
    "batch = 16": "batch = 128",
    "local_steps = 5": "local_steps = 10000",
    "warmup_steps = 5": "warmup_steps = 100",
    "units = 4": "units = 8",
    "quorum = 3": "quorum = 6",
    "grace_seconds = 0.5": "grace_seconds = 20",
    "new_host_units = 3": "new_host_units = 1",
    "lease_seconds = 60": "lease_seconds = 1800",
}
"""How the project differs from that of the tests, whose units take milliseconds."""
SHARE_PERCENT: Final = 10
"""Of a core: a unit takes two minutes or more."""
CHECKPOINT_SECONDS: Final = WorkerSettings(threads=1, memory_bytes=2**20).checkpoint_seconds
"""The state is small, so that this is the documented interval."""
SLACK_SECONDS: Final = 5.0
"""On top of it: a step, the writing, and the time between two looks, on a busy machine."""
NOT_BEGUN: Final = "The lease ended before the unit was started."
"""An evaluation, say, that waited behind a unit: nothing was computed."""
UNITS: Final = """SELECT id, state, verdict, credit, note, ended_at,
    manifest ->> '$.unit.kind' AS kind FROM assignments"""
"""Of an agent's journal."""
STATES: Final = """SELECT DISTINCT state FROM assignments
    UNION SELECT DISTINCT state FROM units WHERE kind <> 'calibrate'"""
"""Of the coordinator's store; what hosts calibrate with stays open."""


class Seen(NamedTuple):
    """How far a unit was; seconds since the start of all, steps, seconds of computing."""

    at: float
    steps: int
    seconds: float


NOTHING: Final = Seen(0.0, 0, 0.0)


@dataclass
class Kill:
    """What was killed, and what it has cost: steps are counted that were done once more."""

    kind: str
    at: float
    agent: str = ""
    unit: int = 0
    """Its row in the agent's journal; 0: none was in hand."""
    before: Seen = NOTHING
    most_steps: int = 0
    """That may be repeated: done since the last checkpoint was due."""
    steps: int = 0
    seconds: float = 0.0

    def cost(self, after: Seen) -> None:
        """Note where the unit went on."""
        self.steps = max(0, self.before.steps - after.steps)
        self.seconds = max(0.0, self.before.seconds - after.seconds)


@dataclass
class Watched:
    """What is seen of the unit that an agent has in hand."""

    name: str
    unit: int = 0
    begun: Seen = NOTHING
    """From where the worker's process has computed."""
    seen: list[Seen] = field(default_factory=list)
    killed: Kill | None = None
    """Whose cost is not known yet."""
    unexplained: list[Kill] = field(default_factory=list)

    def look(self, at: float, unit: dict[str, Any]) -> None:
        """Note how far the unit is, and what a kill has cost it.

        agentd says for a while what it heard last of a worker that was killed: only steps that are
        fewer than before tell that it goes on. If none are, nothing was repeated.
        """
        now = Seen(at, unit["steps_done"], unit["compute_seconds"])
        if unit["id"] != self.unit:
            self.unit, self.begun, self.seen, self.killed = unit["id"], Seen(at, 0, 0.0), [], None
        elif self.seen and now.steps < self.seen[-1].steps:
            if self.killed is None:
                self.unexplained.append(self.expect(Kill("nothing", at)))
            if self.killed is not None:
                self.killed.cost(now)
            self.begun, self.seen, self.killed = now, [], None
        self.seen.append(now)

    def expect(self, killed: Kill) -> Kill:
        """Have the next look say what a kill has cost; return it with what it may cost."""
        if self.seen:
            last = self.seen[-1]
            due = last.at - CHECKPOINT_SECONDS - SLACK_SECONDS
            kept = max((one for one in self.seen if one.at <= due), default=self.begun)
            killed.agent, killed.unit, killed.before = self.name, self.unit, last
            killed.most_steps = last.steps - kept.steps
            self.killed = killed
        return killed


class Fleet:
    """The agents, and all that was killed."""

    def __init__(self, world: World, agents: int, seed: int) -> None:
        self.world = world
        self.generator = np.random.default_rng(seed)
        self.watched = {f"agent-{number}": Watched(f"agent-{number}") for number in range(agents)}
        self.kills: list[Kill] = []
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Publish, attach, and wait until all have begun a unit."""
        self.world.serve()
        link = self.world.publish(slow_project(self.world.root))
        preferences = encode(Preferences(nice=False, device_shares={"cpu": SHARE_PERCENT}))
        for number, name in enumerate(self.watched):
            self.world.attach(name, link, trusted=not number)
            (self.world.root / name / "preferences.json").write_bytes(preferences)
            self.world.start_agent(name)

        def all_compute() -> bool:
            self.world.check_alive()
            self.look()
            return all(one.seen for one in self.watched.values())

        wait_until("units in all hands", all_compute, seconds=600)
        self._began = time.monotonic()

    def look(self) -> list[str]:
        """Look at what agents compute; return the names of those that do."""
        computing = []
        for name, watched in self.watched.items():
            with suppress(NotRunningError):
                unit = Remote(Home(self.world.root / name)).get("status")["unit"]
                if unit is not None and unit["steps_done"]:
                    watched.look(self.seconds, unit)
                    computing.append(name)
        return computing

    def watch_until(self, seconds: float) -> None:
        """Look on."""
        while self.seconds < seconds:
            self.watch_for(0.5)

    def watch_for(self, seconds: float) -> None:
        """Look once, and wait so long."""
        self.look()
        time.sleep(seconds)

    def kill(self, kind: str) -> None:
        """kill -9 such a process, of an agent that computes; start again what has ended."""
        victims = ("worker", "agentd") if kind == "both" else (kind,)
        while True:
            self.watch_for(0.5)
            computing = self.look()
            name = str(self.generator.choice(computing or [""]))
            killed = Kill(kind, self.seconds)
            if name and all(kill(self.world, victim, name) for victim in victims):
                break
        self.kills.append(killed)
        if kind in OF_AGENTS:
            self.watched[name].expect(killed)
        revive(self.world)

    def finish(self) -> None:
        """Let the open round end, and agents hear what became of their results."""
        with Coordinator(parse_address(self.world.url)) as coordinator:
            publisher = Publisher(coordinator, self.world.researcher, time.time, lambda _: None)
            finish_round(publisher, "tiny", "The soak ends.", self.watch_for)

        def settled() -> bool:
            self.look()
            units = self.units()
            trained = [row for row in units if row["kind"] == "train" and row["state"] == "done"]
            return (
                all(row["ended_at"] for row in units)
                and all(row["verdict"] for row in trained)
                and not self.stuck()
            )

        with suppress(AssertionError):  # what is not settled is found by `faults_of`
            wait_until("verdicts of all results", settled, seconds=480)
        for agent in self.world.agents.values():
            agent.stop()
        assert self.world.coordinator is not None
        self.world.coordinator.stop()

    def stuck(self) -> set[str]:
        """Return the states of the coordinator's units and assignments that are no end."""
        with closing(sqlite3.connect(self.world.home / "store.sqlite")) as store:
            states = {state for (state,) in store.execute(STATES)}
        return states & {"open", "leased", "uploading", "reported", "invalid"}

    def units(self) -> list[dict[str, Any]]:
        """Return all units of all agents, as their journals have them."""
        found: list[dict[str, Any]] = []
        for name in self.watched:
            with closing(sqlite3.connect(self.world.root / name / "journal.sqlite")) as journal:
                journal.row_factory = sqlite3.Row
                rows = journal.execute(UNITS)
                found += [{"agent": name, **dict(row)} for row in rows]
        return found


def slow_project(root: Path) -> Path:
    """Return the tests' small project, with units that take minutes."""
    folder = shutil.copytree(PROJECTS / "tiny", root / "project")
    text = (folder / "project.toml").read_text("utf-8")
    for quick, slow in UNIT.items():
        assert quick in text, quick
        text = text.replace(quick, slow)
    (folder / "project.toml").write_text(text, "utf-8")
    return folder


def faults_of(fleet: Fleet, units: list[dict[str, Any]]) -> list[str]:
    """Return all that is not as it should be, once everything has ended."""
    ended = {(unit["agent"], unit["id"]): unit["state"] for unit in units}
    faults = [f"repeated without a kill: {one}" for one in unexplained(fleet)]
    for one in fleet.kills:
        if one.unit and ended[one.agent, one.unit] != "done":
            one.cost(NOTHING)  # all of it is computed again, by another host
        if one.steps > one.most_steps:
            faults.append(f"more was lost than the bound: {one}")
    for unit in units:
        if unit["state"] not in {"done", "given_back"} and unit["note"] != NOT_BEGUN:
            faults.append(f"not finished: {unit}")
        elif unit["kind"] == "train" and unit["state"] == "done" and not unit["credit"] > 0:
            faults.append(f"finished, and without credit: {unit}")
    faults += [f"the coordinator has rows in state {state}" for state in sorted(fleet.stuck())]
    hosts = fleet.world.admin("host", "list", "tiny")
    faults += [f"blamed: {host}" for host in hosts if host["refused"] or host["bans"]]
    return faults + recompute(fleet.world.home, "tiny")[1]


def unexplained(fleet: Fleet) -> list[Kill]:
    return [one for watched in fleet.watched.values() for one in watched.unexplained]


def figures_of(fleet: Fleet, units: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures; costs are those of kills that found a unit in hand."""
    costly = [one for one in fleet.kills if one.unit]
    steps, seconds = [one.steps for one in costly], [one.seconds for one in costly]
    return {
        "kills": dict(Counter(one.kind for one in fleet.kills)),
        "units_accepted": sum(unit["credit"] > 0 for unit in units),
        "units_given_back": sum(unit["state"] == "given_back" for unit in units),
        "versions": recompute(fleet.world.home, "tiny")[0],
        "steps_repeated_most": max(steps, default=0),
        "steps_repeated_median": statistics.median(steps or [0]),
        "steps_bound_median": statistics.median([one.most_steps for one in costly] or [0]),
        "share_of_bound_most": round(
            max((one.steps / max(1, one.most_steps) for one in costly), default=0.0), 3
        ),
        "computing_seconds_lost_most": round(max(seconds, default=0.0), 2),
        "computing_seconds_lost": round(sum(seconds), 2),
    }


def main() -> None:
    """Kill for so long; print the figures, and end with 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.agents")
    parser.add_argument("--agents", type=int, default=5, help="one of them trusted")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pleb-soak-") as folder:
        world = World(Path(folder))
        try:
            fleet = Fleet(world, options.agents, options.seed)
            fleet.start()
            times = np.sort(fleet.generator.uniform(0, 60 * options.minutes, options.kills))
            kinds = fleet.generator.permutation(np.resize(KINDS, options.kills))
            for at, kind in zip(times, kinds, strict=True):
                fleet.watch_until(at)
                fleet.kill(str(kind))
            fleet.watch_until(60 * options.minutes)
            fleet.finish()
            units = fleet.units()
            faults = faults_of(fleet, units)
            figures = figures_of(fleet, units)
        finally:
            world.close()
    seconds = round(fleet.seconds)
    print(json.dumps({"seed": options.seed, "seconds": seconds, **figures, "faults": faults}))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
