"""What a layer of the sandbox is, and those that every system is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_agent.worker.job import LayerState
from pleb_agent.worker.sandbox.limits import limit_files, no_core_dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.worker.job import Bounds

__all__ = ["Layer", "dumps", "sizes"]


@dataclass(frozen=True)
class Layer:
    """One way in which a process is restricted, and the sentences about it."""

    name: str
    restrict: Callable[[], object]
    """Restricts this process for good; raises OSError where the system cannot."""
    holding: str
    otherwise: str
    """What an attacker could do without it."""

    def close(self) -> LayerState:
        """Restrict this process, and say whether that holds."""
        try:
            self.restrict()
        except OSError as error:
            sentence = f"does not hold ({error}): {self.otherwise}"
            return LayerState(layer=self.name, holds=False, sentence=sentence)
        return LayerState(layer=self.name, holds=True, sentence=self.holding)


def dumps() -> Layer:
    """Return the layer without core files."""
    return Layer(
        "dumps",
        no_core_dumps,
        "core files and other processes' eyes are shut out",
        "other programs of yours could read a worker's memory",
    )


def sizes(bounds: Bounds) -> Layer:
    """Return the layer that bounds how long a file gets, and how many are open."""
    return Layer(
        "sizes",
        lambda: limit_files(bounds.file_bytes, bounds.most_files),
        f"no file gets longer than {bounds.file_bytes >> 20} MiB",
        "the agent ends a worker that writes too much, up to two seconds later",
    )
