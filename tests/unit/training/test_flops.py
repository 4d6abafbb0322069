"""What a step is paid for is what autograd computes, as torch's own counter counts it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from pleb_project.export import export_model
from pleb_shared.protocol.flops import flops_per_evaluation, flops_per_step
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.training.draws import NodeDraws


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def head_only():
    """Nothing that is trained comes before the frozen layers: forward only."""
    model = mlp()
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    return model


def first_only():
    """All gradients pass through frozen layers, whose weights get none."""
    model = mlp().requires_grad_(False)
    model[0].requires_grad_()
    return model


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(inplace=True),
        nn.ConvTranspose1d(4, 2, 3), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


class Adapted(nn.Module):
    """A frozen layer between adapters, one of whose products is written into a slice."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(6, 6).requires_grad_(False)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.last = nn.Linear(12, 3).requires_grad_(False)

    @override
    def forward(self, x):
        found = torch.zeros(x.shape[0], 12)
        found[:, :6] = self.base(x) + self.up(self.down(x))
        with torch.no_grad():
            found[:, 6:] = self.base(x)
        return self.last(found)


class Products(nn.Module):
    """Matrix products of which one, two or no operands are trained."""

    table: torch.Tensor

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 3))
        self.register_buffer("table", torch.randn(6, 6))

    @override
    def forward(self, x):
        mixed = torch.matmul(x, self.table)
        y = torch.addmm(x[:, :3], mixed, self.w)
        z = torch.bmm(y[:, :, None], y[:, None])
        return y + z.sum(1) + torch.einsum("bi,io->bo", x, self.w).detach()


MODELS = [mlp, head_only, first_only, convolutional, Adapted, Products]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_step_costs_what_torch_counts(make):
    torch.manual_seed(0)
    model, batch = make(), {"x": torch.randn(4, 6), "y": torch.tensor([0, 1, 2, 0])}

    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"])

    exported = export_model(model, loss, lambda m, b: {"loss": loss(m, b)}, batch)
    graph = exported.compiled(exported.training_graph)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with FlopCounterMode(display=False) as counter:
        graph.run(tensors, tensors, batch, NodeDraws(0, 0))["loss"].backward()
    assert exported.flops_per_step == counter.get_total_flops()


def test_attention_costs_two_and_a_half_times_as_much_backward():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def loss(model, batch):
        return model(batch["x"], batch["x"], batch["x"], need_weights=False)[0].square().mean()

    batch = {"x": torch.randn(2, 5, 8)}
    exported = export_model(layer, loss, lambda m, b: {"loss": loss(m, b)}, batch)
    into, attention, out = 2 * 10 * 8 * 24, 2 * (2 * 2 * 5) * 5 * 8, 2 * 10 * 8 * 8
    assert flops_per_evaluation(parse_graph(exported.training_graph)) == into + attention + out
    assert flops_per_step(parse_graph(exported.training_graph)) == (
        2 * into + attention * 7 // 2 + 3 * out
    )
