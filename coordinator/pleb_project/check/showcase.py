"""The showcase of a project: what is asked of each version, and what stands beside the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from pleb_project.check.rehearsal import researchers_errors
from pleb_project.export.model_tensors import unchanged
from pleb_shared.errors import InputError, TrainingError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.flops import flops_of_holdout, flops_of_showcase
from pleb_shared.protocol.graph import Graph, parse_graph, references
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.showcase import (
    BYTES,
    Card,
    CardExample,
    CardInput,
    NumbersInput,
    PictureInput,
    Showcase,
    TextInput,
    affordable_flops,
    runs_of,
)
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run
from pleb_shared.training.showcase import OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.check.researcher_code import ResearcherCode
    from pleb_project.definition.sections import ShowcaseSection
    from pleb_project.export import Batch, Exported, ShowcaseFunction
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.shards import Dataset

__all__ = ["PlannedShowcase", "output_of_first", "plan_showcase", "rehearse_showcase"]

_USUAL: Final = 8
"""Examples, where the project file does not say."""
_SIDE: Final = 48
"""Pixels to which larger pictures are made smaller."""
_LEAST_SIDE: Final = 4
"""Of a picture: smaller arrays are rows of numbers."""
_SHOWN_NUMBERS: Final = 8
_SHOWN_CHARACTERS: Final = 400
_PRINTABLE: Final = 0.9
"""The least share of a row's bytes that make it a text."""
_CLOSE: Final = 1e-4


@dataclass(frozen=True)
class PlannedShowcase:
    """A showcase whose graph and card are in the blobs."""

    showcase: Showcase
    memory_bytes: int
    share: float
    """Of an evaluation's operations."""

    @property
    def words(self) -> str:
        """What it is, for people."""
        asked = self.showcase
        what = f"{len(asked.examples)} examples"
        if asked.kind == "text":
            what = f"{asked.tokens} bytes after a prompt of {len(asked.prompt)}"
        return f"{what}, for {self.share:.1%} of an evaluation's operations"


def output_of_first(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return what the model makes of the first input: the showcase of a file that has none."""
    found: torch.Tensor = model(next(iter(batch.values())))
    return found


def rehearse_showcase(
    code: ResearcherCode, showcase: ShowcaseFunction, batch: Batch, folder: Path
) -> None:
    """Run `showcase` once on inputs [batch, ...]; the model is left as it was.

    Raises:
        InputError, GraphError: it fails; the sentence has the line, or what to write.
    """
    with unchanged(code.model), torch.no_grad():
        if showcase is not output_of_first:
            with researchers_errors("showcase()", folder):
                showcase(code.model, batch)
            return
        try:
            showcase(code.model, batch)
        except Exception as error:  # the researcher's code may raise anything
            name = next(iter(batch))
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"[showcase] shows what the model makes of its first input {name!r}, but that "
                f"fails ({reason}): write `def showcase(model, batch) -> torch.Tensor` beside "
                "evaluate(), which returns the scores of classes [batch, classes], or numbers."
            ) from error


def plan_showcase(
    section: ShowcaseSection | None, exported: Exported, dataset: Dataset, blobs: BlobFolder
) -> PlannedShowcase | None:
    """Return the showcase that `section` asks for, and put its graph and card into `blobs`.

    None asks for nothing.

    Raises:
        InputError: the data have no such examples, or the outputs cannot be shown.
        GraphError: the graph cannot be run for so many examples.
    """
    if section is None or exported.showcase_graph is None:
        return None
    if not dataset.shards.holdout:
        raise InputError("[showcase] needs a holdout: trusted hosts make it when they evaluate.")
    held = load_tensors(blobs.get(dataset.shards.holdout[0].digest))
    graph = parse_graph(exported.showcase_graph)
    run = _Run(exported, graph)
    digest = digest_of(exported.showcase_graph)
    blob = blobs.put(exported.showcase_graph)
    if section.prompt:
        prompt = list(section.prompt.encode())
        if len(prompt) > LIMITS.showcase_prompt:
            raise InputError(
                f"prompt in [showcase] has {len(prompt)} bytes; at most {LIMITS.showcase_prompt} "
                "are allowed: make it shorter."
            )
        _check_text(run, dataset)
        card = Card(
            graph=digest,
            prompt=section.prompt,
            tokens=section.tokens,
            temperature=section.temperature,
        )
        showcase = Showcase(
            kind="text",
            graph=blob,
            card=blobs.put(strict_json.encode(card)),
            width=BYTES,
            prompt=prompt,
            tokens=section.tokens,
            temperature=section.temperature,
        )
    else:
        showcase = _of_examples(section, run, dataset, held, blobs, blob, digest)
    share = _share(showcase, graph, exported, dataset)
    cost = dry_run(graph, trains=False, batch_examples=max(1, len(showcase.examples)))
    return PlannedShowcase(showcase, cost.memory_bytes + dataset.shards.holdout[0].size, share)


class _Run:
    """Runs the showcase's graph on version 0."""

    def __init__(self, exported: Exported, graph: Graph) -> None:
        self.graph = graph
        self._compiled = exported.compiled(exported.showcase_graph or b"")
        version = load_tensors(exported.initial)
        self._tensors = {n: torch.from_numpy(np.array(a)) for n, a in version.items()}

    @torch.no_grad()
    def __call__(self, arrays: Tensors) -> NDArray[Any]:
        """Return the output [batch, ...] for inputs [batch, ...] by name."""
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            found = self._compiled.run(self._tensors, self._tensors, inputs, NodeDraws(0, 0))
        except TrainingError as error:
            raise InputError(f"showcase() fails for examples of the holdout: {error}") from error
        return found[f"{OUTPUT}/predictions"].double().numpy()

    def sees(self) -> set[str]:
        """Return the names of the inputs that the output may depend on."""
        graph = self.graph
        first = len(graph.parameters) + len(graph.buffers) + len(graph.base)
        used = {slot for node in graph.nodes for slot in references(node)}
        used |= {output.slot for output in graph.outputs}
        return {spec.name for slot, spec in enumerate(graph.inputs, first) if slot in used}


def _of_examples(
    section: ShowcaseSection,
    run: _Run,
    dataset: Dataset,
    held: Tensors,
    blobs: BlobFolder,
    graph: Any,
    digest: str,
) -> Showcase:
    """Return the showcase of some examples of the holdout's first shard `held` [examples, ...]."""
    data = UnitData(dataset.spec, [held])
    wanted = section.examples or _USUAL
    indices = list(section.indices) or list(range(min(wanted, data.examples)))
    if max(indices) >= data.examples:
        raise InputError(
            f"indices in [showcase] names {max(indices)}, but the holdout's first shard has the "
            f"examples 0 to {data.examples - 1}: choose others."
        )
    arrays = data.take(np.array(indices, dtype=np.int64))
    outputs = run(arrays)
    width = outputs.size // len(indices)
    if len(outputs) != len(indices) or outputs.ndim > 2 or not 0 < width < LIMITS.showcase_classes:
        raise InputError(
            f"showcase() returns {list(outputs.shape)} numbers for {len(indices)} examples: return "
            f"the scores of classes [batch, classes], or up to {LIMITS.showcase_numbers} numbers "
            "[batch, numbers]."
        )
    truths = _truths(run, arrays, dataset, width)
    has_labels = truths is not None and truths.dtype.kind == "i"
    of_classes = width > 1 and (bool(section.classes) or has_labels)
    if section.classes and len(section.classes) != width:
        raise InputError(
            f"classes in [showcase] has {len(section.classes)} names, but the model has {width} "
            "scores for each example: name each class, in their order."
        )
    if not of_classes and width > LIMITS.showcase_numbers:
        raise InputError(
            f"showcase() returns {width} numbers for each example, of which a page shows at most "
            f"{LIMITS.showcase_numbers}: name the classes in [showcase] if they are scores, or "
            "return fewer."
        )
    seen = [spec for spec in dataset.spec.inputs if spec.name in run.sees()]
    parts = [_shown(arrays[spec.name]) for spec in seen]
    card = Card(
        graph=digest,
        classes=[name[: LIMITS.name_characters] for name in section.classes],
        examples=[
            CardExample(
                inputs=[shown[row] for shown in parts],
                truth=[] if truths is None else _truth(truths[row], width if of_classes else 0),
            )
            for row in range(len(indices))
        ],
    )
    return Showcase(
        kind="classes" if of_classes else "numbers",
        graph=graph,
        card=blobs.put(strict_json.encode(card)),
        width=width,
        examples=indices,
    )


def _truths(run: _Run, arrays: Tensors, dataset: Dataset, width: int) -> NDArray[Any] | None:
    """Return what should come out [examples, numbers]; None: it is not known.

    That is an input which the output does not depend on: one whole number, which is a class, or as
    many numbers as the output has.
    """
    hidden = [spec for spec in dataset.spec.inputs if spec.name not in run.sees()]
    for spec in hidden:
        rows = arrays[spec.name].reshape(len(arrays[spec.name]), -1)
        if width > 1 and rows.shape[1] == 1 and rows.dtype.kind in "iu":
            return rows.astype(np.int64)
    for spec in hidden:
        rows = arrays[spec.name].reshape(len(arrays[spec.name]), -1)
        if rows.shape[1] == width and width <= LIMITS.showcase_numbers:
            return rows.astype(np.float64)
    return None


def _truth(row: NDArray[Any], classes: int) -> list[float]:
    """Return an example's truth; empty if it is no class, as where a label is missing."""
    if classes and not 0 <= row[0] < classes:
        return []
    return [float(value) for value in row] if np.isfinite(row).all() else []


def _shown(array: NDArray[Any]) -> list[CardInput]:
    """Return an input [examples, *shape] as what it is: pictures, texts, or rows of numbers."""
    picture = _as_images(array)
    if picture is not None:
        return list(_pictures(picture))
    if _is_text(array):
        return [TextInput(text=_text(row)) for row in array]
    rows = array.reshape(len(array), -1).astype(np.float64)
    more = max(0, rows.shape[1] - _SHOWN_NUMBERS)
    finite = np.clip(np.nan_to_num(rows), -1e30, 1e30)[:, :_SHOWN_NUMBERS]
    return [NumbersInput(values=row.tolist(), more=more) for row in finite]


def _as_images(array: NDArray[Any]) -> NDArray[Any] | None:
    """Return [examples, height, width, channels] if an array has the shape of images."""
    shape = array.shape[1:]
    if len(shape) == 2:
        array = array[..., None]
    elif len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    elif not (len(shape) == 3 and shape[2] in (1, 3)):
        return None
    return array if min(array.shape[1:3]) >= _LEAST_SIDE else None


def _pictures(images: NDArray[Any]) -> list[PictureInput]:
    """Return images [examples, height, width, channels], made smaller, from dark to bright.

    Bytes stay as they are; of other numbers the least of all is black, the greatest white.
    """
    values = np.nan_to_num(images.astype(np.float64))
    step = -(-max(values.shape[1:3]) // _SIDE)
    height, width = (max(1, side // step) for side in values.shape[1:3])
    values = values[:, : height * step, : width * step]
    if min(values.shape[1:3]) >= step:
        values = values.reshape(len(values), height, step, width, step, -1).mean(axis=(2, 4))
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else (values.min(), values.max())
    scaled = (values - low) / max(high - low, 1e-12) * 255
    pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return [
        PictureInput(
            height=one.shape[0],
            width=one.shape[1],
            channels=1 if one.shape[2] == 1 else 3,
            pixels=one.tobytes(),
        )
        for one in pixels
    ]


def _is_text(array: NDArray[Any]) -> bool:
    """Whether rows [examples, length] are bytes of texts, behind which 0 may follow."""
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] < 2:
        return False
    there = array[array != 0]
    if not there.size or there.min() < 0 or there.max() >= BYTES:
        return False
    printable = (there >= 32) & (there != 127) | np.isin(there, (9, 10, 13))
    return bool(printable.mean() >= _PRINTABLE) and array.shape[1] > _SHOWN_NUMBERS


def _text(row: NDArray[Any]) -> str:
    data = bytes(row.astype(np.uint8)).rstrip(b"\0")
    return data.decode("utf-8", "replace")[:_SHOWN_CHARACTERS]


def _check_text(run: _Run, dataset: Dataset) -> None:
    """Check that the graph gives scores of the next byte, which no later byte changes.

    Raises:
        InputError: it does not.
    """
    spec = dataset.spec
    draws = np.random.Philox(key=1).random_raw(spec.window + 1).astype(np.int64) & 127
    arrays: Tensors = {i.name: draws[None, : spec.window].copy() for i in spec.inputs}
    scores = run(arrays)
    if scores.shape != (1, spec.window, BYTES):
        raise InputError(
            f"prompt in [showcase] needs scores of the next byte at each place, [batch, "
            f"{spec.window}, {BYTES}], but showcase() returns {list(scores.shape)}."
        )
    place = spec.window // 2
    changed = {name: array.copy() for name, array in arrays.items()}
    for array in changed.values():
        array[0, place:] = 0
    other = run(changed)
    largest = max(float(np.abs(scores).max()), 1e-12)
    if np.abs(scores[0, :place] - other[0, :place]).max(initial=0.0) > _CLOSE * largest:
        raise InputError(
            "prompt in [showcase] needs a model whose scores at a place depend on the bytes up to "
            "there alone (causal attention), but later bytes change them: leave prompt out."
        )


def _share(showcase: Showcase, graph: Graph, exported: Exported, dataset: Dataset) -> float:
    """Return what a showcase costs of an evaluation's operations.

    Raises:
        InputError: it is too much.
    """
    evaluation = parse_graph(exported.evaluation_graph)
    whole = flops_of_holdout(evaluation, dataset.spec, dataset.shards.holdout)
    runs, cost = runs_of(showcase), flops_of_showcase(showcase, graph)
    affordable = affordable_flops(whole)
    if cost > affordable:
        what = "tokens" if showcase.kind == "text" else "examples"
        raise InputError(
            f"[showcase] would cost {cost / max(1, whole):.0%} of an evaluation's operations: "
            f"write {what} = {max(1, runs * affordable // cost)}."
        )
    return cost / max(1, whole)
