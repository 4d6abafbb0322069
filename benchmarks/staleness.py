"""Late results: dropped, used one version later as they are, or corrected.

Byte GPTs of 119,104 parameters read tinyshakespeare in rounds of 8 units of 25 steps. Of each
round's units after the first about 30 % come one version late, drawn from the seed. `dropped`
leaves them out, as coordinators do; `kept` combines them with those of the next round at full
weight; `corrected` first turns each tensor towards the outer momentum, where they disagree, as
HeLoCo does (Al Asif et al. 2026, arXiv:2606.00271); `none_late` is the bound. Deltas are float32,
so a corrected one is not quantised a second time.

`kept_percent` and `corrected_percent` are how far the mean loss on the holdout lies below that of
`dropped` after as many versions, with the standard error of the differences, seed by seed.
"""

from __future__ import annotations

import os
import random  # noqa: TID251 - seeded
import tempfile
from collections import defaultdict
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from benchmarks.in_process import on_holdout, train_in_rounds
from benchmarks.lora import text_to_learn
from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.tensors.format import training_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.in_process import Deltas
    from pleb_coordinator.aggregation.outer_step import OuterState
    from pleb_project.check.draft import Draft
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.tensors.format import DeltaFormat

    Use = Callable[[bytes, OuterState, DeltaFormat], bytes]

LATE_SHARE: Final = 0.3
UNITS: Final = 8
MODEL: Final = Path(__file__).with_name("learning_model.py")

AGREES: Final = 0.2
"""A tensor whose cosine with the momentum is at least this is left as it is."""
TURN: Final = 0.5
"""How far a tensor that hardly agrees is turned towards the momentum, and the most that is taken
from one that disagrees."""


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    seeds, versions = ((0,), 4) if quick else ((0, 1, 2, 3, 4), 20)
    with tempfile.TemporaryDirectory(prefix="pleb-staleness-") as name:
        draft, blobs = draft_of(Path(name), versions)
        losses: dict[str, list[float]] = defaultdict(list)
        for seed in seeds:
            version = train_in_rounds(draft, blobs, seed)
            losses["none_late"].append(on_holdout(draft, blobs, version)["loss"])
            for way, use in WAYS.items():
                mailbox = Mailbox(draft.metadata, seed, use)
                version = train_in_rounds(draft, blobs, seed, arrived=mailbox.arrived)
                losses[way].append(on_holdout(draft, blobs, version)["loss"])
            newest = {way: round(of[-1], 4) for way, of in losses.items()}
            print(f"seed {seed}: {newest}", flush=True)
    return {
        **{f"{way}_loss": mean(of) for way, of in losses.items()},
        **gain("kept", losses),
        **gain("corrected", losses),
        "seeds": len(seeds),
        "versions": versions,
        "late_share": LATE_SHARE,
    }


def gain(way: str, losses: dict[str, list[float]], other: str = "dropped") -> dict[str, float]:
    """Return how far a way's loss lies below another's, in percent, and the standard error."""
    each = [
        100 * (1 - ours / theirs) for ours, theirs in zip(losses[way], losses[other], strict=True)
    ]
    error = stdev(each) / sqrt(len(each)) if len(each) > 1 else float("nan")
    return {f"{way}_percent": mean(each), f"{way}_standard_error": error}


def draft_of(folder: Path, versions: int) -> tuple[Draft, BlobFolder]:
    named = os.environ.get("TINYSHAKESPEARE")
    text = Path(named).read_text("utf-8") if named else text_to_learn()
    (folder / "text.txt").write_text(text, "utf-8")
    (folder / "model.py").write_text(MODEL.read_text("utf-8"), "utf-8")
    (folder / "project.toml").write_text(
        f"""
        [project]
        name = "staleness"
        [data]
        source = "text"
        files = ["{folder / "text.txt"}"]
        window = 64
        [model]
        arguments = {{ width = 64 }}
        [training]
        batch = 4
        versions = {versions}
        [codec]
        up = "fp32"
        [round]
        units = {UNITS}
        """,
        "utf-8",
    )
    blobs = BlobFolder(folder / "blobs")
    return make_draft(load_definition(folder), blobs), blobs


class Mailbox:
    """Holds back the late deltas of a round; `use` says what comes of them in the next."""

    def __init__(self, metadata: ProjectMetadata, seed: int, use: Use | None) -> None:
        self._format = training_format(metadata)
        self._warm = metadata.training.warm_start_versions
        self._use = use
        self._draws = random.Random(seed)  # noqa: S311
        self._late: list[bytes] = []

    def arrived(self, number: int, deltas: Deltas, state: OuterState) -> Deltas:
        """Return the deltas in time, and what comes of the last round's late ones."""
        if number < self._warm:
            return deltas  # trusted hosts make the warm start
        in_time: Deltas = []
        late = []
        for delta, weight in deltas:
            if self._draws.random() >= LATE_SHARE:
                in_time.append((delta, weight))
            else:
                late.append(delta)
        before, self._late = self._late, late
        if self._use is not None:
            in_time += [(self._use(delta, state, self._format), 1.0) for delta in before]
        return in_time or deltas[:1]


def kept(delta: bytes, state: OuterState, encoding: DeltaFormat) -> bytes:  # noqa: ARG001
    """Return a late delta as it is."""
    return delta


def turned(delta: bytes, state: OuterState, encoding: DeltaFormat) -> bytes:
    """Return a late delta whose tensors are corrected by the outer momentum."""
    tensors = encoding.decode(delta)
    for name, momentum in state.momentum.items():
        tensors[name] = corrected(tensors[name], momentum)
    return encoding.encode(tensors)


WAYS: Final[dict[str, Use | None]] = {"dropped": None, "kept": kept, "corrected": turned}


def corrected(delta: NDArray[np.float32], momentum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a tensor of a late delta [any shape], corrected by the momentum of that shape.

    One that agrees (a cosine of at least `AGREES`) is returned as it is. Of one that disagrees a
    part of what points against the momentum is taken away; one in between is turned towards it
    and keeps its length. All the less the shorter the delta is beside the momentum.
    """
    length, reference = float(np.linalg.norm(delta)), float(np.linalg.norm(momentum))
    if not length or not reference:
        return delta
    unit, towards = delta / length, momentum / reference
    cosine = float((unit * towards).sum())
    confidence = length / (length + reference)
    if cosine >= AGREES:
        return delta
    if cosine < 0:
        taken = min(TURN, -cosine) * confidence
        return np.asarray(delta - taken * cosine * length * towards, np.float32)
    turned = unit + TURN * confidence * (AGREES - cosine) * towards
    return np.asarray(length * turned / np.linalg.norm(turned), np.float32)
