"""Closes the sandbox around this process, layer by layer, and says which layers hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import CPU
from pleb_agent.worker.job import OUTPUTS, LayerState
from pleb_agent.worker.sandbox import linux, macos
from pleb_agent.worker.sandbox import windows as on_windows
from pleb_agent.worker.sandbox.limits import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pleb_agent.worker.job import Bounds
    from pleb_agent.worker.sandbox.driver import Driver
    from pleb_agent.worker.sandbox.layer import Layer

__all__ = ["LAYERS", "confine", "tie_to"]

LAYERS: Final = {"darwin": macos.LAYERS, "win32": on_windows.LAYERS}.get(sys.platform, linux.LAYERS)
"""Those of this system, in the order in which they close."""
_NEWEST: Final = 99


def confine(
    folder: Path,
    bounds: Bounds,
    layers: Collection[str] = LAYERS,
    landlock_version: int = _NEWEST,
    *,
    driver: Driver | None = None,
) -> list[LayerState]:
    """Restrict this process for good to `folder`, its project's, and to `bounds`.

    Called when all modules are loaded and before the second thread is started, since Landlock
    holds for the calling thread and those that it starts. What each layer denies is told where it
    is made: `linux_layers`, `mac_layers`, `windows_layers`.

    `driver`: what stays open for that of a card, which is started afterwards, in here.

    `layers` and `landlock_version` leave some out, by which a test does what an older kernel can.
    """
    folder = folder.absolute()
    outputs = folder / OUTPUTS
    closing: list[Layer]
    if sys.platform == "darwin":
        closing = macos.mac_layers(folder, outputs, bounds, card=bounds.device != CPU)
    elif sys.platform == "win32":
        closing = on_windows.windows_layers(on_windows.windows(), outputs, bounds)
    else:
        closing = linux.linux_layers(folder, outputs, bounds, driver, landlock_version)
    return [layer.close() for layer in closing if layer.name in layers]


def tie_to(parent: int) -> LayerState:
    """Let the system end this process together with `parent`, and say whether it does.

    Raises:
        ProcessLookupError: the parent has ended already.
    """
    try:
        if sys.platform == "win32":
            on_windows.end_with(on_windows.windows(), parent)
        else:
            die_with_parent(parent)
    except ProcessLookupError:
        raise
    except OSError as error:
        return LayerState(layer="parent", holds=False, sentence=f"does not hold: {error}")
    return LayerState(layer="parent", holds=True, sentence="dies together with the agent")
