"""What a check measures, and where it is kept: whatever it depends on is in the name of its file.

So a second `publish`, or one with another title, repeats nothing that takes long. Reading the data
and exporting the model are not skipped: nothing else shows whether the researcher's code and files
still give the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import torch

from pleb_project.check.learning import Learning
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.project import Numerics
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["SUFFIX", "Measured", "MeasuredChunk", "Tried", "kept_or_measured"]

SUFFIX: Final = ".check.json"
_FORMAT: Final = 4
"""Changes when the same project would be measured differently."""


class Tried(msgspec.Struct, frozen=True):
    """A change that was tried because honest results were too far apart."""

    what: str
    apart: float
    """The largest distance of two honest runs after it."""
    seconds_ratio: float
    """How many times as long as before a step takes."""


class MeasuredChunk(msgspec.Struct, frozen=True):
    """A chunk's unit, as run on two kinds of PCs."""

    apart: float
    """The largest distance of the two results."""
    seconds_per_step: float
    """On this PC with one thread."""


class Measured(msgspec.Struct, frozen=True):
    """The figures of a check that need running units."""

    seconds_per_step: float
    """On this PC with one thread."""
    apart: dict[str, float]
    """The largest distance of two honest runs of the first unit, by tensor."""
    later: float
    """The same after some training, over all tensors."""
    noise: float
    """What 1 % of noise makes."""
    numerics: Numerics
    """Those given, or strict ones where results need them."""
    tried: tuple[Tried, ...]
    """Empty where honest results are close enough; else in order, until one helped."""
    learning: Learning
    cpu_seconds: float
    """The bound for it."""
    estimates: tuple[str, ...]
    """What was estimated instead of measured, as sentences."""
    chunks: dict[str, MeasuredChunk] = {}
    """In the numerics given."""

    @property
    def honest(self) -> float:
        """The largest distance of honest results at the start, of the whole model and chunks."""
        return max([*self.apart.values(), *(chunk.apart for chunk in self.chunks.values())])


def kept_or_measured(
    folder: Path,
    metadata: ProjectMetadata,
    measure: Callable[[], Measured],
    *,
    reuse: bool,
    cpu_seconds: float,
    may_choose: bool,
) -> tuple[Measured, bool]:
    """Return what was measured for such metadata, now or earlier, and whether it was earlier.

    Args:
        folder: where it is kept.
        metadata: the draft's.
        measure: does the work.
        reuse: False: measure again, whatever is kept.
        cpu_seconds: what the work may take; estimates that took less are not reused.
        may_choose: whether the work may choose the numerics.
    """
    depends_on = [
        _FORMAT,
        str(torch.__version__),
        metadata.model,
        metadata.training_graph,
        metadata.evaluation_graph,
        metadata.data,
        msgspec.structs.replace(metadata.training, versions=1),  # to go on repeats nothing
        metadata.codec,
        metadata.verification.numerics,
        metadata.chunks,
        may_choose,
    ]
    file = folder / f"{digest_of(msgspec.json.encode(depends_on))[:32]}{SUFFIX}"
    if reuse:
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=Measured)
            if not kept.estimates or kept.cpu_seconds >= cpu_seconds:
                return kept, True
        except (OSError, msgspec.DecodeError):
            pass
    measured = measure()
    write_durably(file, msgspec.json.encode(measured), shared=True)
    return measured, False
