"""All devices keep one contract; each kind of card is driven by a torch that is a fake."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch

from pleb_agent.core.devices import (
    CPU,
    DeviceKind,
    kind_of,
    number_of,
    spare_card_bytes,
    variables,
)
from pleb_agent.worker.devices import cpu
from pleb_agent.worker.devices.accelerator import Accelerator
from pleb_agent.worker.devices.apart import ask_apart
from pleb_agent.worker.devices.backends import Card, backend_of
from pleb_agent.worker.devices.choice import choose_device
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.devices.device import DeviceUnusable
from pleb_agent.worker.errors import JobStopped, OutOfMemory
from pleb_agent.worker.execute import Executor
from pleb_agent.worker.inputs import BaseCache, GraphCache, VersionCache, read_metadata
from pleb_agent.worker.job import DeltaOutcome, EvaluationOutcome, Progress
from pleb_shared.errors import TrainingError
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.optimizers import make_optimizer
from tests.unit.worker.fake_torch import CAPABILITIES, CARD_BYTES, FakeTorch
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, undisturbed_digest

if TYPE_CHECKING:
    from pleb_agent.worker.devices.device import Device
    from pleb_agent.worker.job import Job, JobResult

EAGER = msgspec.structs.replace(SETTINGS, progress_seconds=0.0)
LOOKS_BEFORE_STEPS = 4
"""How often a job looks whether it may go on before its first step."""
CARDS = ["cuda-0", "rocm-1", "xpu-0", "mps-0"]
ALL = [CPU, *CARDS]


def make_device(name: str) -> Device:
    return Cpu() if name == CPU else make_card(name)[0]


def make_card(name: str) -> tuple[Accelerator, FakeTorch]:
    fake = FakeTorch(kind_of(name))
    return Accelerator(name, fake, ask=lambda question: question(), clock=fake.clock), fake


class Control:
    """Lets a job run, or stops it after so many looks."""

    suspensions = 0

    def __init__(self, looks: int = 10**6) -> None:
        self._left = looks

    def between_steps(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise JobStopped("enough")


class NoDeadline:
    def begin(self, seconds: float) -> None:
        """Nothing is late."""

    def rest(self) -> None:
        """Nothing is late."""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """What a device sets for its whole process is taken back."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda _: None)  # only once allowed
    monkeypatch.setattr(cpu, "leave_out_compiler", lambda: None)  # the sample project needs it
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def started(name: str) -> Device:
    device = make_device(name)
    device.warm_up("native")
    device.pin(1)
    return device


def run(device: Device, job: Job, control: Control) -> tuple[JobResult, list[Progress]]:
    said: list[Progress] = []
    if isinstance(device, Accelerator) and device._card is None:
        device.warm_up("native")
    executor = Executor(EAGER, "native", device, control, said.append, NoDeadline())  # type: ignore[arg-type]
    return executor.execute(job), said


@pytest.mark.parametrize("name", ALL)
def test_a_device_says_what_it_is_and_computes_the_same_unit(tmp_path: Path, name: str) -> None:
    device = started(name)
    assert (device.name, device.kind) == (name, name.partition("-")[0])
    runtime = device.runtime(1)
    assert runtime.device == device.kind
    capability = torch.backends.cpu.get_cpu_capability()
    assert runtime.capability == CAPABILITIES.get(device.kind, capability)
    busy = device.busy_seconds()
    job = make_job(tmp_path)
    result, _ = run(device, job, Control())
    assert isinstance(result.outcome, DeltaOutcome)
    assert result.outcome.digest == undisturbed_digest(job)
    assert result.peak_bytes > 0
    assert device.busy_seconds() >= busy
    assert device.lanes == 1
    free = device.free_bytes()
    assert free is None or 2**30 < free < CARD_BYTES - spare_card_bytes(CARD_BYTES)
    assert torch.are_deterministic_algorithms_enabled()
    device.synchronize()
    device.resumed()
    device.give_back()


@pytest.mark.parametrize("name", ALL)
def test_a_job_resumes_on_a_device_of_the_same_kind_alone(tmp_path: Path, name: str) -> None:
    other = "xpu-0" if name == "cuda-0" else "cuda-0"
    job = make_job(tmp_path)
    with pytest.raises(JobStopped):
        run(started(name), job, Control(LOOKS_BEFORE_STEPS + 5))
    _, elsewhere = run(started(other), job, Control())
    result, here = run(started(name), job, Control())
    assert (elsewhere[0].steps_done, here[0].steps_done) == (1, 6)
    assert isinstance(result.outcome, DeltaOutcome)
    assert result.outcome.digest == undisturbed_digest(job)


@pytest.mark.parametrize("name", ALL)
def test_a_device_evaluates(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path, kind=UnitKind.EVALUATE)
    result, _ = run(started(name), job, Control())
    expected, _ = run(started(CPU), job, Control())
    assert isinstance(result.outcome, EvaluationOutcome)
    assert result.outcome == expected.outcome


@pytest.mark.parametrize("name", CARDS)
def test_only_the_processor_has_strict_numerics(name: str) -> None:
    with pytest.raises(TrainingError, match="Only the processor"):
        make_card(name)[0].warm_up("strict")


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_is_not_there_is_said(name: str) -> None:
    device, fake = make_card(name)
    fake.count = 0
    fake.backends.mps.is_available = lambda: False
    with pytest.raises(DeviceUnusable, match=f"finds no {name}"):
        device.warm_up("native")


def test_a_build_for_the_other_maker_finds_no_card() -> None:
    fake = FakeTorch(DeviceKind.ROCM)
    assert backend_of(DeviceKind.CUDA, fake).count() == 0
    assert backend_of(DeviceKind.ROCM, fake).count() == 1


def test_a_driver_that_refuses_ends_the_start_with_its_words() -> None:
    device, fake = make_card("cuda-0")
    device.warm_up("native")
    fake.refusal = "no kernel image"
    with pytest.raises(DeviceUnusable, match="cuda-0 does not start: no kernel image"):
        device.pin(1)


def test_a_unit_that_the_card_has_no_room_for_is_refused(tmp_path: Path) -> None:
    device, fake = make_card("cuda-0")
    fake.free = 2**28 + 1000
    job = make_job(tmp_path)
    with pytest.raises(OutOfMemory, match="free on cuda-0"):
        run(device, job, Control())
    fake.reserved = 2**30  # held without need: that is room too
    run(device, job, Control())


def test_a_card_gives_back_what_it_only_keeps() -> None:
    device, fake = make_card("xpu-0")
    device.give_back()
    assert fake.released == 1


def test_float32_alone_in_one_order() -> None:
    device, fake = make_card("cuda-0")
    device.warm_up("native")
    device.pin(4)
    assert fake.precision == "highest"
    assert not fake.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    cudnn = fake.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == (False, False, True)
    assert fake.flags == {"flash": False, "cudnn": False}
    environment = variables("cuda-3")
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert environment["NVIDIA_TF32_OVERRIDE"] == "0"
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert variables("cuda-3", "GPU-1f")["CUDA_VISIBLE_DEVICES"] == "GPU-1f"
    assert variables("rocm-1", "GPU-1f")["ROCR_VISIBLE_DEVICES"] == "GPU-1f"


@pytest.mark.parametrize("kind", list(CAPABILITIES))
def test_torch_has_what_the_fake_has(kind: DeviceKind, recwarn) -> None:
    """So that a release which takes a name away fails here, where no card is needed."""
    backends = torch.backends
    kept = (backends.cudnn.allow_tf32, backends.cudnn.benchmark, backends.cudnn.deterministic)
    matmul = backends.cuda.matmul
    halves = (
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )
    mkldnn = backends.mkldnn.deterministic
    attention = (backends.cuda.flash_sdp_enabled(), backends.cuda.cudnn_sdp_enabled())
    try:
        backend = backend_of(kind, torch)
        backend.pin()
        assert torch.get_float32_matmul_precision() == "highest"
        module = getattr(torch, backend.type)
        fake = getattr(FakeTorch(kind), backend.type)
        assert [name for name in vars(fake) if not hasattr(module, name)] == []
        assert backend.count() in {0, 1}
    finally:
        backends.cudnn.allow_tf32, backends.cudnn.benchmark, backends.cudnn.deterministic = kept
        matmul.allow_fp16_reduced_precision_reduction = halves[0]
        matmul.allow_bf16_reduced_precision_reduction = halves[1]
        backends.mkldnn.deterministic = mkldnn
        backends.cuda.enable_flash_sdp(attention[0])
        backends.cuda.enable_cudnn_sdp(attention[1])


def test_nothing_of_a_step_is_left_on_another_device(tmp_path: Path) -> None:
    """On tensors without values, which torch lets nobody mix with those of the processor."""
    job = make_job(tmp_path)
    metadata = read_metadata(job)
    version, _ = VersionCache().get(job, metadata)
    place = torch.device("meta")
    device = Cpu()
    device.place = place
    parts: list[int] = []
    device.part_done = lambda: parts.append(1)  # type: ignore[assignment]
    graph = GraphCache(2**30, device).get(job, metadata).compiled
    graph = graph.with_base(BaseCache(place).get(job, metadata))
    tensors = {name: torch.from_numpy(array.copy()).to(place) for name, array in version.items()}
    trained = {s.name: tensors[s.name].requires_grad_() for s in metadata.model.parameters}
    inputs = {
        spec.name: torch.zeros(
            [metadata.training.batch_examples, *spec.shape],
            dtype=getattr(torch, spec.dtype),
            device=place,
        )
        for spec in metadata.data.inputs
    }
    loss = graph.run(tensors, tensors, inputs, NodeDraws(1, 0))["loss"]
    forward = len(parts)
    assert forward == len(graph.graph.nodes)
    loss.backward()
    backward = len(parts)
    assert backward > forward
    optimizer = make_optimizer(metadata.training, trained, None, [0.1])
    optimizer.step(trained, 0.1, device.part_done)
    assert len(parts) == backward + len(trained)
    assert {one.device for one in [*tensors.values(), loss]} == {place}
    inputs["x"] = inputs["x"].new_zeros(inputs["x"].shape, device="cpu")
    with pytest.raises(TrainingError, match="device"):
        graph.run(tensors, tensors, inputs, NodeDraws(1, 0))


def test_names() -> None:
    assert (number_of("cuda-12"), number_of(CPU)) == (12, 0)
    for wrong in ("gpu", "cuda", "cuda-", "cuda-01", "cuda-100", "../cuda-0", "cpu-0"):
        with pytest.raises(ValueError, match="is no device"):
            kind_of(wrong)


def test_a_process_computes_on_the_processor() -> None:
    device = choose_device()
    assert isinstance(device, Cpu)
    runtime = device.runtime(3)
    assert (runtime.device, runtime.threads) == ("cpu", 3)
    assert runtime.capability == torch.backends.cpu.get_cpu_capability()
    assert device.peak_bytes() > 2**20
    device.give_back()


def test_this_build_of_torch_says_that_it_drives_no_card() -> None:
    device = choose_device("cuda-0")
    with pytest.raises(DeviceUnusable, match=r"finds no cuda-0: install its build for CUDA"):
        device.warm_up("native")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process itself asks")
def test_a_driver_is_asked_in_a_process_of_its_own() -> None:
    import os

    me = os.getpid()

    def question() -> Card:
        assert os.getpid() != me
        return Card("Card", "sm_90x1")

    assert ask_apart(question) == Card("Card", "sm_90x1")

    def refuses() -> Card:
        raise RuntimeError("driver too old")

    with pytest.raises(DeviceUnusable, match="driver too old"):
        ask_apart(refuses)

    def dies() -> Card:
        os._exit(3)

    with pytest.raises(DeviceUnusable, match="ended the process"):
        ask_apart(dies)


def test_no_other_module_asks_torch_for_a_device() -> None:
    root = Path(__file__).parents[3]
    asks = re.compile(r"torch\.(cuda|xpu|mps|version|accelerator|backends)\b")
    folders = [root / "agent/pleb_agent", root / "shared/pleb_shared"]
    found = {
        str(path.relative_to(root))
        for folder in folders
        for path in folder.rglob("*.py")
        if asks.search(path.read_text())
    }
    assert {name for name in found if "/worker/devices/" not in name} == {
        "shared/pleb_shared/training/numerics.py"  # strict ones, which only the processor has
    }
