"""What may bring honest results together, best first: each is tried, and measured, by `check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_project.check.tolerance import SAFETY_FACTOR
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import parse_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_project.check.draft import Draft
    from pleb_project.check.measured import Tried
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.graph import Graph
    from pleb_shared.protocol.project import Numerics, ProjectMetadata

__all__ = ["Remedy", "advice", "remedies", "smooth", "suffices"]

_SMOOTH: Final = {
    "aten.relu.default": "aten.silu.default",
    "aten.relu_.default": "aten.silu.default",
}
_STRICT_TIMES: Final = 2.0
"""At most about so much longer than a native step."""


@dataclass(frozen=True)
class Remedy:
    """A change of the project, as `metadata` and the `steps` of the compared unit."""

    what: str
    """As a sentence names it."""
    metadata: ProjectMetadata
    steps: int
    times: float = 1.0
    """How much longer than before a step takes, about."""

    @property
    def numerics(self) -> Numerics:
        """Those of its metadata."""
        return self.metadata.verification.numerics


def remedies(draft: Draft, blobs: BlobFolder, steps: int) -> Iterator[Remedy]:
    """Yield what may help, where units of `steps` steps were compared.

    Graphs that a remedy needs are put into `blobs`.
    """
    metadata = draft.metadata
    if metadata.verification.numerics == "native":
        verification = replace(metadata.verification, numerics="strict")
        strict = replace(metadata, verification=verification)
        yield Remedy('numerics = "strict" in [verification]', strict, steps, _STRICT_TIMES)
    fewer = max(2, steps // 4)
    if fewer < steps:
        yield Remedy(f"local_steps = {fewer} in [training]", metadata, fewer)
    rate = metadata.training.learning_rate / 4
    slower = replace(metadata, training=replace(metadata.training, learning_rate=rate))
    yield Remedy(f"learning_rate = {rate:.2g} in [training]", slower, steps)
    smoothed = smooth(parse_graph(draft.exported.training_graph))
    if smoothed is not None:
        graph = blobs.put(strict_json.encode(smoothed))
        yield Remedy("SiLU instead of ReLU", replace(metadata, training_graph=graph), steps)


def smooth(graph: Graph) -> Graph | None:
    """Return the graph with SiLU where it has ReLU; None if it has none."""
    if not any(node.op in _SMOOTH for node in graph.nodes):
        return None
    return replace(graph, nodes=[replace(n, op=_SMOOTH.get(n.op, n.op)) for n in graph.nodes])


def suffices(one: Tried, ceiling: float) -> bool:
    """Whether honest results are close enough for the whole safety factor."""
    return one.apart * SAFETY_FACTOR <= ceiling


def advice(tried: tuple[Tried, ...], ceiling: float) -> list[str]:
    """Return what helps, as measured; what was tried in vain; or that nothing could be tried."""
    helps = [one for one in tried if suffices(one, ceiling)]
    vain = ", ".join(f"{one.what} ({one.apart:.2g})" for one in tried if one not in helps)
    sentences = [
        f"{one.what} helps: honest results then differ by {one.apart:.2g}" + _slower(one)
        for one in helps[:1]
    ]
    if vain:
        sentences.append(f"Tried without enough effect: {vain}.")
    if not helps:
        sentences.append(
            "What else helps was not measured: --cpu-minutes gives `check` more time, and smooth "
            "activations, fewer local_steps and norms without a bias before them usually help."
        )
    return sentences


def _slower(one: Tried) -> str:
    if one.seconds_ratio < 1.05:
        return "."
    return f", and a step takes {one.seconds_ratio:.2g} times as long."
