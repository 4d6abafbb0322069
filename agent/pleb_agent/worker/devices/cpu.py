"""The processor, on which every PC computes."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from typing import TYPE_CHECKING, Final

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_agent.core.devices import CPU, DeviceKind
from pleb_agent.worker.compiler import leave_out_compiler
from pleb_shared.protocol.messages import Runtime
from pleb_shared.training.numerics import compute_strictly

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Numerics

__all__ = ["Cpu"]


_WORTH_BYTES: Final = 64 * 2**20


class Cpu:
    """The processor, with the instructions that torch chooses on it."""

    name = CPU
    kind = DeviceKind.CPU
    part_done = None
    """What a step has computed when a call returns is done."""

    def __init__(self) -> None:
        self.place = torch.device("cpu")
        self.lanes = 1
        self._process = psutil.Process()
        self._warm_bytes = 0

    def warm_up(self, numerics: Numerics) -> None:
        """Load all, with one inter-op thread for good; the dry run's parts, too.

        MKL sets its vector functions up at the first call of one, without a lock: if several
        threads make that call at once, some compute it less exactly. Here one thread makes it.
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
        torch.ones(2).exp()
        self._warm_bytes = self._resident_bytes()

    def runtime(self, threads: int) -> Runtime:
        """Return it without asking torch for threads, which might start them.

        The sandbox closes later.
        """
        return Runtime(
            torch=torch.__version__[:64],
            device=DeviceKind.CPU.value,
            threads=threads,
            capability=torch.backends.cpu.get_cpu_capability(),
            system=f"{platform.system()}-{platform.machine()}".lower()[:64],
        )

    def pin(self, threads: int) -> None:
        """Set them. Denormals stay as they are by default (kept): else it were another class."""
        self.lanes = threads
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=True)

    def synchronize(self) -> None:
        """Nothing is queued."""

    def busy_seconds(self) -> float:
        """Return the processor time of all threads."""
        return time.process_time()

    def resumed(self) -> None:
        """A suspended process has no processor time."""

    def peak_bytes(self) -> int:
        """Return the highest resident memory."""
        if sys.platform == "win32":
            return int(self._process.memory_info().peak_wset)
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def free_bytes(self) -> None:
        """The processor computes in the system's memory, which the agent watches."""

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
