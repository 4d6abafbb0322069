"""How often honest results look suspicious, and which lies do, on real training of examples/digits.

Units of version after version are trained and combined as a coordinator does. Each honest result
is compared with those confirmed before it; every few versions, lies about one unit are compared
with the same results. `far` is the least distance of a lie from the honest result of its unit;
`known` are lies that lean like the last one of their kind, once that is proven, and
`honest_known` honest results that do.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from msgspec.structs import asdict

from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.core.leaning import Lie, as_a_lie, lie_of
from pleb_coordinator.core.suspicion import RECENT_RESULTS, Traits, features_of, signals
from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.distance import distances
from pleb_shared.tensors.format import difference_format, training_format
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

UNITS: Final = 4
LIES_FROM: Final = 6
"""Before this version there are too few results to compare with."""
LIES_EVERY: Final = 3
KEY: Final = 7
PROJECT: Final = Path(__file__).parents[1] / "examples" / "digits"


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    versions = 15 if quick else 120
    definition = load_definition(PROJECT, (f"training.versions={versions}",))
    with tempfile.TemporaryDirectory() as folder:
        return _measure(make_draft(definition, blobs := BlobFolder(Path(folder))), blobs, versions)


def _measure(draft: Any, blobs: BlobFolder, versions: int) -> dict[str, Any]:
    metadata, encoding = draft.metadata, training_format(draft.metadata)
    graph = draft.exported.compiled(draft.exported.training_graph)
    count, steps = metadata.training.shards_per_unit, metadata.training.local_steps
    version, difference = load_tensors(draft.exported.initial), None
    state = OuterState.initial(version, metadata.model)
    recent: list[Traits] = []
    alarms: Counter[str] = Counter()
    seen = Seen()
    before: Tensors | None = None
    for number in range(versions):
        round_of = []
        for place in range(UNITS):
            first = (number * UNITS + place) * count
            unit = Unit(
                kind=UnitKind.TRAIN, epoch=0, version=number, local_steps=steps,
                shards=ShardRange(first=first, count=count), seed=number * UNITS + place,
            )  # fmt: skip
            shards = [draft.shard(blobs, first + i) for i in range(count)]
            run = UnitRun(graph, metadata, unit, version, difference, shards)
            for _ in range(steps):
                run.step()
            honest = _traits(unit.seed, number, run.delta(), encoding, run)
            raised = signals(honest, recent[-RECENT_RESULTS:])
            alarms.update(["results", *{signal.kind for signal in raised}])
            alarms["any"] += bool(raised)
            alarms["honest_known"] += bool(
                as_a_lie([honest], recent[-RECENT_RESULTS:], list(seen.proven.values()))
            )
            recent.append(honest)
            round_of.append((run, encoding.decode(run.delta())))
        if before is not None and number >= LIES_FROM and number % LIES_EVERY == 0:
            run, right = round_of[0]
            known = [found for found in recent if found.unit != number * UNITS]
            exact = run.exact_delta()
            for name, sent in _lies(exact, [delta for _, delta in round_of], before).items():
                data = encoding.encode(sent)
                lie = _traits(10**6 + number, number, data, encoding, run)
                seen.add(name, lie, known[-RECENT_RESULTS:], recent[-UNITS])
                seen.far[name].append(
                    max(distances(right, encoding.decode(data), encoding).values())
                )
        before = round_of[1][1]
        weighed = [(run.delta(), 1.0) for run, _ in round_of]
        made = next_version(version, state, weighed, metadata, warm_start=False)
        published = difference_format(metadata)
        difference = published.decode(published.unpack(made.difference))
        version, state = made.version, made.state
    results = alarms.pop("results")
    return {
        "results": results,
        "false_alarms": {kind: n / results for kind, n in sorted(alarms.items())},
        "caught": {name: float(np.mean(found)) for name, found in seen.caught.items()},
        "known": {name: float(np.mean(found)) for name, found in seen.known.items()},
        "far": {name: min(found) for name, found in seen.far.items()},
    }


@dataclass
class Seen:
    """What was seen of lies, by their names."""

    caught: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    known: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    far: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    proven: dict[str, Lie] = field(default_factory=dict)
    """The last one of each name."""

    def add(self, name: str, lie: Traits, recent: list[Traits], right: Traits) -> None:
        """Look at a lie as a coordinator does, then prove it."""
        self.caught[name].append(bool(signals(lie, recent)))
        if name in self.proven:
            self.known[name].append(bool(as_a_lie([lie], recent, [self.proven[name]])))
        found = lie_of(lie.unit, lie.version, lie, right)
        self.proven |= {} if found is None else {name: found}


def _traits(unit: int, version: int, data: bytes, encoding: DeltaFormat, run: UnitRun) -> Traits:
    return Traits(
        unit=unit,
        version=version,
        digest=hashlib.sha256(data).hexdigest(),
        **asdict(features_of(encoding.decode(data), encoding.model, KEY)),
        loss_first=run.loss_first,
        loss_last=run.loss_last,
    )


def _lies(right: Tensors, deltas: list[Tensors], before: Tensors) -> dict[str, Tensors]:
    """Return what liars send instead of `right`, the delta of a unit, by the lie's name.

    All are in the shapes of the model's specs; `deltas` are the round's, `before` is one of the
    version before.
    """
    rng = np.random.default_rng(0)

    def each(change: Callable[[np.ndarray, str], np.ndarray]) -> Tensors:
        return {name: change(array, name).astype("f4") for name, array in right.items()}

    def size(array: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(array, dtype="f8"))))

    mean = {n: np.mean([d[n] for d in deltas], axis=0, dtype="f8") for n in right}
    size_of_all = math.sqrt(sum(float(np.square(a, dtype="f8").sum()) for a in right.values()))
    push = {
        n: np.random.default_rng((1, i)).normal(size=a.shape)
        for i, (n, a) in enumerate(right.items())
    }
    pushed = math.sqrt(sum(float(np.square(a).sum()) for a in push.values()))
    deviation = {n: np.std([d[n] for d in deltas], axis=0, dtype="f8") for n in right}
    return {
        "zeros": each(lambda a, _: 0 * a),
        "random": each(lambda a, _: size(a) * rng.normal(size=a.shape)),
        "sign flip": each(lambda a, _: -a),
        "scaled by 3": each(lambda a, _: 3 * a),
        "scaled by .5": each(lambda a, _: a / 2),
        "1 % noise": each(lambda a, _: a + 0.01 * size(a) * rng.normal(size=a.shape)),
        "ALIE": each(lambda _, n: mean[n] - deviation[n]),
        "inner product": each(lambda _, n: -mean[n]),
        "backdoor": each(lambda a, n: a + 0.33 * size_of_all / pushed * push[n]),
        "replay": before,
    }
