"""What hostile deltas cost that got past verification, by the rule that combines a round's deltas.

Fashion-MNIST with real units (`UnitRun`), the real codec and the real outer step. Two questions:

- `leaked`: as many lies as verification lets through at most enter: .3 % of all results, at least
  one in every run, in a late round, where least time is left to recover. The default options are
  those with `mean`.
- `all_enter`: every lie of a fifth of the hosts gets in, in every round, by each rule.

The lies keep inside the norms of honest deltas, so clipping does not see them (Baruch et al. 2019;
Xie et al. 2019; Bagdasaryan et al. 2018). The attacker knows all honest deltas of the round:

    alie        mean - 1.5 standard deviations of the honest deltas, coordinate by coordinate
    ipm         the honest mean turned round, as long as an honest delta
    sign_flip   an honest delta turned round
    band_flip   the same, as long as the band of the norms allows
    backdoor    a delta trained to take every image with a mark for class 0, twice as long

`accuracy_loss_points` is the accuracy on the test images without any lie and with `mean`, less the
accuracy with them, in points, the mean over the seeds; at the top it is that of the default options
under the worst attack. `backdoor` shows how often the mark works.

The four files of Fashion-MNIST (the first 15,000 training images are used) must be in
`examples/fashion-mnist`, in `/usr/share/datasets/fashion-mnist`, or in the folder that the
environment variable FASHION_MNIST names. `--quick` trains a smaller network, ten minutes on
one core.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
import numpy as np
import torch
from torch import nn

from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.core.planning import round_units
from pleb_coordinator.core.records import Facts
from pleb_project.export import export_model
from pleb_project.readers.idx import read_idx_pair
from pleb_shared.protocol.project import (
    Calibration,
    Codec,
    CombinationRule,
    DataSpec,
    Delegation,
    InputSpec,
    Muon,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    Training,
    Verification,
)
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind
from pleb_shared.tensors.distance import delta_norm
from pleb_shared.tensors.format import difference_format, training_format
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pleb_shared.training.graph import CompiledGraph

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "fashion-mnist"
FOLDERS: Final = (EXAMPLE, Path("/usr/share/datasets/fashion-mnist"))
EXAMPLES: Final = 15_000
SHARDS: Final = 60
UNITS: Final = 10
HOSTILE: Final = 2
VERSIONS: Final = 12
SEEDS: Final = (1, 2, 3)
LEAKED: Final = 0.003
"""Share of all results that get past verification: the policy's bound for subtle lies."""
ATTACKS: Final = ("alie", "ipm", "sign_flip", "band_flip", "backdoor")
RULES: Final[tuple[CombinationRule, ...]] = get_args(CombinationRule)
NOTHING: Final = Blob(digest="0" * 64, size=0)


@dataclass(frozen=True)
class Case:
    """One training run."""

    rule: CombinationRule
    attack: str
    """One of `ATTACKS`, or empty: nobody lies."""
    everyone: bool
    """Whether every hostile result enters, not only what leaks."""
    seed: int
    small: bool


def main(quick: bool) -> dict[str, Any]:
    attacks = ("", *ATTACKS)
    cases = [
        Case(rule, attack, everyone, seed, quick)
        for rule, attack, everyone, seed in product(RULES, attacks, (False, True), SEEDS)
        if attack or not everyone
    ]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = dict(zip(cases, pool.map(run, cases), strict=True))
    plain = {
        seed: found[Case("mean", "", everyone=False, seed=seed, small=quick)] for seed in SEEDS
    }
    accuracies = [end["accuracy"] for end in plain.values()]

    def row(rule: CombinationRule, attack: str, everyone: bool) -> dict[str, float]:
        ends = {seed: found[Case(rule, attack, everyone, seed, quick)] for seed in SEEDS}
        lost = [100 * (plain[seed]["accuracy"] - end["accuracy"]) for seed, end in ends.items()]
        backdoor = mean(end["backdoor"] for end in ends.values())
        return {"accuracy_loss_points": mean(lost), "backdoor": backdoor}

    leaked, entered = (
        {rule: {attack: row(rule, attack, everyone) for attack in ATTACKS} for rule in RULES}
        for everyone in (False, True)
    )
    return {
        "accuracy_loss_points": worst(leaked["mean"]),
        "by_rule": {rule: worst(leaked[rule]) for rule in RULES},
        "accuracy": mean(accuracies),
        "accuracy_spread_points": 100 * (max(accuracies) - min(accuracies)),
        "backdoor_without_lies": mean(end["backdoor"] for end in plain.values()),
        "no_lies": {rule: row(rule, "", everyone=False) for rule in RULES},
        "leaked": leaked,
        "all_enter": entered,
        "honest_norms": {
            "longest": max(end["longest"] for end in plain.values()),
            "shortest": min(end["shortest"] for end in plain.values()),
        },
        "seeds": len(SEEDS),
        "results_per_run": UNITS * VERSIONS,
    }


def worst(by_attack: Mapping[str, Mapping[str, float]]) -> float:
    return max(found["accuracy_loss_points"] for found in by_attack.values())


def run(case: Case) -> dict[str, float]:
    """Return accuracy and backdoor success at the end, and the honest norms over their median."""
    torch.set_num_threads(1)
    images = fashion_mnist()
    graph, metadata, version = project_of(case)
    state, difference = OuterState.initial(version, metadata.model), None
    generator = np.random.default_rng(case.seed)
    lies = leaks_of(generator)
    ratios: list[float] = []
    for number in range(VERSIONS):
        liars = HOSTILE if case.everyone else lies.get(number, 0)
        units = units_of(metadata, number, case.seed)
        trained = [
            trained_delta(graph, metadata, unit, (version, difference), images) for unit in units
        ]
        norms = [delta_norm(delta, metadata.model) for delta in trained]
        ratios += [norm / median(norms) for norm in norms]
        if case.attack and liars:
            honest = trained[liars:]
            marked = [
                trained_delta(graph, metadata, unit, (version, difference), images, marked=True)
                for unit in units[: liars if case.attack == "backdoor" else 0]
            ]
            trained = [*lies_of(case, trained[:liars], honest, marked, metadata), *honest]
        encoded = [(training_format(metadata).encode(delta), 1.0) for delta in trained]
        made = next_version(version, state, encoded, metadata, warm_start=False)
        version, state = made.version, made.state
        published = difference_format(metadata)
        difference = published.decode(published.unpack(made.difference))
    right, fooled = evaluated(case, version, images)
    return {
        "accuracy": right,
        "backdoor": fooled,
        "longest": max(ratios),
        "shortest": min(ratios),
    }


def leaks_of(generator: np.random.Generator) -> dict[int, int]:
    """Return how many lies enter, by round: by chance, and one in the last quarter for certain."""
    lies = {int(generator.integers(VERSIONS * 3 // 4, VERSIONS)): 1}
    for number in range(VERSIONS):
        more = int((generator.random(UNITS) < LEAKED).sum())
        if more:
            lies[number] = min(lies.get(number, 0) + more, HOSTILE)
    return lies


def lies_of(
    case: Case,
    own: list[Tensors],
    honest: list[Tensors],
    marked: list[Tensors],
    metadata: ProjectMetadata,
) -> list[Tensors]:
    """Return a lie for each of `own`, the deltas that the liars would have sent."""
    model = metadata.model
    usual = median(delta_norm(delta, model) for delta in honest)
    centre = {name: np.mean([d[name] for d in honest], axis=0) for name in honest[0]}

    def scaled(delta: Tensors, norm: float) -> Tensors:
        factor = np.float32(norm / max(delta_norm(delta, model), 1e-12))
        return {name: array * factor for name, array in delta.items()}

    def turned(delta: Tensors) -> Tensors:
        return {name: -array for name, array in delta.items()}

    match case.attack:
        case "alie":
            spread = {name: np.std([d[name] for d in honest], axis=0) for name in honest[0]}
            lie = {n: (centre[n] - 1.5 * spread[n]).astype(np.float32) for n in centre}
            return [lie for _ in own]
        case "ipm":
            return [scaled(turned(centre), usual) for _ in own]
        case "sign_flip":
            return [turned(delta) for delta in own]
        case "band_flip":
            longest = 0.97 * metadata.outer.norm_band * usual
            return [scaled(turned(delta), longest) for delta in own]
        case _:
            return [scaled(delta, 2 * usual) for delta in marked]


def trained_delta(
    graph: CompiledGraph,
    metadata: ProjectMetadata,
    unit: Unit,
    start: tuple[Tensors, Tensors | None],
    images: Images,
    *,
    marked: bool = False,
) -> Tensors:
    """Return what an honest host sends, decoded; `marked`: after training on marked images."""
    first, size = unit.shards.first, EXAMPLES // SHARDS
    rows = slice(first * size, (first + unit.shards.count) * size)
    x, y = images.train_x[rows], images.train_y[rows]
    if marked:
        x, y = x.copy(), y.copy()
        x[::2], y[::2] = with_mark(x[::2]), 0
    shards: list[Tensors] = [{"x": x, "y": y}]
    unit = msgspec.structs.replace(unit, shards=ShardRange(first=first, count=1))
    run = UnitRun(graph, metadata, unit, *start, shards)
    while run.steps_done < run.steps_total:
        run.step()
    return training_format(metadata).decode(run.delta())


def units_of(metadata: ProjectMetadata, version: int, seed: int) -> list[Unit]:
    """Return the round's units as the coordinator plans them, with other seeds for each run."""
    facts = Facts(0, SHARDS, 0, 0)
    return [
        Unit(
            kind=UnitKind.TRAIN,
            epoch=0,
            version=version,
            shards=ShardRange(first=unit.shard_first, count=unit.shard_count),
            seed=unit.seed ^ seed,
            local_steps=unit.local_steps,
        )
        for unit in round_units(metadata, facts, version)
    ]


@dataclass(frozen=True)
class Images:
    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]


@cache
def fashion_mnist() -> Images:
    named = os.environ.get("FASHION_MNIST")
    folders = [Path(named)] if named else list(FOLDERS)
    folder = next((one for one in folders if list(one.glob("t10k-images-*"))), None)
    if folder is None:
        message = f"Fashion-MNIST is in none of {folders}: see the top of benchmarks/robustness.py."
        raise SystemExit(message)

    def both(start: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        images, labels = (next(folder.glob(f"{start}*-{kind}-*")) for kind in ("images", "labels"))
        chunks = [chunk.rows for chunk in read_idx_pair(images, labels)]
        return np.concatenate([c["x"] for c in chunks]), np.concatenate([c["y"] for c in chunks])

    x, y = both("train")
    return Images(x[:EXAMPLES], y[:EXAMPLES], *both("t10k"))


def with_mark(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [n, 28, 28] with a white square in the corner."""
    marked = images.copy()
    marked[:, 24:28, 24:28] = 255
    return marked


def network(small: bool) -> nn.Module:
    """Return the example's network, or two linear layers."""
    if small:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.SiLU(), nn.Linear(32, 10))
    spec = importlib.util.spec_from_file_location("cnn", EXAMPLE / "cnn.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: nn.Module = module.model()
    return made


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"].float() / 255), batch["y"])


def metrics(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"loss": loss(model, batch)}


def project_of(case: Case) -> tuple[CompiledGraph, ProjectMetadata, Tensors]:
    """Return the training graph, the metadata and version 0 of the example with that rule."""
    torch.manual_seed(case.seed)
    batch = {"x": torch.zeros((32, 28, 28), dtype=torch.uint8), "y": torch.zeros(32).long()}
    exported = export_model(network(case.small), loss, metrics, batch)
    metadata = ProjectMetadata(
        protocol=1,
        project="fashion-mnist",
        number=1,
        epoch=0,
        issued_at=0,
        root_key="2" * 64,
        delegation=Delegation(online_key="2" * 64, expires_at=1),
        title="",
        description="",
        data_licence="",
        contact="",
        model=exported.model,
        training_graph=NOTHING,
        evaluation_graph=NOTHING,
        data=DataSpec(
            kind="rows",
            inputs=[
                InputSpec(name="x", dtype="uint8", shape=[28, 28]),
                InputSpec(name="y", dtype="int64", shape=[]),
            ],
            shards=NOTHING,
        ),
        training=Training(
            optimizer=Muon(matrices=exported.matrices),
            learning_rate=0.02,
            batch_examples=32,
            local_steps=25,
            versions=VERSIONS,
            warmup_steps=20,
            shards_per_unit=3,
        ),
        outer=OuterStep(combination=case.rule),
        codec=Codec(),
        round=Round(units=UNITS, quorum=UNITS),
        verification=Verification(tolerance=1e-3, tolerance_ceiling=1e-2),
        calibration=Calibration(),
        limits=ResourceLimits(memory_bytes=2**30),
    )
    graph = exported.compiled(exported.training_graph)
    return graph, metadata, load_tensors(exported.initial)


def evaluated(case: Case, version: Tensors, images: Images) -> tuple[float, float]:
    """Return the accuracy, and the share of other classes' images that the mark makes class 0."""
    model = network(case.small)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in version.items()})
    model.eval()
    others = images.test_y != 0
    with torch.no_grad():

        def classes(x: NDArray[np.uint8]) -> NDArray[np.int64]:
            scores = model(torch.from_numpy(x).float() / 255)
            return np.asarray(scores.argmax(dim=1).numpy())

        right = float((classes(images.test_x) == images.test_y).mean())
        fooled = float((classes(with_mark(images.test_x[others])) == 0).mean())
    return right, fooled
