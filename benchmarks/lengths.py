"""Units of mixed lengths against units that are all alike, at equal samples.

Units are shortened to end with their round (`[round] shortest_unit`).
Byte GPTs of 119,104 parameters read tinyshakespeare in rounds of 8 units of 25 steps. `alike` are
whole units; under `mixed` every unit's length is drawn between a quarter and the whole, and there
are 1.6 times as many rounds to make up for it; under `shorter` all units are as long as those on
average, in as many rounds. Deltas are weighted by their samples, as the coordinator does.

`mixed_percent` and `shorter_percent` are how far the mean loss on the holdout lies below that of
`alike`, with the standard errors of the differences, seed by seed.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import torch

from benchmarks.in_process import on_holdout, train_in_rounds
from benchmarks.staleness import draft_of, gain

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST: Final = 0.25
MEAN_LENGTH: Final = (1 + SHORTEST) / 2


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    seeds, rounds = ((0,), 4) if quick else ((0, 1, 2, 3, 4), 20)
    losses: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="pleb-lengths-") as name:
        whole, blobs = draft_of(Path(name), rounds)
        more, more_blobs = draft_of(Path(name), round(rounds / MEAN_LENGTH))
        for seed in seeds:
            version = train_in_rounds(whole, blobs, seed)
            losses["alike"].append(on_holdout(whole, blobs, version)["loss"])
            for way, length in WAYS.items():
                version = train_in_rounds(more, more_blobs, seed, length=length(seed))
                losses[way].append(on_holdout(more, more_blobs, version)["loss"])
            newest = {way: round(of[-1], 4) for way, of in losses.items()}
            print(f"seed {seed}: {newest}", flush=True)
    return {
        **{f"{way}_loss": mean(of) for way, of in losses.items()},
        **gain("mixed", losses, "alike"),
        **gain("shorter", losses, "alike"),
        "seeds": len(seeds),
        "rounds": rounds,
    }


def drawn(seed: int) -> Callable[[], float]:
    """Return what draws the length of a unit, as a part of a whole one."""
    draws = random.Random(seed)  # noqa: S311
    return lambda: draws.uniform(SHORTEST, 1.0)


WAYS: Final[dict[str, Callable[[int], Callable[[], float]]]] = {
    "mixed": drawn,
    "shorter": lambda _: lambda: MEAN_LENGTH,
}
