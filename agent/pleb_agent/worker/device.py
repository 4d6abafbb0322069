"""The device that a worker computes on: the one module that knows which one it is."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import TYPE_CHECKING, Final, Protocol

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_agent.worker.compiler import leave_out_compiler
from pleb_shared.protocol.messages import Runtime
from pleb_shared.training.numerics import compute_strictly

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Numerics

__all__ = ["Cpu", "Device", "choose_device"]


class Device(Protocol):
    """What a worker asks of its device, in this order."""

    def warm_up(self, numerics: Numerics) -> None:
        """Load what training loads late, on one thread: the sandbox closes after this.

        Must come before anything else computes, since the numerics are fixed then.

        Raises:
            TrainingError: the process cannot compute strictly; it was started for native numerics.
        """

    def runtime(self, threads: int) -> Runtime:
        """Return what decides about this process's rounding, with so many threads."""

    def pin(self, threads: int) -> None:
        """Make results depend on nothing but the unit, the device, torch's build and `threads`."""

    def peak_bytes(self) -> int:
        """Return the most memory that this process has held so far."""

    def give_back(self) -> None:
        """Return memory to the system that is only kept in case it is needed again."""


def choose_device() -> Device:
    """Return the device that this process computes on; called once, before torch is used."""
    return Cpu()


_WORTH_BYTES: Final = 64 * 2**20


class Cpu:
    """The processor, with the instructions that torch chooses on it."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._warm_bytes = 0

    def warm_up(self, numerics: Numerics) -> None:
        """Load all, with one inter-op thread for good; the dry run's parts, too."""
        torch.set_num_interop_threads(1)
        torch.set_num_threads(1)
        if numerics == "strict":
            compute_strictly(os.environ)
        leave_out_compiler()
        with FakeTensorMode():
            torch.zeros(2, 2) @ torch.zeros(2, 2)
        weight = torch.zeros(2, 2, requires_grad=True)
        (weight @ torch.ones(2, 2)).sum().backward()  # type: ignore[no-untyped-call]
        self._warm_bytes = self._resident_bytes()

    def runtime(self, threads: int) -> Runtime:
        """Return it without asking torch for threads, which might start them.

        The sandbox closes later.
        """
        return Runtime(
            torch=torch.__version__[:64],
            device="cpu",
            threads=threads,
            capability=torch.backends.cpu.get_cpu_capability(),
            system=f"{platform.system()}-{platform.machine()}".lower()[:64],
        )

    def pin(self, threads: int) -> None:
        """Set them. Denormals stay as they are by default (kept): else it were another class."""
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=True)

    def peak_bytes(self) -> int:
        """Return the highest resident memory."""
        if sys.platform == "win32":
            return int(self._process.memory_info().peak_wset)
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def give_back(self) -> None:
        """Give back freed blocks if this process has grown by more than 64 MiB since it was warm.

        glibc keeps those of up to 32 MiB in its heap. Other systems' allocators give back by
        themselves, so nothing is done there.
        """
        if self._resident_bytes() < self._warm_bytes + _WORTH_BYTES:
            return
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        if trim is not None:
            trim(0)

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)
