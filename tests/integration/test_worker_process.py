"""A real worker process computes real units: results, errors, and what stays warm."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

from pleb_agent.core.devices import FoundDevice
from pleb_agent.doctor.checks import check_device
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.errors import (
    BrokenInput,
    GraphRefused,
    NotFinite,
    OutOfMemory,
    RuntimeMissing,
    WorkerDied,
    WorkerUnusable,
)
from pleb_agent.worker.inputs import BaseCache, GraphCache, VersionCache, read_metadata, read_shards
from pleb_agent.worker.job import (
    DeltaOutcome,
    EvaluationOutcome,
    Progress,
)
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.showcase import fault_of
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import delta_format
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.graph import CompiledGraph
from pleb_shared.training.showcase import show
from tests.unit.worker.sample_job import sample, showcase_of
from tests.unit.worker.stories import (
    SETTINGS,
    WarmWorkers,
    digest_from,
    new_job,
    result_of,
    undisturbed_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.worker.job import Job
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.showcase import Showcase
    from tests.unit.worker.sample_job import Sample


SAME: dict[str, Any] = {"graph": "that of the file"}


def change_metadata(job: Job, change: Callable[[ProjectMetadata], ProjectMetadata]) -> Job:
    path = job.input_dir / job.metadata
    path.write_bytes(strict_json.encode(change(read_metadata(job))))
    return job


def test_a_worker_gives_the_bits_of_undisturbed_training(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        for version in (0, 2, 3):
            job = new_job(worker, version=version)
            outcome = (await result_of(worker, job)).outcome
            assert isinstance(outcome, DeltaOutcome)
            assert outcome.digest == undisturbed_digest(job)
            data = (job.output_dir / outcome.file).read_bytes()
            encoded = delta_format(read_metadata(job), job.unit).unpack(data)
            assert (digest_of(encoded), len(data)) == (outcome.digest, outcome.size)
            assert outcome.loss_last < outcome.loss_first

    workers.run(story)


def test_a_frozen_build_without_torch_says_so_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pleb_agent.worker.process.is_frozen", lambda: True)

    async def story() -> None:
        worker = WorkerProcess(tmp_path, SETTINGS)
        with pytest.raises(RuntimeMissing, match="not installed yet"):
            await worker.start()
        assert worker.pid is None

    asyncio.run(story())


def test_calibration_and_evaluation_units(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, kind=UnitKind.CALIBRATE, steps=3)
        assert await digest_from(worker, job) == undisturbed_digest(job)
        job = new_job(worker, kind=UnitKind.EVALUATE, version=3, steps=0)
        metadata = read_metadata(job)
        version, _ = VersionCache().get(job, metadata)
        base = BaseCache(Cpu().place).get(job, metadata)
        graph = GraphCache(2**30, Cpu()).get(job, metadata).compiled.with_base(base)
        metrics, examples = evaluate(graph, metadata, job.unit, version, read_shards(job))
        outcome = (await result_of(worker, job)).outcome
        assert outcome == EvaluationOutcome(metrics=metrics, examples=examples)

    workers.run(story)


def test_an_evaluation_says_what_the_model_sees(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        asked = showcase_of()
        job = _showing(worker, asked, sample().showcase_graph)
        metadata = read_metadata(job)
        version, _ = VersionCache().get(job, metadata)
        base = BaseCache(Cpu().place).get(job, metadata)
        graph = CompiledGraph(parse_graph(sample().showcase_graph)).with_base(base)
        outcome = (await result_of(worker, job)).outcome
        assert isinstance(outcome, EvaluationOutcome)
        assert outcome.showcase == show(graph, metadata, asked, version, read_shards(job))
        assert fault_of(asked, outcome.showcase) == ""

    workers.run(story)


@pytest.mark.parametrize(
    ("changes", "graph"),
    [
        ({"examples": [0, 200]}, lambda s: s.showcase_graph),
        ({"width": 3}, lambda s: s.showcase_graph),
        ({"graph": blob_of(b"another")}, lambda s: s.showcase_graph),
        ({"graph": blob_of(b"another")}, lambda _: b""),
        (SAME, lambda _: b"{}"),
        (SAME, lambda s: s.evaluation_graph),
        (SAME, lambda s: s.training_graph),
    ],
)
def test_a_showcase_that_fails_costs_no_metrics(
    workers: WarmWorkers, changes: dict[str, Any], graph: Callable[[Sample], bytes]
) -> None:
    async def story(worker: WorkerProcess) -> None:
        data = graph(sample())
        given = changes | ({"graph": blob_of(data)} if changes == SAME else {})
        outcome = (await result_of(worker, _showing(worker, showcase_of(**given), data))).outcome
        assert isinstance(outcome, EvaluationOutcome)
        assert outcome.metrics["accuracy"] >= 0
        assert outcome.showcase is msgspec.UNSET

    workers.run(story)


def _showing(worker: WorkerProcess, showcase: Showcase, graph: bytes) -> Job:
    """Return an evaluation of version 3 with a showcase; an empty graph has no file."""
    job = new_job(worker, kind=UnitKind.EVALUATE, version=3, steps=0)
    if graph:
        (job.input_dir / job.showcase).write_bytes(graph)
    return change_metadata(job, lambda m: msgspec.structs.replace(m, showcase=showcase))


def test_the_runtime_is_measured_in_the_child(tmp_path: Path) -> None:
    async def story() -> None:
        worker = WorkerProcess(tmp_path, msgspec.structs.replace(SETTINGS, threads=2))
        runtime = await worker.start()
        assert worker.pid is not None
        await worker.close()
        assert (runtime.torch, runtime.threads) == (torch.__version__, 2)
        assert runtime.capability == torch.backends.cpu.get_cpu_capability()
        (found,) = await check_device()
        assert found.is_well
        assert found.sentence == f"CPU with {runtime.capability}, PyTorch {runtime.torch}."

    asyncio.run(story())


def test_two_threads_repeat_to_the_bit(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        jobs = [new_job(worker, width=512) for i in range(3)]
        digests = [await digest_from(worker, job) for job in jobs]
        assert len(set(digests)) == 1

    workers.run(story, msgspec.structs.replace(SETTINGS, threads=2))


def test_each_failure_has_its_error_and_the_worker_takes_the_next_job(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        pid = worker.pid
        diverging = change_metadata(
            new_job(worker, steps=60),
            lambda m: msgspec.structs.replace(
                m, training=msgspec.structs.replace(m.training, learning_rate=1e30)
            ),
        )
        with pytest.raises(NotFinite):
            await result_of(worker, diverging)
        missing = new_job(worker)
        (missing.input_dir / missing.shards[0]).unlink()
        with pytest.raises(BrokenInput, match="shard-0"):
            await result_of(worker, missing)
        outside = new_job(worker)
        (outside.input_dir / outside.shards[1]).unlink()
        (outside.input_dir / outside.shards[1]).symlink_to("/etc/passwd")
        with pytest.raises(BrokenInput, match=r"Permission denied|No such file"):
            await result_of(worker, outside)
        strange = new_job(worker)
        graph = strange.input_dir / strange.graph
        data = graph.read_bytes().replace(b"aten.relu.default", b"aten.from_file.default")
        graph.write_bytes(data)
        blob = blob_of(data)
        change_metadata(strange, lambda m: msgspec.structs.replace(m, training_graph=blob))
        with pytest.raises(GraphRefused, match="from_file"):
            await result_of(worker, strange)
        with pytest.raises(OutOfMemory, match="the project declares"):
            await result_of(worker, new_job(worker, memory_bytes=2**20, width=9000))
        job = new_job(worker)
        assert await digest_from(worker, job) == undisturbed_digest(job)
        assert worker.pid == pid

    workers.run(story)


def test_the_systems_limit_holds_what_the_dry_run_misses(workers: WarmWorkers) -> None:
    """A snapshot that is not of the model's size never meets the dry run's estimate."""

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker)
        with (job.input_dir / job.snapshot).open("r+b") as file:
            file.truncate(3 * 2**30)  # sparse: costs the disk nothing
        with pytest.raises(OutOfMemory):
            await result_of(worker, job)
        good = new_job(worker)
        assert await digest_from(worker, good) == undisturbed_digest(good)

    workers.run(story, msgspec.structs.replace(SETTINGS, memory_bytes=2**28))


def test_a_dead_worker_is_reported_and_the_next_run_starts_another(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=20_000)
        first = worker.pid
        assert first is not None
        replies = worker.run(job)
        assert isinstance(await anext(replies), Progress)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="-9"):
            [_ async for _ in replies]
        short = new_job(worker)
        assert await digest_from(worker, short) == undisturbed_digest(short)
        assert worker.pid != first

    workers.run(story)


def test_a_cancelled_job_is_not_computed_any_further(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=50_000)
        task = asyncio.create_task(result_of(worker, job))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        short = new_job(worker)
        assert await digest_from(worker, short) == undisturbed_digest(short)

    workers.run(story)


def test_closing_ends_a_running_job(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        task = asyncio.create_task(result_of(worker, new_job(worker, steps=50_000)))
        await asyncio.sleep(0.3)
        await worker.close()
        with pytest.raises(WorkerDied, match="closed"):
            await task

    workers.run(story)


def test_a_worker_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not for this PC')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")

    async def story() -> None:
        worker = WorkerProcess(tmp_path / "work", SETTINGS)
        with pytest.raises(WorkerUnusable, match="torch is not for this PC"):
            await worker.start()
        (found,) = await check_device()
        assert not found.is_well
        assert "torch is not for this PC" in found.sentence

    asyncio.run(story())


def test_a_torch_that_does_not_drive_the_device_is_a_runtime_that_is_missing(tmp_path):
    async def story():
        worker = WorkerProcess(tmp_path / "work-cuda-0", SETTINGS, FoundDevice("cuda-0", "Card"))
        try:
            with pytest.raises(RuntimeMissing, match="finds no cuda-0: install its build for CUDA"):
                await worker.start()
        finally:
            await worker.close()

    asyncio.run(story())
