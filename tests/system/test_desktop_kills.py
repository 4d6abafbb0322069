"""kill -9 over everything of the desktop agent, while it trains and the user comes and goes.

What must hold at any moment: no worker without its agentd, no worker that computes long while the
user is there. And in the end: the journal and history whole, the status true, no unit twice.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.e2e.world import PROJECTS, wait_until
from tests.system.test_desktop_agent import volunteer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.test_desktop_agent import Volunteer

pytestmark = pytest.mark.system

SEED = 20_261_124
ROUNDS = 10
KILLS_IN_A_ROUND = 6
CHOICES = ("worker", "worker", "probe", "tray")
MOVES = 0.4
"""How often the user is there after a round."""
WARM_SECONDS = 1.0
"""Processor time in which a worker has begun to import torch, at least."""
PATIENCE_SECONDS = 2.5
"""For agentd to see him: who moved the mouse a moment ago is looked at every few seconds."""
WATCHED_SECONDS = 0.6
PARTS = {
    "worker": "pleb_agent.worker.main",
    "probe": "pleb_agent.probe.main",
    "tray": "pleb_agent.tray.main",
}
ORPHAN_SECONDS = 5.0
"""For a worker whose agentd was killed. The kernel kills it; this is for a busy machine."""


@pytest.fixture
def slow_project(tmp_path: Path) -> Path:
    """Units of about a second, so that most kills come into one."""
    folder = shutil.copytree(PROJECTS / "tiny", tmp_path / "slow")
    text = (folder / "project.toml").read_text("utf-8")
    quick = "local_steps = 5"
    assert quick in text
    (folder / "project.toml").write_text(text.replace(quick, "local_steps = 400"), "utf-8")
    return folder


def test_after_any_kill_no_worker_runs_while_the_pc_is_in_use(
    tmp_path: Path, slow_project: Path
) -> None:
    draw = random.Random(SEED)
    with volunteer(tmp_path, slow_project) as ann:
        ann.cli("prefs", "set", "nice=off")  # a busy tester's machine would let it starve
        for _ in range(ROUNDS):
            _wait_for_worker(ann)
            _kill_several(ann, draw)
            _kill_agentd(ann)
        wait_until("a finished unit", lambda: _counted(ann, "units_done") > 0)
        _keep_books(ann)


def _wait_for_worker(ann: Volunteer) -> None:
    """Wait until there is one that could do harm; most of them have a unit by then, too."""
    try:
        wait_until("a worker", lambda: _processor_seconds(ann.home) > WARM_SECONDS, seconds=60)
    except AssertionError as error:
        log = (ann.home / "logs" / "agentd.jsonl").read_text("utf-8").splitlines()[-30:]
        told = "\n".join([str(error), str(ann.status()), *log, ann.world.tails()])
        raise AssertionError(told) from None


def _kill_several(ann: Volunteer, draw: random.Random) -> None:
    for _ in range(KILLS_IN_A_ROUND - 1):
        time.sleep(draw.uniform(0, 0.4))
        for one in ann.children(PARTS[draw.choice(CHOICES)])[:1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    if draw.random() < MOVES:
        _hold_still_for_the_user(ann)


def _kill_agentd(ann: Volunteer) -> None:
    workers = _workers(ann.home)
    ann.agent.kill()
    _, alive = psutil.wait_procs(workers, timeout=ORPHAN_SECONDS)
    assert not alive, "a worker outlived its agentd"
    ann.agent = ann.world.start_desktop_agent("ann", ann.environment)
    wait_until("agentd", lambda: _answers(ann))


def _answers(ann: Volunteer) -> bool:
    with suppress(FileNotFoundError):
        place = json.loads((ann.home / "agentd.json").read_text("utf-8"))
        return bool(place["pid"] == _pid(ann))
    return False


def _hold_still_for_the_user(ann: Volunteer) -> None:
    """Whatever was killed just now: who moves the mouse has the PC for himself, soon."""
    _move(ann, PATIENCE_SECONDS)
    before = _processor_seconds(ann.home)
    _move(ann, WATCHED_SECONDS)
    assert len(_workers(ann.home)) <= 1
    used = _processor_seconds(ann.home) - before
    assert used < WATCHED_SECONDS / 4, f"the worker computed for {used} s beside the user"


def _move(ann: Volunteer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ann.touch()
        time.sleep(0.05)


def _keep_books(ann: Volunteer) -> None:
    view = ann.status()
    assert (view["running"], view["pid"]) == (True, _pid(ann))
    assert ann.agent.stop() == 0
    with closing(sqlite3.connect(ann.home / "journal.sqlite")) as journal:

        def one(question: str) -> Any:
            return journal.execute(question).fetchone()[0]

        assert one("PRAGMA integrity_check") == "ok"
        valid = one("SELECT count(*) FROM assignments WHERE verdict = 'valid'")
        counted = one("SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'verdicts_valid'")
        of_days = one("SELECT coalesce(sum(value), 0) FROM daily WHERE name = 'accepted'")
        done = one("SELECT count(*) FROM assignments WHERE state = 'done'")
        units = one("SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'units_done'")
        back = one("SELECT count(*) FROM assignments WHERE state = 'given_back'")
        of_history = one("SELECT count(*) FROM events WHERE kind IN ('unit', 'first_accepted')")
        starts = one("SELECT count(*) FROM events WHERE kind = 'start'")
    assert valid == counted == of_days
    assert done == units
    assert of_history <= done + back, "a unit whose worker was killed twice goes back"
    assert starts > 1
    host = ann.world.admin("host", "show", "tiny", "ann")
    assert valid <= host["units_valid"] <= done
    assert host["refused"] == 0


def _workers(home: Path) -> list[psutil.Process]:
    """The workers of this home, whoever is their parent; they work in its folder."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if PARTS["worker"] in " ".join(one.cmdline()) and one.cwd() == str(home / "work"):
                found.append(one)
    return found


def _processor_seconds(home: Path) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in _workers(home))


def _counted(ann: Volunteer, name: str) -> int:
    counters = [one["counters"] for one in ann.status()["projects"]]
    return sum(int(one.get(name, 0)) for one in counters)


def _pid(ann: Volunteer) -> int:
    assert ann.agent.process is not None
    return ann.agent.process.pid
