"""What a worker asks of the device that it computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from pleb_agent.core.devices import DeviceKind
    from pleb_shared.protocol.messages import Runtime
    from pleb_shared.protocol.project import Numerics

__all__ = ["Device", "DeviceUnusable"]


class DeviceUnusable(Exception):
    """The device is not there, or its driver or this build of torch does not serve it."""


class Device(Protocol):
    """What a worker asks of its device; the first three in this order."""

    @property
    def name(self) -> str:
        """As the volunteer knows it: `cpu`, `cuda-0`."""

    @property
    def kind(self) -> DeviceKind:
        """By whose library it computes."""

    def warm_up(self, numerics: Numerics) -> None:
        """Load what training loads late, on one thread: the sandbox closes after this.

        Must come before anything else computes, since the numerics are fixed then.

        Raises:
            TrainingError: the process cannot compute strictly; it was started for native numerics,
                or on a device that has no strict ones.
            DeviceUnusable: there is no such device.
        """

    def runtime(self, threads: int) -> Runtime:
        """Return what decides about this process's rounding, with so many threads."""

    def pin(self, threads: int) -> None:
        """Make results depend on nothing but the unit, the device, torch's build and `threads`.

        The sandbox is closed: a driver is opened here, and finds only what the sandbox lets it.

        Raises:
            DeviceUnusable: the driver does not start.
        """

    @property
    def place(self) -> torch.device:
        """Where tensors are while they are computed on."""

    @property
    def part_done(self) -> Callable[[], None] | None:
        """What to call after each part of a step; None: nothing is ever queued."""

    def synchronize(self) -> None:
        """Return when all that was queued is computed."""

    def busy_seconds(self) -> float:
        """Return for how long this process has computed, on all of its lanes together."""

    @property
    def lanes(self) -> int:
        """How many seconds of computing fit into one: the threads, or one card."""

    def resumed(self) -> None:
        """Note that the process was suspended until now: that was no time of computing."""

    def peak_bytes(self) -> int:
        """Return the most memory of the device that this process has held so far."""

    def free_bytes(self) -> int | None:
        """Return what a unit may still take of the device's own memory.

        None: it has none of its own. The system's is watched by the agent.
        """

    def give_back(self) -> None:
        """Return memory to the system that is only kept in case it is needed again."""
