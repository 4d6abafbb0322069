"""A sweep whose trials are compared while one of its agents lies: the right one goes on."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pleb_project.cli import main as project_main
from pleb_project.server.records import Home
from pleb_shared.protocol.reasons import ReasonCode
from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, Running, checked, run_here, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
TRIALS = ["grid-1", "grid-2"]
LIAR = PROJECTS.parents[2] / "examples" / "liar" / "liar.py"


def test_the_best_trial_goes_on_although_an_agent_lies(world: World, tmp_path: Path) -> None:
    world.serve()
    folder, home = tmp_path / "grid", world.root / "researcher"
    shutil.copytree(PROJECTS / "tiny", folder)
    file = folder / "project.toml"
    text = file.read_text("utf-8").replace('name = "tiny"', 'name = "grid"')
    text = text.replace("versions = 200", "versions = 3").split("[target]")[0]
    file.write_text(
        f'{text}[sweep]\ngrid = {{ "training.learning_rate" = [1e-6, 0.01] }}\n'
        "rungs = [1]\nkeep = 0.5\n",
        "utf-8",
    )
    shutil.copytree(checked(PROJECTS / "tiny")[1].folder, Home(home).build_folder("grid"))

    def run(*arguments: object) -> Any:
        return run_here(project_main, *arguments, "--home", home)

    where = ("--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase")
    published = run("publish", folder, *where, "--cpu-minutes", "0.02")
    assert (published["family"], published["members"]) == ("grid", TRIALS)
    link = published["attach_link"]
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")
    lies = [sys.executable, str(LIAR), link.replace(TRIALS[0], TRIALS[1]), "--name", "liar"]
    world.agents["liar"] = Running("liar", lies, world.root / "liar.log").start()

    def shown(name: str) -> dict[str, Any]:
        found: dict[str, Any] = world.admin("project", "show", name)
        return found

    def stopped() -> bool:
        world.check_alive()
        return str(shown(TRIALS[0])["waiting_for"]) == ReasonCode.TRIAL_STOPPED.value

    wait_until("the worse trial to be stopped", stopped, seconds=300)
    world.wait_for_end(TRIALS[1])
    assert [shown(name)["version"] for name in TRIALS] == [1, 3]
    coverage = shown(TRIALS[1])["coverage"]
    assert 0 < coverage["covered"] <= coverage["shards"]
    assert coverage["fewest_hosts"] >= 1
    family = world.admin("family", "show", "grid")
    assert (family["kind"], family["best_member"]) == ("sweep", TRIALS[1])
    assert [one["settings"] for one in family["members"]] == [
        {"training.learning_rate": rate} for rate in ("1e-6", "0.01")
    ]
    [liar] = [
        host for host in world.admin("host", "list", TRIALS[1]) if host["display_name"] == "liar"
    ]
    log = world.root / "trusted" / "logs" / "agentd.jsonl"
    starts = log.read_text("utf-8").count("worker starts")
    assert starts == 1, "one worker computes for all trials"
    assert (liar["units_valid"], liar["credit"]) == (0, 0.0)
    assert "stored" in world.agents["liar"].tail(), "it had a part in it"
    for name in TRIALS:
        versions, wrong = recompute(world.home, name)
        assert wrong == []
        assert versions >= 1
