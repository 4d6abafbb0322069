"""Small fleets: one lonely agent, two determinism classes, a clock that is an hour off."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, wait_until

if TYPE_CHECKING:
    from tests.e2e.world import World

pytestmark = pytest.mark.e2e


def stop_all(world: World) -> None:
    for agent in world.agents.values():
        agent.stop()
    assert world.coordinator is not None
    world.coordinator.stop()


def test_one_lonely_agent_reaches_version_3(world: World) -> None:
    """The trusted agent beside the coordinator confirms; the volunteer's results count."""
    world.serve("--with-agent")
    link = world.publish(PROJECTS / "tiny")
    world.attach("lonely", link)
    world.start_agent("lonely")
    world.wait_for_version("tiny", 3)

    def lonely() -> dict[str, Any]:
        hosts = world.admin("host", "list", "tiny")
        found: dict[str, Any] = next(h for h in hosts if h["display_name"] == "lonely")
        return found

    assert lonely()["role"] == "host"
    # the trusted agent alone may have made three versions before it confirmed the first result
    wait_until("a result of the volunteer's to count", lambda: lonely()["units_valid"], seconds=60)
    with contextlib.closing(sqlite3.connect(world.home / "store.sqlite")) as store:
        classes = {row[0] for row in store.execute("SELECT determinism_class FROM hosts")}
    assert len(classes) == 1, "the coordinator's agent has one thread, as most volunteers have"


def test_two_determinism_classes_agree(world: World) -> None:
    """One and two threads round differently; their results count as one another's replicas."""
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for threads in (1, 2):
        world.attach(f"threads-{threads}", link)
        world.start_agent(f"threads-{threads}", "--threads", threads)
    world.wait_for_version("tiny", 3)
    hosts = world.admin("host", "list", "tiny")
    assert sum(host["units_valid"] for host in hosts) >= 3
    assert all(host["refused"] == 0 for host in hosts)


def test_a_clock_that_is_an_hour_off_loses_nothing(world: World) -> None:
    """Agents wait for a coordinator whose clock is wrong, and go on where they were."""
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for name in ("first", "second"):
        world.attach(name, link, trusted=name == "first")
        world.start_agent(name)
    world.wait_for_version("tiny", 2)
    for hours in (1, -1):
        assert world.coordinator is not None
        world.coordinator.stop()
        before = valid_units(world)
        world.serve("--clock-offset", 3600 * hours)
        wait_until(
            "an agent to say that the clocks differ",
            lambda: any("clock" in agent.tail(200) for agent in world.agents.values()),
            seconds=60,
        )
        world.coordinator.stop()
        assert valid_units(world) >= before
        world.serve()
        version = world.version("tiny")
        world.wait_for_version("tiny", version + 2)
    stop_all(world)
    versions, wrong = recompute(world.home, "tiny")
    assert versions > 4
    assert wrong == []


def valid_units(world: World) -> int:
    return sum(host["units_valid"] for host in world.admin("host", "list", "tiny"))
