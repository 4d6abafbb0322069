"""A torch with cards of one kind that compute on the processor, and a queue that is on a clock.

The names are torch's own: `test_devices` holds them to the module.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from pleb_agent.core.devices import DeviceKind

CARD_BYTES = 8 * 2**30
CAPABILITIES = {
    DeviceKind.CUDA: "sm_90x132",
    DeviceKind.ROCM: "gfx1100x48",
    DeviceKind.XPU: "Arc A770x512",
    DeviceKind.MPS: "Apple M2x10",
}


class FakeTorch:
    """`waits` counts how often the queue was waited for; `free` is what the card has left."""

    def __init__(self, kind: DeviceKind, count: int = 1) -> None:
        self.kind = kind
        self.count = count
        self.waits = 0
        self.released = 0
        self.free = CARD_BYTES
        self.held = self.reserved = 0
        self.refusal = ""
        self.now = 0.0
        self.queued_seconds = 0.0
        self.precision = ""
        self.flags: dict[str, bool] = {}
        self.__version__ = "2.13.0"
        self.version = SimpleNamespace(hip="6.4" if kind is DeviceKind.ROCM else None)
        cards = SimpleNamespace(
            device_count=lambda: self.count,
            get_device_properties=self._properties,
            synchronize=self._synchronize,
            mem_get_info=lambda: (self.free, CARD_BYTES),
            memory_allocated=lambda: self.held,
            memory_reserved=lambda: self.reserved,
            max_memory_allocated=lambda: 1234,
            empty_cache=self._release,
        )
        none = SimpleNamespace(device_count=lambda: 0)
        is_cuda = kind in {DeviceKind.CUDA, DeviceKind.ROCM}
        self.cuda = cards if is_cuda else none
        self.xpu = cards if kind is DeviceKind.XPU else none
        self.mps = SimpleNamespace(
            synchronize=self._synchronize,
            driver_allocated_memory=lambda: 1234,
            empty_cache=self._release,
        )
        self.backends = SimpleNamespace(
            cuda=SimpleNamespace(
                matmul=SimpleNamespace(),
                enable_flash_sdp=lambda on: self.flags.update(flash=on),
                enable_cudnn_sdp=lambda on: self.flags.update(cudnn=on),
            ),
            cudnn=SimpleNamespace(),
            mkldnn=SimpleNamespace(),
            mps=SimpleNamespace(
                is_available=lambda: kind is DeviceKind.MPS,
                get_name=lambda: "Apple M2",
                get_core_count=lambda: 10,
            ),
        )

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.precision = precision

    def device(self, name: str) -> torch.device:
        assert name in {"cuda:0", "xpu:0", "mps:0"}
        return torch.device("cpu")

    def ones(self, *shape: int) -> torch.Tensor:
        if self.refusal:
            raise RuntimeError(self.refusal)
        return torch.ones(*shape)

    def clock(self) -> float:
        return self.now

    def _synchronize(self) -> None:
        self.waits += 1
        self.now += self.queued_seconds
        self.queued_seconds = 0.0

    def _release(self) -> None:
        self.released += 1

    def _properties(self, number: int) -> Any:
        assert number == 0, "a worker sees one card"
        return SimpleNamespace(
            name="Arc A770" if self.kind is DeviceKind.XPU else "Card",
            major=9,
            minor=0,
            gcnArchName="gfx1100:sramecc+:xnack-",
            multi_processor_count=48 if self.kind is DeviceKind.ROCM else 132,
            max_compute_units=512,
        )
