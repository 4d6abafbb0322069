"""torch as the worker uses it: pinned threads, deterministic kernels, and the facts about it."""

from __future__ import annotations

import platform

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_shared.protocol.messages import Runtime

__all__ = ["measure_runtime", "pin", "warm_up"]


def warm_up() -> None:
    """Load what training loads late, on one thread: the sandbox closes after this.

    Must come before anything else computes, since the number of inter-op threads is fixed then.
    """
    torch.set_num_interop_threads(1)
    torch.set_num_threads(1)
    with FakeTensorMode():
        torch.zeros(2, 2) @ torch.zeros(2, 2)
    weight = torch.zeros(2, 2, requires_grad=True)
    (weight @ torch.ones(2, 2)).sum().backward()  # type: ignore[no-untyped-call]


def pin(threads: int) -> None:
    """Make results depend on nothing but the unit, torch's build, the CPU and `threads`.

    Denormals stay as they are by default (kept): flushing them would make another class.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def measure_runtime() -> Runtime:
    """Return what decides about this process's rounding, as torch reports it."""
    return Runtime(
        torch=torch.__version__[:64],
        device="cpu",
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()}-{platform.machine()}".lower()[:64],
    )
