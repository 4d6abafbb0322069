"""torch as the worker uses it, and the memory that the process holds."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import TYPE_CHECKING, Final

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_agent.worker.compiler import leave_out_compiler
from pleb_shared.protocol.messages import Runtime
from pleb_shared.training.numerics import compute_strictly

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Numerics

__all__ = ["SpareMemory", "measure_runtime", "peak_resident_bytes", "pin", "warm_up"]


def warm_up(numerics: Numerics) -> None:
    """Load what training loads late, on one thread: the sandbox closes after this.

    Must come before anything else computes, since the number of inter-op threads and the numerics
    are fixed then.

    Raises:
        TrainingError: the process cannot compute strictly; it was started for native numerics.
    """
    torch.set_num_interop_threads(1)
    torch.set_num_threads(1)
    if numerics == "strict":
        compute_strictly(os.environ)
    leave_out_compiler()
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


def measure_runtime(threads: int) -> Runtime:
    """Return what decides about this process's rounding, with so many threads.

    They are not asked from torch, which might start them: the sandbox closes later.
    """
    return Runtime(
        torch=torch.__version__[:64],
        device="cpu",
        threads=threads,
        capability=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()}-{platform.machine()}".lower()[:64],
    )


_WORTH_BYTES: Final = 64 * 2**20


class SpareMemory:
    """What the allocator keeps after a job in case it is needed again.

    glibc keeps freed blocks of up to 32 MiB in its heap. Other systems' allocators give back by
    themselves, so nothing is done there.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._warm_bytes = self._resident_bytes()

    def give_back(self) -> None:
        """Return it to the system, if this process has grown by more than 64 MiB since it began."""
        if self._resident_bytes() < self._warm_bytes + _WORTH_BYTES:
            return
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        if trim is not None:
            trim(0)

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
