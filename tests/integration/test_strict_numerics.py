"""A strict project in a real worker: the same bits whatever the volunteer gives, or refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from pleb_agent.worker.errors import NumericsUnavailable, Remedy
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol.messages import Runtime
from pleb_shared.protocol.numerics import variables
from pleb_shared.protocol.unit import UnitKind
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, digest_from, result_of

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.job import Job

ELSEWHERE: Final = """
import os, sys
import msgspec
from pleb_agent.worker.job import Job
from pleb_shared.training.numerics import compute_strictly
from tests.unit.worker.stories import undisturbed_digest
compute_strictly(os.environ)
print(undisturbed_digest(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)))
"""
STRICT_OPERATORS: Final = """
import os
import torch
from pleb_shared.training.numerics import compute_strictly
compute_strictly(os.environ)
compute_strictly(os.environ)
a, b = torch.randn(80, 170), torch.randn(170, 60)
small, bias, stack = torch.randn(5, 170), torch.randn(60), torch.randn(3, 200, 90)
def near(x, y):
    assert torch.allclose(x.double(), y, rtol=1e-4, atol=1e-4)
near(a @ b, a.double() @ b.double())
near(small @ b, small.double() @ b.double())
near(torch.addmm(bias, a, b), bias.double() + a.double() @ b.double())
near(torch.addmm(bias, a, b, alpha=2), bias.double() + 2 * (a.double() @ b.double()))
near(torch.bmm(stack, stack.mT), stack.double() @ stack.double().mT)
near(a.t() @ a, a.double().t() @ a.double())
near(a.abs().sqrt(), a.double().abs().sqrt())
near(a.atan(), a.double().atan())
assert torch.tensor([4, 9]).sqrt().tolist() == [2, 3]
assert (torch.ones(0, 64) @ torch.ones(64, 3)).shape == (0, 3)
x = torch.tensor([4.0, 9.0]); x.sqrt_(); assert x.tolist() == [2, 3]
lstm = torch.nn.LSTM(8, 16, batch_first=True)
wide = torch.nn.LSTM(8, 16, batch_first=True).double()
wide.load_state_dict(lstm.state_dict())
steps = torch.randn(4, 6, 8)
near(lstm(steps)[0], wide(steps.double())[0])
lstm(steps)[0].sum().backward()
weight = torch.randn(90, 90, requires_grad=True)
x = torch.randn(150, 90)
((x @ weight) ** 2).sqrt().sum().backward()
near(weight.grad, x.double().t() @ (x @ weight).sign().double())
for wrong in ((a, a), (torch.ones(999), torch.ones(999, 999)), (a, b.double())):
    try:
        torch.mm(*wrong)
    except RuntimeError:
        continue
    raise AssertionError(wrong)
print("right")
"""


def strict_process(
    code: str, *, given: bytes = b"", **changes: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **variables("strict"), **changes}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, input=given, capture_output=True, env=environment, check=False)


def strict_job(worker: WorkerProcess, name: str) -> Job:
    return make_job(worker.work_dir, name=name, kind=UnitKind.CALIBRATE, numerics="strict")


async def digest_with(folder: Path, threads: int) -> str:
    worker = WorkerProcess(folder, msgspec.structs.replace(SETTINGS, threads=threads))
    try:
        return await digest_from(worker, strict_job(worker, "job"))
    finally:
        await worker.close()


def test_a_strict_unit_gives_the_same_bits_whatever_threads_the_volunteer_gives(tmp_path):
    digests = {asyncio.run(digest_with(tmp_path / str(n), threads=n)) for n in (1, 2)}
    job = make_job(tmp_path / "elsewhere", kind=UnitKind.CALIBRATE, numerics="strict")
    elsewhere = strict_process(ELSEWHERE, given=msgspec.json.encode(job))
    assert digests == {elsewhere.stdout.decode().strip()}, elsewhere.stderr.decode()


def test_a_process_with_other_numerics_is_not_used(tmp_path):
    async def story() -> None:
        worker = WorkerProcess(tmp_path, SETTINGS)
        try:
            runtime = await worker.start()
            native = worker.pid
            await result_of(worker, strict_job(worker, "one"))
            strict = worker.pid
            await result_of(worker, strict_job(worker, "two"))
            assert native != strict == worker.pid, "it stays warm for the project"
            await result_of(worker, make_job(worker.work_dir, name="three"))
            assert worker.pid != strict
            assert runtime.under("strict").fingerprint() != runtime.fingerprint()
            wrong = msgspec.structs.replace(strict_job(worker, "four"), numerics="native")
            with pytest.raises(NumericsUnavailable, match="strict numerics"):
                await result_of(worker, wrong)
        finally:
            await worker.close()

    asyncio.run(story())


def test_a_pc_that_cannot_compute_strictly_gives_the_unit_back(tmp_path, monkeypatch):
    reason = "The project runs in strict numerics, which need a processor with AVX2"

    async def story() -> None:
        worker = WorkerProcess(tmp_path, SETTINGS)
        monkeypatch.setattr(Runtime, "lacks", lambda _, numerics: reason)
        try:
            with pytest.raises(NumericsUnavailable, match="AVX2") as caught:
                await result_of(worker, strict_job(worker, "one"))
            assert caught.value.remedy is Remedy.GIVE_BACK
        finally:
            await worker.close()

    asyncio.run(story())


def test_replaced_operators_give_the_right_values_gradients_and_refusals():
    found = strict_process(STRICT_OPERATORS)
    assert found.stdout.decode().strip() == "right", found.stderr.decode()


def test_strict_numerics_are_refused_where_torch_was_loaded_without_them():
    code = (
        "import os; from pleb_shared.training.numerics import compute_strictly as c; c(os.environ)"
    )
    found = strict_process(code, MKL_CBWR="AVX2")
    assert found.returncode
    assert "need MKL_CBWR set before torch is loaded" in found.stderr.decode()
