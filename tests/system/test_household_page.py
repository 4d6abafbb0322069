"""Three PCs in network namespaces, joined by a code, seen and paused on one page in Chromium."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from benchmarks.peers_network import Network, network
from tests.e2e.world import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

PCS = 3
MOST_GROWTH_MB = 8
"""Of an agent that joins: its HTTP client, which one with a project has anyway, and the rest."""


class Pc:
    """A real agentd in a namespace."""

    def __init__(self, namespace: str, home: Path) -> None:
        self.home = home
        self._inside = ["ip", "netns", "exec", namespace, sys.executable, "-m"]
        command = [*self._inside, "pleb_agent.cli", "start", "--headless", "--home", str(home)]
        with home.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait(self) -> None:
        wait_until("the agent to listen", (self.home / "agentd.json").exists, seconds=60)

    def agent(self, *words: str) -> dict[str, Any]:
        """Run a command of its user and return its JSON."""
        done = self.run("pleb_agent.cli", *words, "--json", "--home", str(self.home))
        found: dict[str, Any] = json.loads(done.strip().splitlines()[-1])
        return found

    def run(self, module: str, *words: str) -> str:
        """Run a module of ours in its namespace."""
        done = subprocess.run(
            [*self._inside, module, *words],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def memory_mb(self) -> float:
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def pcs(tmp_path: Path) -> Iterator[list[Pc]]:
    with network(PCS, 100.0) as net:
        assert isinstance(net, Network)
        found = [Pc(name, tmp_path / f"pc{n}") for n, name in enumerate(net.hosts)]
        try:
            for one in found:
                one.wait()
            yield found
        finally:
            for one in found:
                one.stop()


def test_three_pcs_are_seen_and_paused_on_one_page(pcs: list[Pc], tmp_path: Path) -> None:
    first, *headless = pcs
    before = [pc.memory_mb() for pc in headless]
    for other in headless:
        code = first.agent("household", "code")["code"]
        joined = other.agent("household", "join", code)
        assert joined["on"]
    wait_until(
        "each to know the others",
        lambda: all(_reached(pc.agent("household")) == PCS for pc in pcs),
        seconds=90,
    )
    url = first.agent("open", "--print")["url"]
    shot = tmp_path / "household.png"
    said = first.run("tests.system.household_browser", url, str(tmp_path / "profile"), str(shot))
    found = json.loads(said.strip().splitlines()[-1])
    assert found["seconds"] < 1.0
    assert all(one.startswith(found["base"]) for one in found["requests"]), "only its own agent"
    assert found["complaints"] == []
    assert found["axe"] == []
    assert [pc.agent("status")["paused"] for pc in pcs] == [True] * PCS
    headless[0].agent("household", "resume")
    assert [pc.agent("status")["paused"] for pc in pcs] == [False] * PCS
    grown = [pc.memory_mb() - then for pc, then in zip(headless, before, strict=True)]
    assert max(grown) < MOST_GROWTH_MB
    headless[1].agent("household", "leave")
    assert _reached(first.agent("household")) == PCS - 1


def _reached(view: dict[str, Any]) -> int:
    return sum(one["reached"] for one in view["members"])
