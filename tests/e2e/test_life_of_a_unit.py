"""The life of a unit, told from top to bottom. Read this first."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.cli import main as agent_main
from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, files_served, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.stranger import Stranger
    from tests.e2e.world import World

pytestmark = pytest.mark.e2e


def test_life_of_a_unit(world: World, strangers: Callable[[str], Stranger]) -> None:
    # An operator starts a coordinator. Nothing is there yet.
    world.serve()
    assert world.admin("project", "list") == []

    # A researcher publishes a project: graphs, shards, version 0, metadata signed by the root key.
    # The first version needs all four units, so it waits for the one that is followed here.
    link = world.publish(PROJECTS / "tiny", quorum=4)
    assert link.startswith(f"{world.url}/join/tiny#")

    # PLAN: the background process lays out the first round's units.
    planned = wait_until("the round to be planned", lambda: units(world, kind="train"))
    assert len(planned) == 4

    # A volunteer attaches with nothing but the link, and is measured first.
    volunteer = strangers(link)
    assert volunteer.enrol()["role"] == "host"
    calibration = only_unit(volunteer.post(volunteer.request()))
    assert calibration["unit"]["kind"] == "calibrate"
    assert calibration["version"]["number"] == 0
    delta, losses = volunteer.train(calibration)

    # ISSUE: the report of one unit asks for the next; it comes under a lease.
    reply = volunteer.post(
        volunteer.request(reports=[volunteer.report(calibration, delta, losses)], wait_seconds=10),
        zlib.compress(delta),
    )
    assert reply["receipts"][0]["outcome"] == "stored"
    manifest = only_unit(reply)
    assert manifest["unit"]["kind"] == "train"
    assert manifest["host"] == volunteer.host

    # TRUST and TRAIN: the version's digest is checked, then the local steps run.
    delta, losses = volunteer.train(manifest)

    # REPORT and ACCEPT: the report commits to the delta's digest; the delta is packed on its way.
    report = volunteer.report(manifest, delta, losses)
    reply = volunteer.post(volunteer.request(reports=[report], max_units=0), zlib.compress(delta))
    assert reply["receipts"][0]["outcome"] == "stored"

    # VERIFY: the host is new, so nobody believes it yet ...
    mine = unit_of(world, manifest["assignment"])
    assert mine["state"] == "open"

    # ... until a trusted host has done the same unit, without knowing what it was for.
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")
    mine = wait_until(
        "the second result to confirm the first",
        lambda: (u := unit_of(world, manifest["assignment"]))["state"] != "open" and u,
    )
    assert mine["state"] in {"valid", "applied"}
    assert canonical_of(mine) == manifest["assignment"]

    # ADVANCE: the round's verified deltas make version 1, and the volunteer is told.
    world.wait_for_version("tiny", 1)
    mine = unit_of(world, manifest["assignment"])
    assert mine["state"] == "applied"
    told = volunteer.post(volunteer.request(max_units=0))["verdicts"]
    assert [v["verdict"] for v in told if v["assignment"] == manifest["assignment"]] == ["valid"]

    # Everybody can have the signed log of it, from a mirror, when the coordinator is gone.
    mirror_and_stop(world)
    assert volunteer.is_in_log(world.root / "mirror", manifest, delta, version=1)
    prove_units(world, "trusted")

    # And whoever has the log can make every version again.
    versions, wrong = recompute(world.home, "tiny")
    assert versions >= 2
    assert wrong == []
    assert world.admin("model", "verify", "tiny")["verified"]


def mirror_and_stop(world: World) -> None:
    """Fill a mirror, then end everything that runs."""
    world.admin("mirror", "sync", "tiny", world.root / "mirror")
    for agent in world.agents.values():
        agent.stop()
    assert world.coordinator is not None
    world.coordinator.stop()


def prove_units(world: World, name: str) -> None:
    """Prove an agent's receipts from the mirror alone; then forge the log, which is refused."""
    mirror = world.root / "mirror"
    verify = ["verify", "tiny", "--home", world.root / name, "--mirror"]
    with files_served(mirror) as url:
        [found] = run_here(agent_main, *verify, url)["projects"]
        assert found["units"] == sum(one["units"] for one in found["versions"]) > 0
        assert found["missing"] == 0
        log = mirror / "projects" / "tiny" / "log-entries"
        log.write_bytes(log.read_bytes().replace(b'"number":1,', b'"number":2,', 1))
        refused = run_here(agent_main, *verify, url, check=False)
        assert "not the one that the coordinator has signed" in refused["message"]


def only_unit(reply: dict[str, Any]) -> dict[str, Any]:
    assert len(reply["manifests"]) == 1, reply["no_work"]
    manifest: dict[str, Any] = reply["manifests"][0]
    return manifest


def units(world: World, *, kind: str) -> list[dict[str, Any]]:
    return [unit for unit in world.admin("unit", "list", "tiny") if unit["kind"] == kind]


def canonical_of(unit: dict[str, Any]) -> int:
    """Return what the host whose result counts calls its assignment."""
    [counts] = [copy for copy in unit["assignments"] if copy["assignment"] == unit["canonical"]]
    return int(counts["host_calls_it"])


def unit_of(world: World, assignment: int) -> dict[str, Any]:
    """Return the unit of what its host knows as `assignment`."""
    for unit in world.admin("unit", "list", "tiny"):
        shown: dict[str, Any] = world.admin("unit", "show", unit["id"])
        if any(copy["host_calls_it"] == assignment for copy in shown["assignments"]):
            return shown
    message = f"no unit has assignment {assignment}"
    raise AssertionError(message)
