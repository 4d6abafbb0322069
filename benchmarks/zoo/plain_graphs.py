"""Graph networks and sets of plain torch: messages by index_add and scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, noise, parts, relu_mlp, whole

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GRAPHS"]

Tensor = torch.Tensor


_NODES: Final = 10
_EDGES: Final = 24


def _graphs() -> Batch:
    """Return graphs of 10 nodes `x` [examples, 10, 6] and 24 edges, and `y` [examples]."""
    x = noise(_NODES, 6)
    return {"x": x, "source": whole(_NODES, _EDGES), "target": whole(_NODES, _EDGES, seed=1),
            "place": noise(_NODES, 3), "y": x[..., 0].sum(1)}  # fmt: skip


def _flat(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nodes of all graphs [N, 6], and their edges' ends [E] each."""
    count = batch["x"].shape[0]
    first = _NODES * torch.arange(count)[:, None]
    source, target = (batch[end] + first for end in ("source", "target"))
    return batch["x"].flatten(0, 1), source.flatten(), target.flatten()


def _read(h: Tensor) -> Tensor:
    """Return the sum of the nodes [N, C] of each graph, [B, C]."""
    return h.view(-1, _NODES, h.shape[-1]).sum(1)


class Gcn(nn.Module):
    """A graph convolution by index_add (Kipf 2017)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(into, out)

    @override
    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        degree = torch.ones(x.shape[0]).index_add(0, target, torch.ones(target.shape[0]))
        norm = (degree[source] * degree[target]).rsqrt()[:, None]
        h = self.linear(x)
        found: Tensor = h / degree[:, None] + torch.zeros_like(h).index_add_(
            0, target, norm * h[source]
        )
        return found


class Gat(nn.Module):
    """Graph attention with a softmax over each node's edges, by scatter (Velickovic 2018)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.linear, self.score = nn.Linear(into, out), nn.Linear(2 * out, 1)

    @override
    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        h = self.linear(x)
        scores = F.leaky_relu(self.score(torch.cat([h[source], h[target]], 1)), 0.2).squeeze(1)
        most = torch.full((x.shape[0],), -1e9).scatter_reduce(0, target, scores.detach(), "amax")
        share = torch.exp(scores - most[target])
        total = torch.zeros(x.shape[0]).scatter_add(0, target, share)
        share = share / (total[target] + 1e-9)
        return torch.zeros_like(h).index_add(0, target, share[:, None] * h[source])


class Gin(nn.Module):
    """(1 + e) x plus the sum of neighbours, through an MLP (Xu 2019)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.inner, self.e = relu_mlp(into, out), nn.Parameter(torch.zeros(()))

    @override
    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        around = torch.zeros_like(x).index_add(0, target, x[source])
        found: Tensor = self.inner((1 + self.e) * x + around)
        return found


class Sage(nn.Module):
    """GraphSAGE with the mean, or the maximum, of neighbours by scatter_reduce."""

    def __init__(self, into: int, out: int, kind: str) -> None:
        super().__init__()
        self.own, self.other, self.kind = nn.Linear(into, out), nn.Linear(into, out), kind

    @override
    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        index = target[:, None].expand(-1, x.shape[1])
        around = torch.zeros_like(x).scatter_reduce(
            0, index, x[source], self.kind, include_self=False
        )
        found: Tensor = self.own(x) + self.other(around)
        return found


def _graph_entry(layer: Callable[[int, int], nn.Module]) -> Entry:
    def loss(model: Any, batch: Batch) -> Tensor:
        x, source, target = _flat(batch)
        h = F.relu(model.first(x, source, target))
        h = model.second(h, source, target)
        return F.mse_loss(model.last(_read(h)).squeeze(1), batch["y"])

    return Entry(
        lambda: parts(first=layer(6, 16), second=layer(16, 16), last=nn.Linear(16, 1)),
        _graphs, loss,
    )  # fmt: skip


def _mpnn(model: Any, batch: Batch) -> Tensor:
    x, source, target = _flat(batch)
    h = model.into(x)
    for _ in range(2):
        message = model.message(torch.cat([h[source], h[target]], 1))
        h = model.update(torch.zeros_like(h).index_add(0, target, message), h)
    return F.mse_loss(model.last(_read(h)).squeeze(1), batch["y"])


def _egnn(model: Any, batch: Batch) -> Tensor:
    x, source, target = _flat(batch)
    h, place = model.into(x), batch["place"].flatten(0, 1)
    gap = place[source] - place[target]
    far = gap.square().sum(1, keepdim=True)
    message = model.message(torch.cat([h[source], h[target], far], 1))
    place = place.index_add(0, target, gap * model.move(message) / _NODES)
    h = h + torch.zeros_like(h).index_add(0, target, message)
    return F.mse_loss(model.last(_read(h)).squeeze(1), batch["y"]) + place.square().mean()


def _schnet(model: Any, batch: Batch) -> Tensor:
    h, place = model.into(batch["x"]), batch["place"]
    far = torch.cdist(place, place)[..., None]
    basis = torch.exp(-4 * (far - torch.linspace(0, 4, 8)).square())
    h = h + (model.filter(basis) * h[:, None]).sum(2)
    return F.mse_loss(model.last(h.sum(1)).squeeze(1), batch["y"])


def _graph_transformer(model: Any, batch: Batch) -> Tensor:
    count = batch["x"].shape[0]
    near = torch.eye(_NODES).expand(count, -1, -1).clone()
    near[torch.arange(count)[:, None], batch["source"], batch["target"]] = 1.0
    h = model.into(batch["x"])
    mask = torch.where(near > 0, 0.0, -1e9).repeat_interleave(2, 0)
    h = h + model.attend(h, h, h, attn_mask=mask)[0]
    return F.mse_loss(model.last(h.sum(1)).squeeze(1), batch["y"])


def _deep_sets(model: Any, batch: Batch) -> Tensor:
    return F.mse_loss(model.last(model.into(batch["x"]).sum(1)).squeeze(1), batch["y"])


def _set_transformer(model: Any, batch: Batch) -> Tensor:
    h = model.into(batch["x"])
    seeds = model.seeds.expand(h.shape[0], -1, -1)
    inner = model.attend(seeds, h, h)[0]
    h = h + model.back(h, inner, inner)[0]
    return F.mse_loss(model.last(h.mean(1)).squeeze(1), batch["y"])


def _link(model: Any, batch: Batch) -> Tensor:
    x, source, target = _flat(batch)
    h = model.first(x, source, target)
    wrong = target[torch.randperm(target.shape[0])]
    scores = [(h[source] * h[end]).sum(1) for end in (target, wrong)]
    return F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()


GRAPHS: Final[Zoo] = {
    "GCN": _graph_entry(Gcn),
    "GAT": _graph_entry(Gat),
    "GIN": _graph_entry(Gin),
    "GraphSAGE (mean)": _graph_entry(lambda a, b: Sage(a, b, "mean")),
    "GraphSAGE (maximum)": _graph_entry(lambda a, b: Sage(a, b, "amax")),
    "MPNN with GRU": Entry(
        lambda: parts(into=nn.Linear(6, 16), message=relu_mlp(32, 16), update=nn.GRUCell(16, 16),
                      last=nn.Linear(16, 1)), _graphs, _mpnn,
    ),
    "EGNN": Entry(
        lambda: parts(into=nn.Linear(6, 16), message=relu_mlp(33, 16), move=nn.Linear(16, 1),
                      last=nn.Linear(16, 1)), _graphs, _egnn,
    ),
    "SchNet": Entry(
        lambda: parts(into=nn.Linear(6, 16), filter=relu_mlp(8, 16), last=relu_mlp(16, 1)), _graphs,
        _schnet,
    ),
    "graph transformer": Entry(
        lambda: parts(into=nn.Linear(6, 16), last=nn.Linear(16, 1),
                      attend=nn.MultiheadAttention(16, 2, batch_first=True)),
        _graphs, _graph_transformer,
    ),
    "Deep Sets": Entry(
        lambda: parts(into=relu_mlp(6, 16), last=relu_mlp(16, 1)), _graphs, _deep_sets
    ),
    "Set Transformer": Entry(
        lambda: parts(into=nn.Linear(6, 16), seeds=nn.Parameter(torch.randn(1, 4, 16)),
                      attend=nn.MultiheadAttention(16, 2, batch_first=True),
                      back=nn.MultiheadAttention(16, 2, batch_first=True), last=nn.Linear(16, 1)),
        _graphs, _set_transformer,
    ),
    "link prediction": Entry(lambda: parts(first=Gcn(6, 16)), _graphs, _link),
}  # fmt: skip
