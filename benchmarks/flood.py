"""10,000 bad requests a minute beside 50 honest agents: what the honest ones lose.

`pleb-coordinator serve` runs as operators run it. One process plays 50 agents, each its own
account: they ask for units, make deltas, report them and see every receipt. Another one plays
strangers (`flood_strangers.KINDS`): garbage, bad signatures, replays, heads and bodies without
an end, slow and silent connections, unknown hosts, requests before their answers. Calm and
flood take turns, so that both see the same machine.

All come from loopback, which the limits of addresses exempt: so this is a flood from many
networks, of which none sends much. The strangers' own CPU time is on the same cores.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from benchmarks.dispatch import line, served, started
from benchmarks.dispatch_store import fill_brisk
from benchmarks.flood_agents import AgentsPlan, AgentsSeen
from benchmarks.flood_strangers import StrangersPlan, StrangersSeen
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.transaction import Store

if TYPE_CHECKING:
    import subprocess

    from benchmarks.dispatch import Served
    from benchmarks.dispatch_fleet import Group

T = TypeVar("T")

AGENTS: Final = 50
ROUND_UNITS: Final = 2_000
"""So many that agents seldom wait for the next version."""
BAD_PER_MINUTE: Final = 10_000
PAUSE_SECONDS: Final = 0.5
"""How long a unit takes an agent: a hundred times less than in the field."""


def main(quick: bool) -> dict[str, Any]:
    turns, seconds = (2, 10.0) if quick else (5, 30.0)
    with tempfile.TemporaryDirectory(prefix="pleb-flood-") as folder, ExitStack() as stack:
        home = Home(Path(folder) / "home")
        group, online_key = _prepare(home)
        coordinator = stack.enter_context(served(home))
        agents = _start(
            stack,
            "benchmarks.flood_agents",
            Path(folder) / "agents.json",
            AgentsPlan(coordinator.url, online_key, group, PAUSE_SECONDS),
        )
        strangers = _start(
            stack,
            "benchmarks.flood_strangers",
            Path(folder) / "strangers.json",
            StrangersPlan(coordinator.url, online_key, group, BAD_PER_MINUTE / 60),
        )
        _ask(agents, 3.0, AgentsSeen)  # a warm-up
        calm, flood, bad, cpu = [], [], [], {"calm": 0.0, "flood": 0.0}
        for _ in range(turns):
            before = _http_seconds(coordinator)
            calm.append(_ask(agents, seconds, AgentsSeen))
            between = _http_seconds(coordinator)
            _tell(strangers, seconds)
            flood.append(_ask(agents, seconds, AgentsSeen))
            bad.append(_answer(strangers, StrangersSeen))
            cpu["calm"] += between - before
            cpu["flood"] += _http_seconds(coordinator) - between
        memory = coordinator.memory_mb()
    return figures(calm, flood, bad, cpu) | {
        "memory_mb": memory["all"],
        "load": os.getloadavg()[0],
    }


def _prepare(home: Home) -> tuple[Group, str]:
    """Make a home with one project of small rounds; return its hosts and the online key."""
    config = make_home(home, own_networks=["127.0.0.0/8"])  # else all hosts are one voice
    deps = deps_of(home, time.time, config)  # noqa: TID251 - a composition root
    store = Store(home.store_file)
    try:
        # One more than the honest ones: its key is the strangers' own enrolled host.
        group = fill_brisk(store, deps, home.store_file, 1, AGENTS + 1, ROUND_UNITS)
    finally:
        store.close()
    return group, deps.online_keys.newest().public


def figures(
    calm: list[AgentsSeen], flood: list[AgentsSeen], bad: list[StrangersSeen], cpu: dict[str, float]
) -> dict[str, Any]:
    """Return the benchmark's figures. `cpu`: seconds of the HTTP process in each kind of turn."""
    quiet_rate = sum(one.units for one in calm) / sum(one.seconds for one in calm)
    rate = sum(one.units for one in flood) / sum(one.seconds for one in flood)
    units = {"calm": sum(one.units for one in calm), "flood": sum(one.units for one in flood)}
    sent = sum(one.sent for one in bad)
    # What the same number of honest units cost in calm is not the strangers' doing.
    extra = cpu["flood"] - cpu["calm"] * units["flood"] / max(1, units["calm"])
    latencies = {
        name: sorted(value for one in turns for value in one.latencies_seconds)
        for name, turns in (("calm", calm), ("flood", flood))
    }
    answers: dict[str, int] = {}
    for one in bad:
        for status, count in one.answers.items():
            answers[status] = answers.get(status, 0) + count
    return {
        "honest_rate_ratio": rate / quiet_rate,
        "honest_units_per_second_calm": quiet_rate,
        "honest_units_per_second_flood": rate,
        "lost_units": sum(one.lost for one in (*calm, *flood)),
        "failed_requests": sum(one.failed for one in (*calm, *flood)),
        "bad_per_minute": 60 * sent / sum(one.seconds for one in bad),
        "cpu_ms_per_bad_request": 1000 * extra / sent,
        "accepted_bad_requests": sum(one.taken for one in bad),
        "p50_ms": {name: 1000 * found[len(found) // 2] for name, found in latencies.items()},
        "p99_ms": {name: 1000 * found[len(found) * 99 // 100] for name, found in latencies.items()},
        "answers": answers,
        "strangers_cpu_share": sum(one.cpu_seconds for one in bad)
        / sum(one.seconds for one in bad),
    }


def _start(
    stack: ExitStack, module: str, file: Path, plan: msgspec.Struct
) -> subprocess.Popen[str]:
    file.write_bytes(msgspec.json.encode(plan))
    return stack.enter_context(started(["-m", module, str(file)]))


def _tell(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(seconds) + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str], kind: type[T]) -> T:
    assert process.stdout is not None
    return msgspec.json.decode(line(process.stdout), type=kind)


def _ask(process: subprocess.Popen[str], seconds: float, kind: type[T]) -> T:
    """Let a process work for so long; return what it saw."""
    _tell(process, seconds)
    return _answer(process, kind)


def _http_seconds(coordinator: Served) -> float:
    return coordinator.cpu_seconds()["http"]
