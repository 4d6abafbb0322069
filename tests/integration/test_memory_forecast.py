"""What the dry run forecasts is enough for a step, forward and backward, and not far too much."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP = """
import json, sys
import psutil, torch
from torch import nn
from pleb_project.export import export_model
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run
from pleb_shared.training.graph import CompiledGraph

torch.set_num_threads(1)
torch.manual_seed(0)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(64, 256, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0].square().mean()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.into = nn.Linear(64, 3 * 64)

    def forward(self, x):
        q, k, v = self.into(x).unflatten(-1, (12, 16)).transpose(1, 2).chunk(3, 1)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return nn.functional.scaled_dot_product_attention(q, k, v, mask, 0.1).square().mean()


class View(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))

    def forward(self, x):
        return self.weight.expand(2**20, 64)[7].sum() + x.mean()


model, shape = {
    "lstm": (Recurrent(), (32, 200, 64)),
    "attention": (Attention(), (4, 512, 64)),
    "view": (View(), (4, 8)),
}[sys.argv[1]]


def loss(model, batch):
    return model(batch["x"])


small = {"x": torch.randn(shape)}
exported = export_model(model, loss, lambda m, b: {"loss": loss(m, b)}, small)
graph = parse_graph(exported.training_graph)
forecast = dry_run(graph, trains=True).memory_bytes
compiled = CompiledGraph(graph)
process = psutil.Process()
tensors = dict(model.named_parameters()) | dict(model.named_buffers())


def step():
    compiled.run(tensors, tensors, small, NodeDraws(0, 0))["loss"].backward()


# Exporting has taken far more than a step, so its memory is given back before the peak is reset.
import ctypes, gc
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = process.memory_info().rss
open("/proc/self/clear_refs", "w").write("5")
step()
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps({"forecast": forecast, "taken": peak - before}))
"""
ROOM = 24 * 2**20
"""Code and tables that the first run of a kernel loads."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "attention", "view"])
def test_a_step_takes_no_more_than_was_forecast(name):
    ended = subprocess.run(
        [sys.executable, "-c", STEP, name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout)
    assert found["taken"] < found["forecast"] + ROOM, found
    assert found["forecast"] < 4 * found["taken"] + ROOM, found
