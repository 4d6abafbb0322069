"""kill -9 at random, fifty times: nothing accepted is lost, applied twice, or half."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, wait_until

if TYPE_CHECKING:
    from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KILLS = 50
VICTIMS = ("agentd", "worker", "http", "jobs", "serve")


@pytest.mark.parametrize("seed", [20261124])
def test_fifty_kills(world: World, seed: int) -> None:
    generator = np.random.default_rng(seed)
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for name in ("anna", "boris", "trusted"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    world.wait_for_version("tiny", 1)
    killed = dict.fromkeys(VICTIMS, 0)
    while sum(killed.values()) < KILLS:
        time.sleep(generator.uniform(0.0, 1.2))
        victim = VICTIMS[int(generator.integers(len(VICTIMS)))]
        name = ("anna", "boris", "trusted")[int(generator.integers(3))]
        killed[victim] += kill(world, victim, name)
        revive(world)
    version = world.version("tiny")
    assert version > 1, "nothing moved under fire"
    world.wait_for_version("tiny", version + 3, seconds=120)
    for agent in world.agents.values():
        agent.stop()
    assert world.coordinator is not None
    world.coordinator.stop()
    versions, wrong = recompute(world.home, "tiny")
    assert wrong == []
    assert versions > version
    assert min(killed.values()) > 0, killed
    assert all(host["refused"] == 0 for host in world.admin("host", "list", "tiny"))


def kill(world: World, victim: str, name: str) -> bool:
    """kill -9 the victim if it runs; return whether it did."""
    agent = world.agents[name]
    match victim:
        case "agentd":
            agent.kill()
            return True
        case "worker":
            return any(end(child.pid) for child in agent.descendants()[:1])
        case "serve":
            assert world.coordinator is not None
            world.coordinator.kill()
            return True
        case _:
            return any(end(pid) for pid in coordinator_children(world, victim))


def coordinator_children(world: World, part: str) -> list[int]:
    """The HTTP or background process, told apart by its command line."""
    assert world.coordinator is not None
    found = []
    for child in world.coordinator.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(part in word for word in child.cmdline()):
                found.append(child.pid)
    return found[:1]


def end(pid: int) -> bool:
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def revive(world: World) -> None:
    """What a service manager does: start again what ended."""
    assert world.coordinator is not None
    if not world.coordinator.alive:
        wait_until("the killed coordinator's children to end", lambda: port_is_free(world))
        world.serve()
    for name, agent in list(world.agents.items()):
        if not agent.alive:
            world.start_agent(name)


def port_is_free(world: World) -> bool:
    return not any(
        connection.laddr.port == world.port
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.status == psutil.CONN_LISTEN
    )
