"""What torch offers for each kind of card, in one form. `torch` is the module, or a fake of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pleb_agent.core.devices import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backend", "Card", "CudaBackend", "MpsBackend", "XpuBackend", "backend_of"]


@dataclass(frozen=True)
class Card:
    """What a driver says about the worker's card."""

    name: str
    capability: str
    """What decides about rounding: the architecture's number, and how many units it has."""


class Backend(Protocol):
    """The part of torch that drives the one card which this process sees."""

    type: str
    """What torch calls the place of tensors there: `cuda`, `xpu`, `mps`."""

    def count(self) -> int:
        """Return how many cards this process sees; starts no driver that stays."""

    def card(self) -> Card:
        """Ask the driver, which this starts."""

    def pin(self) -> None:
        """Compute in float32 alone and in one order."""

    def synchronize(self) -> None:
        """Return when the card has computed all that was queued."""

    def memory(self) -> tuple[int, int] | None:
        """Return the bytes of the card's memory: free, for this process too; and all.

        None: it has none of its own.
        """

    def peak_bytes(self) -> int:
        """Return the most memory that tensors have taken so far."""

    def release(self) -> None:
        """Return what only waits to be used again."""


class CudaBackend:
    """NVIDIA's cards, and AMD's by torch's builds for ROCm, which have the same interface."""

    type = "cuda"

    def __init__(self, torch: Any, kind: DeviceKind) -> None:
        self._torch = torch
        self._is_rocm = kind is DeviceKind.ROCM

    def count(self) -> int:
        """Return 0 where torch is built for the other maker's cards."""
        if (getattr(self._torch.version, "hip", None) is not None) is not self._is_rocm:
            return 0
        return int(self._torch.cuda.device_count())

    def card(self) -> Card:
        """Return the architecture, such as sm_90 or gfx1100, and the multiprocessors.

        Kernels split their work by both.
        """
        found = self._torch.cuda.get_device_properties(0)
        if self._is_rocm:
            architecture = str(found.gcnArchName).partition(":")[0]
        else:
            architecture = f"sm_{found.major}{found.minor}"
        return Card(str(found.name), f"{architecture}x{found.multi_processor_count}")

    def pin(self) -> None:
        """No TF32, no half precision inside of sums, no choice of algorithms by trying them.

        Of the kernels for attention only those that torch can make deterministic stay.
        """
        backends = self._torch.backends
        self._torch.set_float32_matmul_precision("highest")
        backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        backends.cudnn.allow_tf32 = False
        backends.cudnn.benchmark = False
        backends.cudnn.deterministic = True
        backends.cuda.enable_flash_sdp(False)
        backends.cuda.enable_cudnn_sdp(False)

    def synchronize(self) -> None:
        """Wait for all streams."""
        self._torch.cuda.synchronize()

    def memory(self) -> tuple[int, int]:
        """Return as free what no process holds, and what this one holds without need."""
        cuda = self._torch.cuda
        free, total = cuda.mem_get_info()
        kept = int(cuda.memory_reserved()) - int(cuda.memory_allocated())
        return int(free) + kept, int(total)

    def peak_bytes(self) -> int:
        """Return torch's own count."""
        return int(self._torch.cuda.max_memory_allocated())

    def release(self) -> None:
        """Empty the allocator's cache."""
        self._torch.cuda.empty_cache()


class XpuBackend:
    """Intel's cards."""

    type = "xpu"

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def count(self) -> int:
        """Return 0 where torch is not built for them."""
        return int(self._torch.xpu.device_count())

    def card(self) -> Card:
        """Return the name, which stands for the architecture, and the execution units."""
        found = self._torch.xpu.get_device_properties(0)
        return Card(str(found.name), f"{found.name}x{found.max_compute_units}")

    def pin(self) -> None:
        """No TF32 in oneDNN, which computes here, and its deterministic kernels."""
        backends = self._torch.backends
        self._torch.set_float32_matmul_precision("highest")
        backends.mkldnn.allow_tf32 = False
        backends.mkldnn.deterministic = True

    def synchronize(self) -> None:
        """Wait for all streams."""
        self._torch.xpu.synchronize()

    def memory(self) -> tuple[int, int]:
        """Return as free what no process holds, and what this one holds without need."""
        xpu = self._torch.xpu
        free, total = xpu.mem_get_info()
        kept = int(xpu.memory_reserved()) - int(xpu.memory_allocated())
        return int(free) + kept, int(total)

    def peak_bytes(self) -> int:
        """Return torch's own count."""
        return int(self._torch.xpu.max_memory_allocated())

    def release(self) -> None:
        """Empty the allocator's cache."""
        self._torch.xpu.empty_cache()


class MpsBackend:
    """The graphics part of Apple's processors, in the system's own memory."""

    type = "mps"

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._peak_bytes = 0

    def count(self) -> int:
        """Return 0 or 1."""
        return int(bool(self._torch.backends.mps.is_available()))

    def card(self) -> Card:
        """Return the chip's name, from which all follows."""
        name = str(self._torch.backends.mps.get_name())
        cores = int(self._torch.backends.mps.get_core_count())
        return Card(name, f"{name}x{cores}")

    def pin(self) -> None:
        """Nothing but float32 is used, unless a graph says so."""
        self._torch.set_float32_matmul_precision("highest")

    def synchronize(self) -> None:
        """Wait for the queue; torch keeps no peak, so look at what is held now."""
        self._torch.mps.synchronize()
        self._peak_bytes = max(self._peak_bytes, int(self._torch.mps.driver_allocated_memory()))

    def memory(self) -> None:
        """The memory is the system's, which the agent watches."""

    def peak_bytes(self) -> int:
        """Return the most that was held when the queue was waited for."""
        return self._peak_bytes

    def release(self) -> None:
        """Empty the allocator's cache."""
        self._torch.mps.empty_cache()


def backend_of(kind: DeviceKind, torch: Any) -> Backend:
    """Return how torch drives this kind of card."""
    make: dict[DeviceKind, Callable[[], Backend]] = {
        DeviceKind.CUDA: lambda: CudaBackend(torch, kind),
        DeviceKind.ROCM: lambda: CudaBackend(torch, kind),
        DeviceKind.XPU: lambda: XpuBackend(torch),
        DeviceKind.MPS: lambda: MpsBackend(torch),
    }
    return make[kind]()
