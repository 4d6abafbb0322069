"""A sweep of twelve trials by four agents, one of which lies, against the trials in turn.

Real processes on loopback: a coordinator, a trusted agent, two volunteers and a liar, which
attacks the trial that should win. Byte GPTs of two widths read tinyshakespeare (or the text that
`benchmarks learning` takes) at six learning rates; after a fourth of the versions half of the
trials go on, and after half of the versions half of those. `in_turn_seconds` is what the same
agents take for the right winner alone to its end, times twelve. Which trial is the right winner is
known from training all of them to their ends in this process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from benchmarks.ensemble import text_to_read
from benchmarks.in_process import on_holdout, train_in_rounds
from pleb_project.check.draft import make_draft
from pleb_project.cli import main as project_main
from pleb_project.definition.load import load_definition
from pleb_project.family.members import members_of
from pleb_project.readers.blobs import BlobFolder
from tests.e2e.recompute import recompute
from tests.e2e.world import Running, World, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

RATES: Final = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
WIDTHS: Final = (32, 64)
LIAR: Final = Path(__file__).parents[1] / "examples" / "liar" / "liar.py"
AGENTS: Final = ("trusted", "first", "second")
FIRST_RUNG: Final = 4
"""Earlier versions owe their loss to the outer momentum, which has yet to build up."""
MOST_SECONDS: Final = 1500.0
MODEL: Final = Path(__file__).with_name("learning_model.py")


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    rates, versions = (RATES[1::2], 8) if quick else (RATES, 16)
    with tempfile.TemporaryDirectory(prefix="pleb-sweep-") as name:
        folder = Path(name) / "grid"
        folder.mkdir()
        (folder / "text.txt").write_text(text_to_read(), "utf-8")
        write_project(folder, rates, versions)
        truth = losses_of(folder, Path(name) / "blobs")
        right = min(truth, key=lambda trial: truth[trial])
        print("losses:", {trial: round(loss, 4) for trial, loss in truth.items()}, flush=True)
        swept = played(Path(name) / "sweep", folder, truth, liar_on=right)
        place = int(right.rpartition("-")[2]) - 1
        rate, width = [(rate, width) for rate in rates for width in WIDTHS][place]
        write_project(folder, [rate], versions, widths=[width])
        alone = played(Path(name) / "alone", folder, ["alone"], liar_on="alone")
    return {
        "trials": len(truth),
        "winner": swept["best_member"],
        "right_winner": swept["best_member"] == right,
        "winners_loss": truth[swept["best_member"]],
        "versions_of": dict(zip(truth, swept["versions"], strict=True)),
        "worker_starts": swept["worker_starts"],
        "wall_seconds": swept["seconds"],
        "in_turn_seconds": alone["seconds"] * len(truth),
        "times_faster": alone["seconds"] * len(truth) / swept["seconds"],
        "versions_made": sum(swept["versions"]),
        "versions_in_turn": versions * len(truth),
        "lies_in_the_model": swept["lies_in_the_model"],
        "wrong_versions": swept["wrong_versions"],
    }


def write_project(
    folder: Path, rates: Iterable[float], versions: int, widths: Iterable[int] = WIDTHS
) -> None:
    """Write the project file: a sweep, or a single project where there is one setting."""
    rates, widths = list(rates), list(widths)
    single = len(rates) * len(widths) == 1
    (folder / "model.py").write_text(MODEL.read_text("utf-8"), "utf-8")
    grid = f"""
        [sweep]
        grid = {{ "training.learning_rate" = {rates}, "model.arguments.width" = {widths} }}
        rungs = {sorted({max(FIRST_RUNG, versions // 4), versions // 2})}
        keep = 0.5
        """
    (folder / "project.toml").write_text(
        f"""
        [project]
        name = "{"alone" if single else "grid"}"
        contact = "the benchmark"
        [data]
        source = "text"
        files = ["text.txt"]
        window = 64
        [model]
        arguments = {{ width = {widths[0]} }}
        [training]
        learning_rate = {rates[0]}
        batch = 8
        local_steps = 50
        versions = {versions}
        [round]
        units = 4
        quorum = 4
        grace_seconds = 1
        {"" if single else grid}
        """,
        "utf-8",
    )


def losses_of(folder: Path, blobs_folder: Path) -> dict[str, float]:
    """Return every trial's loss on the holdout after all of its versions, without any server."""
    found = {}
    for definition in members_of(load_definition(folder)):
        blobs = BlobFolder(blobs_folder)
        draft = make_draft(definition, blobs)
        found[definition.project.name] = on_holdout(draft, blobs, train_in_rounds(draft, blobs))[
            "loss"
        ]
    return found


def played(root: Path, folder: Path, trials: Iterable[str], liar_on: str) -> dict[str, Any]:
    """Publish the project and wait until every trial has ended; return what came of it."""
    root.mkdir()
    world = World(root)
    trials = list(trials)
    try:
        world.serve()
        where = ("--to", world.url, "--invite", world.invite("publisher"), "--no-passphrase")
        home = root / "researcher"
        published = run_here(
            project_main, "publish", folder, *where, "--cpu-minutes", "0.05", "--home", home
        )
        link = published["attach_link"]
        for agent in AGENTS:
            world.attach(agent, link, trusted=agent == "trusted")
        for agent in AGENTS:
            world.start_agent(agent)
        lies = [sys.executable, str(LIAR), link.replace(trials[0], liar_on), "--name", "liar"]
        world.agents["liar"] = Running("liar", lies, root / "liar.log").start()
        began = time.monotonic()

        def ended() -> bool:
            world.check_alive()
            return all(is_over(world.admin("project", "show", trial)) for trial in trials)

        wait_until("every trial's end", ended, seconds=MOST_SECONDS)
        seconds = time.monotonic() - began
        hosts = world.admin("host", "list", liar_on)
        checked = [recompute(world.home, trial) for trial in trials]
        family = world.admin("family", "show", "grid") if len(trials) > 1 else {}
        return {
            "seconds": seconds,
            "best_member": family.get("best_member"),
            "versions": [world.version(trial) for trial in trials],
            "worker_starts": sum(worker_starts(world, agent) for agent in AGENTS),
            "wrong_versions": sum(len(wrong) for _, wrong in checked),
            "lies_in_the_model": sum(
                host["units_valid"] for host in hosts if host["display_name"] == "liar"
            ),
        }
    finally:
        world.close()


def is_over(project: dict[str, Any]) -> bool:
    """Whether a trial has reached its last version, or was stopped."""
    return project["waiting_for"] == "trial_stopped" or "last version" in project["waiting"]


def worker_starts(world: World, agent: str) -> int:
    """Return how often an agent has started a worker's process."""
    log = world.root / agent / "logs" / "agentd.jsonl"
    return log.read_text("utf-8").count('"worker starts"')
