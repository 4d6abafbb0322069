"""Combining 16 deltas of 10 million float32 by each rule: speed on one thread, and memory.

Beside ours stand, on the same numbers, numpy's ways and Flower's functions. `numpy` is
`numpy.median`, and `numpy.partition` for the trimmed mean, as scipy does it; `numpy_sort` is both
by `numpy.sort`, which newer numpys vectorise. Each runs in a process of its own. `gb_per_s` counts
the deltas' bytes over CPU time (the best of three), `extra_mb` is how much the process grows
beyond its inputs, the result included.

Flower is no dependency of ours. To have it measured, install it anywhere and name the folder:

    pip install --target /tmp/flower flwr
    PYTHONPATH=/tmp/flower python -m benchmarks aggregate
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from pleb_coordinator.aggregation.combine import combined_delta, trimmed_count
from pleb_shared.protocol.project import CombinationRule, ModelSpec, OuterStep, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat

if TYPE_CHECKING:
    from collections.abc import Callable

DELTAS: Final = 16
NUMBERS: Final = 10_000_000
QUICK_NUMBERS: Final = 1_000_000
REPEATS: Final = 3
ENOUGH_SECONDS: Final = 5.0
"""A slow way is not repeated for longer."""
RULES: Final[tuple[CombinationRule, ...]] = get_args(CombinationRule)
BY_SORT: Final = ("median", "trimmed_mean")
FLOWER_RULES: Final = {"mean", "median", "trimmed_mean"}
NO_FLOWER: Final = "not installed: see the first lines of benchmarks/aggregate.py"

Floats = NDArray[np.float32]


def main(quick: bool) -> dict[str, Any]:
    numbers = QUICK_NUMBERS if quick else NUMBERS
    load = os.getloadavg()[0]
    ours = {rule: in_a_process("ours", rule, numbers) for rule in RULES}
    plain = {rule: in_a_process("numpy", rule, numbers) for rule in RULES}
    by_sort = {rule: in_a_process("numpy_sort", rule, numbers) for rule in BY_SORT}
    for rule in RULES:
        ours[rule]["times_numpy"] = ours[rule]["gb_per_s"] / plain[rule]["gb_per_s"]
    flower: dict[str, Any] | str = NO_FLOWER
    if find_spec("flwr"):
        flower = {rule: in_a_process("flower", rule, numbers) for rule in sorted(FLOWER_RULES)}
    return {
        "rules": ours,
        "peers": {"numpy": plain, "numpy_sort": by_sort, "flower": flower},
        "deltas": DELTAS,
        "numbers": numbers,
        "load_before": load,
    }


def in_a_process(whose: str, rule: str, numbers: int) -> dict[str, float]:
    """Return what `measure` finds in a fresh process with one thread."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.aggregate", whose, rule, str(numbers)]
    done = subprocess.run(command, env=os.environ | one_thread, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(whose: str, rule: CombinationRule, numbers: int) -> dict[str, float]:
    generator = np.random.default_rng(0)
    deltas = [np.empty(numbers, np.float32) for _ in range(DELTAS)]
    for delta in deltas:  # in place: the process must not have been larger before it is measured
        generator.standard_normal(out=delta, dtype=np.float32)
    work = {
        "ours": ours_of,
        "numpy": numpys_of,
        "numpy_sort": numpys_sort_of,
        "flower": flowers_of,
    }[whose](rule, deltas)
    before = peak_mb()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH_SECONDS:
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    gigabytes = 4e-9 * numbers * DELTAS
    return {"gb_per_s": gigabytes / min(seconds), "extra_mb": peak_mb() - before}


def peak_mb() -> float:
    """Return the process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def ours_of(rule: CombinationRule, deltas: list[Floats]) -> Callable[[], object]:
    nothing = Blob(digest="0" * 64, size=0)
    spec = TensorSpec(name="w", dtype="float32", shape=[deltas[0].size])
    model = ModelSpec(parameters=[spec], buffers=[], initial=nothing, initial_digest="0" * 64)
    encoding = DeltaFormat(model, "fp32", 256)
    views = [delta.view(np.uint8).data for delta in deltas]
    outer = OuterStep(combination=rule)
    return lambda: combined_delta(views, [1.0] * len(deltas), encoding, outer)


def numpys_of(rule: CombinationRule, deltas: list[Floats]) -> Callable[[], object]:
    kept = kept_ranks(len(deltas))
    ends = (kept.start, kept.stop - 1)
    ways: dict[CombinationRule, Callable[[], object]] = {
        "mean": lambda: np.mean(deltas, axis=0),
        "median": lambda: np.median(deltas, axis=0),
        "trimmed_mean": lambda: np.partition(deltas, ends, axis=0)[kept].mean(axis=0),
        "centred_clipping": lambda: plain_centred_clipping(np.stack(deltas)),
    }
    return ways[rule]


def numpys_sort_of(rule: CombinationRule, deltas: list[Floats]) -> Callable[[], object]:
    middle = slice((len(deltas) - 1) // 2, len(deltas) // 2 + 1)
    kept = middle if rule == "median" else kept_ranks(len(deltas))
    return lambda: np.sort(deltas, axis=0)[kept].mean(axis=0)


def kept_ranks(deltas: int) -> slice:
    left_out = trimmed_count(deltas, OuterStep().trim_fraction)
    return slice(left_out, deltas - left_out)


def plain_centred_clipping(rows: Floats) -> Floats:
    """Return v of rows [K, n], as one writes it down."""
    centre: Floats = np.median(rows, axis=0)
    radius = np.median(np.linalg.norm(rows - centre, axis=1))
    for _ in range(OuterStep().clipping_iterations):
        apart = rows - centre
        shares = np.minimum(1, radius / np.linalg.norm(apart, axis=1))
        centre = centre + (shares[:, None] * apart).mean(axis=0)
    return centre


def flowers_of(rule: CombinationRule, deltas: list[Floats]) -> Callable[[], object]:
    from flwr.server.strategy import aggregate  # type: ignore[import-not-found]

    results = [([delta], 1) for delta in deltas]
    ways: dict[str, Callable[[], object]] = {
        "mean": lambda: aggregate.aggregate(results),
        "median": lambda: aggregate.aggregate_median(results),
        "trimmed_mean": lambda: aggregate.aggregate_trimmed_avg(results, 0.2),
    }
    return ways[rule]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))  # type: ignore[arg-type]
