"""Chooses the device of this process: the one place that names the classes of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pleb_agent.core.devices import CPU
from pleb_agent.worker.devices.accelerator import Accelerator
from pleb_agent.worker.devices.cpu import Cpu

if TYPE_CHECKING:
    from pleb_agent.worker.devices.device import Device

__all__ = ["choose_device"]


def choose_device(name: str = CPU) -> Device:
    """Return the device that this process computes on; called once, before torch is used.

    Raises:
        ValueError: it is no device's name.
    """
    return Cpu() if name == CPU else Accelerator(name, torch)
