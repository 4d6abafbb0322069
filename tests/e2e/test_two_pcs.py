"""One volunteer, two PCs: the second joins the account of the first by a text."""

from __future__ import annotations

import pytest

from pleb_agent.cli import main as agent_main
from tests.e2e.world import PROJECTS, run_here, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_second_pc_joins_the_account_and_works_for_it(world):
    world.serve("--with-agent")
    world.attach("desk", world.publish(PROJECTS / "tiny"))
    world.start_agent("desk")
    wait_until("the first PC to run", (world.root / "desk" / "agentd.json").exists)
    text = run_here(agent_main, "link", "tiny", "--home", world.root / "desk")["text"]
    world.attach("laptop", text)
    world.start_agent("laptop")

    def account_and_units(name: str) -> tuple[str, float]:
        view = run_here(agent_main, "status", "--home", world.root / name)
        (project,) = view["projects"]
        return project["account"], project["counters"].get("verdicts_valid", 0)

    wait_until("an accepted unit of the desk", lambda: account_and_units("desk")[1] > 0)
    wait_until("an accepted unit of the laptop", lambda: account_and_units("laptop")[1] > 0)
    assert account_and_units("desk")[0] == account_and_units("laptop")[0]
    hosts = world.admin("host", "list", "tiny")
    accounts = [one["account"] for one in hosts if one["display_name"] in {"desk", "laptop"}]
    assert len(accounts) == 2
    assert len(set(accounts)) == 1
    log = (world.root / "laptop" / "logs" / "agentd.jsonl").read_text()
    assert text not in log
    secret = text.partition("account=")[2].partition("#")[0].partition("&")[0]
    assert secret
    assert secret not in log
