"""Graphs and tensors from strangers: parsed, counted, checked and dry-run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_shared.protocol.flops import flops_per_step
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.tensors.layout import Tensors, load_tensors, save_tensors
from pleb_shared.training.allow_list import ALLOWED
from pleb_shared.training.dry_run import dry_run
from tests.small_projects import cnn_project, gpt_project
from tests.soak.frame import Target

if TYPE_CHECKING:
    from collections.abc import Sequence


@cache
def _graphs() -> Sequence[bytes]:
    projects = (cnn_project().exported, gpt_project().exported)
    return [graph for p in projects for graph in (p.training_graph, p.evaluation_graph)]


def _read(data: bytes) -> None:
    flops_per_step(parse_graph(data))


def _dry_run(data: bytes) -> None:
    dry_run(parse_graph(data), trains=False)


def _dry_run_backward(data: bytes) -> None:
    dry_run(parse_graph(data), trains=True)


def _blobs() -> Sequence[bytes]:
    tensors: Tensors = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 2), np.int64),
        "flag": np.array(1, np.uint8),
    }
    return [save_tensors(tensors), save_tensors({}), cnn_project().exported.initial]


TARGETS: Final = (
    Target(
        name="graph",
        run=_read,
        seeds=_graphs,
        shares_seeds=True,
        json=True,
        words=tuple(ALLOWED),
    ),
    Target(
        name="dry-run",
        run=_dry_run,
        seeds=_graphs,
        shares_seeds=True,
        json=True,
        words=tuple(ALLOWED),
        short_runs=100,
        long_runs=50_000,
    ),
    Target(
        name="dry-run-backward",
        run=_dry_run_backward,
        seeds=lambda: _graphs()[::2],
        shares_seeds=True,
        json=True,
        words=tuple(ALLOWED),
        short_runs=100,
        long_runs=50_000,
    ),
    Target(name="safetensors", run=load_tensors, seeds=_blobs, json=True, short_runs=2_000),
)
