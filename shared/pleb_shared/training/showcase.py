"""What a version says or sees: the answers of a showcase, computed by a trusted host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.showcase import BYTES, ShownClasses, ShownNumbers, ShownText
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.tensors.layout import NUMPY_DTYPES, Tensors, check_version
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import check_graph, dry_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.showcase import Showcase, Shown
    from pleb_shared.training.dry_run import Cost
    from pleb_shared.training.graph import CompiledGraph

    Run = Callable[[Tensors], NDArray[np.float64]]
    """Inputs [batch, *shape] by name -> the graph's output [batch, ...]."""

__all__ = ["OUTPUT", "show"]

OUTPUT: Final = "showcase"
"""The name of the graph's output."""
_SEED: Final = 0
"""Of the draws that choose bytes: the same for all versions, so that their texts differ by what
the model has learned."""
_MOST: Final = 1e30
"""The largest number that is told."""


@torch.no_grad()
def show(
    graph: CompiledGraph,
    metadata: ProjectMetadata,
    showcase: Showcase,
    version: Tensors,
    shards: Sequence[Tensors],
    before_run: Callable[[], None] = lambda: None,
    approve: Callable[[Cost], None] = lambda _: None,
) -> Shown:
    """Return what the version answers. The same again wherever it is computed, but for rounding.

    `version` holds the version's tensors by name, in the shapes of `metadata.model`, and `graph`
    has the model's base; of the holdout's `shards` only the first is read. `before_run` is called
    before each run of the graph and `approve` with what a run costs; exceptions of both pass.

    Raises:
        GraphError: the graph does not belong to this project, or gives something else.
        TrainingError: an output is not finite, or an example is not in the shard.
        EncodingError: the version or the shard is invalid.
    """
    check_graph(graph.graph, view_of(metadata.model, None), metadata.data, batch_examples=None)
    if [output.key for output in graph.graph.outputs] != [f"{OUTPUT}/predictions"]:
        raise GraphError(f"A showcase's graph has one output, {OUTPUT!r}, of the predictions.")
    if graph.graph.mutated:
        raise GraphError("A showcase's graph changes no buffer.")
    check_version(version, metadata.model)
    size = max(1, len(showcase.examples))
    approve(dry_run(graph.graph, trains=False, batch_examples=size))
    tensors = {
        name: torch.from_numpy(np.array(array, order="C")).to(graph.device)
        for name, array in version.items()
    }

    def run(arrays: Tensors) -> NDArray[np.float64]:
        before_run()
        inputs = {n: torch.from_numpy(array).to(graph.device) for n, array in arrays.items()}
        found = graph.run(tensors, tensors, inputs, NodeDraws(_SEED, 0))[f"{OUTPUT}/predictions"]
        return found.float().cpu().double().numpy()  # some devices have no float64

    if showcase.kind == "text":
        return ShownText(card=showcase.card.digest, tokens=_continued(run, metadata, showcase))
    data = UnitData(metadata.data, [shards[0]])
    if max(showcase.examples) >= data.examples:
        raise TrainingError(
            f"The showcase names example {max(showcase.examples)}, but the holdout's first shard "
            f"has {data.examples}."
        )
    outputs = run(data.take(np.array(showcase.examples, dtype=np.int64)))
    if outputs.shape[:1] != (size,) or outputs.size != size * showcase.width:
        raise GraphError(
            f"The showcase gives {list(outputs.shape)} numbers for {size} examples, not "
            f"{[size, showcase.width]}."
        )
    rows = outputs.reshape(size, showcase.width)
    if not np.isfinite(rows).all():
        raise TrainingError("An output of the showcase is not a finite number.")
    if showcase.kind == "numbers":
        clipped = np.clip(rows, -_MOST, _MOST).tolist()
        return ShownNumbers(card=showcase.card.digest, rows=clipped)
    top = [_likeliest(row) for row in rows]
    return ShownClasses(card=showcase.card.digest, rows=top)


def _likeliest(scores: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return the likeliest classes of scores [classes] and their probabilities, rounded down."""
    chances = _softmax(scores)
    order = np.argsort(-chances, kind="stable")[: LIMITS.showcase_top]
    return [(int(number), math.floor(float(chances[number]) * 1e6) / 1e6) for number in order]


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max())
    chances: NDArray[np.float64] = powers / powers.sum()
    return chances


def _continued(run: Run, metadata: ProjectMetadata, showcase: Showcase) -> list[int]:
    """Return the bytes that follow the prompt, each chosen by the scores at the last place.

    The model sees as many bytes as a window has. What is behind them is 0, which the scores of an
    earlier place do not depend on: `pleb-project check` has looked.
    """
    data, said = metadata.data, list(showcase.prompt)
    draws = _uniform(showcase.tokens)
    for draw in draws:
        seen = said[-data.window :]
        arrays: dict[str, NDArray[Any]] = {
            spec.name: np.zeros((1, *spec.shape), NUMPY_DTYPES[spec.dtype]) for spec in data.inputs
        }
        arrays[data.inputs[0].name][0, : len(seen)] = seen
        scores = run(arrays)
        if scores.shape != (1, data.window, BYTES):
            raise GraphError(
                f"The showcase gives {list(scores.shape)} scores, not {[1, data.window, BYTES]}."
            )
        last = scores[0, len(seen) - 1]
        if not np.isfinite(last).all():
            raise TrainingError("A score of the showcase is not a finite number.")
        said.append(_chosen(last, showcase.temperature, float(draw)))
    return said[len(showcase.prompt) :]


def _uniform(count: int) -> NDArray[np.float64]:
    """Return numbers [count] from 0 up to 1, the same on every platform."""
    words = np.random.Philox(key=_SEED).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _chosen(scores: NDArray[np.float64], temperature: float, draw: float) -> int:
    """Return the byte that `draw`, from 0 up to 1, chooses by scores [256]."""
    if temperature == 0:
        return int(scores.argmax())
    sums = np.cumsum(_softmax(scores / temperature))
    return min(int(np.searchsorted(sums, draw * sums[-1], side="right")), BYTES - 1)
