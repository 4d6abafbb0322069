"""A worker that was taken over leaves traps in its work directory; the agent steps into none."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.worker.channel import FlagPage, State, flag_file
from pleb_agent.worker.child import log_file
from pleb_agent.worker.job import DeltaOutcome, JobResult
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.report import DeltaResult, FailureResult
from tests.integration.agent_home import attached, until
from tests.integration.fake_engine import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"


class TakenOver(FakeEngine):
    """Computes nothing; `trap(output_dir)` leaves something in the place of the delta."""

    def __init__(self, trap, size: int = len(SECRET)) -> None:
        super().__init__()
        self.trap = trap
        self.size = size

    def result_of(self, job) -> JobResult:
        (job.output_dir / "delta.bin").unlink()
        self.trap(job.output_dir)
        outcome = DeltaOutcome(
            file="delta.bin",
            digest=digest_of(SECRET),
            size=self.size,
            loss_first=1.0,
            loss_last=0.5,
        )
        return JobResult(
            outcome=outcome, compute_seconds=1.0, seconds_per_step=0.2, peak_bytes=10**6
        )


def swapped_directory(secret: Path):
    def trap(folder: Path) -> None:
        shutil.rmtree(folder)
        (secret.parent / "delta.bin").write_bytes(SECRET)
        folder.symlink_to(secret.parent, target_is_directory=True)

    return trap


TRAPS = {
    "link": lambda secret: lambda folder: (folder / "delta.bin").symlink_to(secret),
    "pipe": lambda _: lambda folder: os.mkfifo(folder / "delta.bin"),
    "directory": lambda _: lambda folder: (folder / "delta.bin").mkdir(),
    "nothing": lambda _: lambda folder: None,
    "longer": lambda _: lambda folder: (folder / "delta.bin").write_bytes(SECRET + b"!"),
    "swapped directory": swapped_directory,
}


ATTACHED, UPLOADED = len(SECRET), 10**6
CASES = [
    *((trap, ATTACHED) for trap in TRAPS),
    *((trap, UPLOADED) for trap in TRAPS if trap != "longer"),
]


@pytest.mark.parametrize(("trap", "size"), CASES)
def test_no_other_file_leaves_the_pc(tmp_path, trap, size):
    """A taken-over worker and a hostile coordinator together must not read the user's files."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "id_ed25519").write_bytes(SECRET)

    async def story():
        engine = TakenOver(TRAPS[trap](elsewhere / "id_ed25519"), size)
        async with attached(home, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            working = asyncio.create_task(loop.run())
            async with asyncio.timeout(15):
                while not agent.journal.history(1):  # noqa: ASYNC110 - it is another's journal
                    await asyncio.sleep(0.02)
            loop.stop()
            await working
            (row,) = agent.journal.history(1)
            assert row.state in {AssignmentState.GIVEN_BACK, AssignmentState.REFUSED}
            assert b"PRIVATE" not in b"".join(given.delta for given in coordinator.given.values())
            assert not any(b"PRIVATE" in bytes(got) for _, got in coordinator.uploads.values())
            return coordinator.results()

    (report,) = asyncio.run(story())
    if size == ATTACHED:
        assert isinstance(report.result, FailureResult)
        assert "delta cannot be read" in report.result.reason
    else:
        assert isinstance(report.result, DeltaResult)


def test_a_delta_that_vanished_while_the_agent_was_down_costs_one_unit(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.01)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(3)
            loop = agent.loop(3)
            done = engine.result_of

            def remove(job):
                result = done(job)
                if len(engine.jobs) == 1:
                    (job.output_dir / "delta.bin").unlink()
                return result

            engine.result_of = remove  # type: ignore[method-assign]
            async with asyncio.timeout(15):
                await loop.run()
            kinds = [type(report.result) for report in coordinator.results()]
            assert kinds.count(FailureResult) == 1
            assert kinds.count(DeltaResult) == 3

    asyncio.run(story())


def test_nothing_is_written_through_links_that_a_worker_left(tmp_path):
    """The next job's directory and its metadata file already stand there, as links elsewhere."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "bashrc").write_bytes(b"mine")

    async def story():
        async with attached(home) as (coordinator, agent):
            loop = agent.loop(2)
            working = asyncio.create_task(loop.run())
            await until(lambda: coordinator.requests)  # what earlier processes left is deleted
            work = home / "work"
            for kind in ("in", "out"):
                (work / "1" / kind).mkdir(parents=True)
                (work / "1" / kind / "1").symlink_to(elsewhere, target_is_directory=True)
                (work / "1" / kind / "2").mkdir()
            (work / "1" / "in" / "2" / "metadata.json").symlink_to(elsewhere / "bashrc")
            (work / "1" / "in" / "2" / "graph.json").symlink_to(elsewhere / "bashrc")
            (work / "1" / "out" / "2" / "delta.bin").symlink_to(elsewhere / "bashrc")
            (work / "1" / "out" / "2" / "checkpoint-0").mkdir()
            coordinator.plan(2)
            coordinator.arrived.set()
            await asyncio.wait_for(working, 15)
            assert loop.status.units_finished == 2

    asyncio.run(story())
    assert [path.name for path in elsewhere.iterdir()] == ["bashrc"]
    assert (elsewhere / "bashrc").read_bytes() == b"mine"


def test_log_and_flags_lie_where_no_worker_can_replace_them(tmp_path):
    work = tmp_path / "work"
    for path in (log_file(work), flag_file(work)):
        assert path.parent == work.parent
        assert path != work


def test_a_page_that_says_nonsense_counts_as_computing(tmp_path):
    """So the agent suspends the worker instead of ending with an error."""
    FlagPage.create(tmp_path / "flags").close()
    nonsense = b"\x00\xff" + (tmp_path / "flags").read_bytes()[2:]
    (tmp_path / "flags").write_bytes(nonsense)
    with FlagPage(tmp_path / "flags") as page:
        assert page.state is State.COMPUTING
