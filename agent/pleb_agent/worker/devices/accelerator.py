"""A card: what all kinds of them have in common."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.devices import kind_of, spare_card_bytes
from pleb_agent.worker.devices.apart import ask_apart
from pleb_agent.worker.devices.backends import Card, backend_of
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.devices.device import DeviceUnusable
from pleb_agent.worker.devices.quanta import Quanta
from pleb_shared.errors import TrainingError
from pleb_shared.protocol.messages import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from pleb_agent.core.devices import DeviceKind
    from pleb_shared.protocol.project import Numerics

__all__ = ["Accelerator"]

_THREADS: Final = 1
"""Of the processor: it only queues work, and a card is a class whatever the threads are."""
_SHORT: Final = 64
_BESIDE_BYTES: Final = 256 * 2**20
"""What kernels need beside their tensors."""


class Accelerator:
    """The card `name`, by way of `torch`: the module, or a fake of it.

    Starting a driver also starts threads, and around a process with several threads the sandbox
    does not close. So the driver is asked in a process of its own at first (`ask`), and started in
    this one by `pin`, inside the sandbox.
    """

    def __init__(
        self,
        name: str,
        torch: Any,
        *,
        ask: Callable[[Callable[[], Card]], Card] = ask_apart,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._torch = torch
        self._ask = ask
        self._backend = backend_of(kind_of(name), torch)
        self._host = Cpu()
        self._quanta = Quanta(self._backend.synchronize, clock)
        self._card: Card | None = None
        self.lanes = 1

    @property
    def kind(self) -> DeviceKind:
        """By whose library it computes."""
        return kind_of(self.name)

    @property
    def place(self) -> torch.device:
        """The one card that this process sees."""
        place: torch.device = self._torch.device(f"{self._backend.type}:0")
        return place

    @property
    def part_done(self) -> Callable[[], None]:
        """Bound what waits in the card's queue."""
        return self._quanta.part_done

    def warm_up(self, numerics: Numerics) -> None:
        """Load what the processor's part needs, and ask the driver what the card is."""
        if numerics == "strict":
            raise TrainingError("Only the processor computes in strict numerics.")
        self._host.warm_up(numerics)
        if not self._backend.count():
            raise DeviceUnusable(
                f"PyTorch {self._torch.__version__} finds no {self.name}: install its build for "
                f"{self.kind.upper()}, and check the card's driver."
            )
        self._card = self._ask(self._backend.card)

    def runtime(self, threads: int) -> Runtime:
        """Return what the card is; the threads of the processor decide nothing here."""
        del threads
        if self._card is None:
            raise DeviceUnusable(f"{self.name} was not asked what it is yet.")
        return Runtime(
            torch=str(self._torch.__version__)[:_SHORT],
            device=self.kind.value,
            threads=_THREADS,
            capability=self._card.capability[:_SHORT],
            system=f"{platform.system()}-{platform.machine()}".lower()[:_SHORT],
        )

    def pin(self, threads: int) -> None:
        """Start the driver, pin all that is chosen by it, and compute once."""
        del threads
        self._host.pin(_THREADS)
        try:
            self._backend.pin()
            square = self._torch.ones(2, 2).to(self.place)
            (square @ square).sum()
            self.synchronize()
        except (RuntimeError, AssertionError, OSError) as error:
            raise DeviceUnusable(f"The driver of {self.name} does not start: {error}") from error

    def synchronize(self) -> None:
        """Wait for the queue."""
        self._quanta.finish()

    def busy_seconds(self) -> float:
        """Return for how long the card had work of ours."""
        return self._quanta.busy_seconds()

    def resumed(self) -> None:
        """Do not count the time of the suspension."""
        self._quanta.resumed()

    def peak_bytes(self) -> int:
        """Return the most memory of the card that tensors have taken."""
        return self._backend.peak_bytes()

    def free_bytes(self) -> int | None:
        """Return what is free, but for what stays free for others: the agent would stop a unit."""
        memory = self._backend.memory()
        if memory is None:
            return None
        free, total = memory
        return max(0, free - spare_card_bytes(total) - _BESIDE_BYTES)

    def give_back(self) -> None:
        """Return the card's memory, and the processor's, that is only kept."""
        self._quanta.forget()
        self._backend.release()
        self._host.give_back()
