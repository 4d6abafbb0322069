"""Models as their papers' code has them: scans, retention, splines, points, masked units."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, noise, whole

__all__ = ["PAPERS"]

Tensor = torch.Tensor


class Mamba(nn.Module):
    """A language model of one selective scan (Gu and Dao 2023); ids [B, T] of 20."""

    def __init__(self, width: int = 16, states: int = 4) -> None:
        super().__init__()
        inner = 2 * width
        self.embed, self.into = nn.Embedding(20, width), nn.Linear(width, 2 * inner)
        self.conv = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.select, self.step = nn.Linear(inner, 1 + 2 * states), nn.Linear(1, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out, self.head, self.states = nn.Linear(inner, width), nn.Linear(width, 20), states

    @override
    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        x, gate = self.into(h).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., : ids.shape[1]].transpose(1, 2))
        step, b, c = self.select(x).split([1, self.states, self.states], -1)
        step = F.softplus(self.step(step))[..., None]
        kept = torch.exp(-step * self.log_decay.exp())
        new = step * b[:, :, None] * x[..., None]
        state, found = torch.zeros_like(new[:, 0]), []
        for t in range(ids.shape[1]):
            state = kept[:, t] * state + new[:, t]
            found.append((state @ c[:, t, :, None]).squeeze(-1))
        y = torch.stack(found, 1) + x * self.skip
        logits: Tensor = self.head(h + self.out(y * F.silu(gate)))
        return logits


class RetNet(nn.Module):
    """A language model of one retention (Sun et al. 2023); ids [B, T] of 20."""

    decay: Tensor

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.embed, self.all = nn.Embedding(20, width), nn.Linear(width, 4 * width, bias=False)
        self.norm, self.out = nn.GroupNorm(heads, width), nn.Linear(width, width, bias=False)
        self.head, self.heads = nn.Linear(width, 20), heads
        ends = torch.linspace(math.log(1 / 32), math.log(1 / 512), heads)
        self.register_buffer("decay", 1 - ends.exp())

    @override
    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        count, length, width = x.shape
        *parts, gate = self.all(x).chunk(4, -1)
        q, k, v = (p.view(count, length, self.heads, -1).transpose(1, 2) for p in parts)
        ago = torch.arange(length)[:, None] - torch.arange(length)
        share = torch.where(ago >= 0, self.decay[:, None, None] ** ago.clamp(min=0), 0.0)
        y = (q @ k.transpose(-1, -2) * share / math.sqrt(q.shape[-1])) @ v
        y = self.norm(y.transpose(1, 2).reshape(count * length, width)).view(x.shape)
        logits: Tensor = self.head(x + self.out(F.silu(gate) * y))
        return logits


def _next(model: Any, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["x"][:, :-1]).flatten(0, 1), batch["x"][:, 1:].flatten())


def _counted() -> Batch:
    return {"x": (whole(20, 1) + torch.arange(13)) % 20}


class Splines(nn.Module):
    """A layer of a KAN (Liu et al. 2024): a cubic B-spline from each input to each output."""

    grid: Tensor

    def __init__(self, into: int, out: int, pieces: int = 5) -> None:
        super().__init__()
        ends = (torch.arange(-3, pieces + 4) * 2 / pieces - 1).expand(into, -1)
        self.register_buffer("grid", ends.contiguous())
        self.base = nn.Linear(into, out, bias=False)
        self.spline = nn.Parameter(0.1 * torch.randn(out, into * (pieces + 3)))

    @override
    def forward(self, x: Tensor) -> Tensor:
        at, g = x[..., None], self.grid
        basis = ((at >= g[:, :-1]) & (at < g[:, 1:])).to(x.dtype)
        for k in range(1, 4):
            rising = (at - g[:, : -(k + 1)]) / (g[:, k:-1] - g[:, : -(k + 1)])
            falling = (g[:, k + 1 :] - at) / (g[:, k + 1 :] - g[:, 1:-k])
            basis = rising * basis[..., :-1] + falling * basis[..., 1:]
        return F.linear(basis.flatten(1), self.spline) + self.base(F.silu(x))


class EdgeNet(nn.Module):
    """DGCNN (Wang et al. 2019): edges to the nearest points in feature space; x [B, 3, N]."""

    def __init__(self, neighbours: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 16, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2))
            for c in (6, 32)
        )
        self.last, self.neighbours = nn.Linear(32, 3), neighbours

    @override
    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            points = x.transpose(1, 2)
            near = torch.cdist(points, points).topk(self.neighbours, largest=False)[1]
            first = torch.arange(x.shape[0])[:, None, None]
            edges = points[first, near] - points[:, :, None]
            both = torch.cat([edges, points[:, :, None].expand_as(edges)], -1)
            x = conv(both.permute(0, 3, 1, 2)).amax(-1)
        found: Tensor = self.last(torch.cat([x.amax(-1), x.mean(-1)], 1))
        return found


class Hubert(nn.Module):
    """Masked prediction of units (Hsu et al. 2021) from a waveform [B, samples]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, 16, 10, 5), nn.GroupNorm(16, 16), nn.GELU(),
            nn.Conv1d(16, 16, 3, 2), nn.GELU(),
        )  # fmt: skip
        self.masked, self.codes = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(8, 16))
        self.place = nn.utils.parametrizations.weight_norm(
            nn.Conv1d(16, 16, 4, padding=2, groups=4), dim=2
        )
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.conv(x[:, None]).transpose(1, 2)
        start = torch.rand(f.shape[:2]) < 0.1
        mask = torch.stack([F.pad(start, (i, 0))[:, : f.shape[1]] for i in range(4)]).any(0)
        f = torch.where(mask[..., None], self.masked, f)
        f = f + F.gelu(self.place(f.transpose(1, 2))[..., : f.shape[1]].transpose(1, 2))
        return F.cosine_similarity(self.encoder(f)[:, :, None], self.codes, dim=-1) / 0.1, mask


def _units(model: Any, batch: Batch) -> Tensor:
    scores, mask = model(batch["x"])
    loss = F.cross_entropy(scores.mT, batch["units"][:, : scores.shape[1]], reduction="none")
    return (loss * mask).sum() / mask.sum().clamp(min=1) + 0.1 * (loss * ~mask).mean()


def _waves() -> Batch:
    units = whole(8, 1)
    return {"x": noise(200) * 0.1 + torch.sin(torch.arange(200) * (1 + units) / 8.0),
            "units": units.expand(-1, 20).contiguous()}  # fmt: skip


def _clouds() -> Batch:
    y = whole(3)
    return {"x": noise(3, 20) * (1 + y[:, None, None]), "y": y}


PAPERS: Final[Zoo] = {
    "Mamba (selective scan)": Entry(Mamba, _counted, _next),
    "RetNet": Entry(RetNet, _counted, _next),
    "KAN (B-splines)": Entry(
        lambda: nn.Sequential(Splines(4, 6), Splines(6, 1)),
        lambda: {"x": noise(4).tanh(), "y": noise(4)[:, 0] ** 2},
        lambda m, b: F.mse_loss(m(b["x"]).squeeze(-1), b["y"]),
    ),
    "DGCNN": Entry(EdgeNet, _clouds, lambda m, b: F.cross_entropy(m(b["x"]), b["y"])),
    "HuBERT (masked units)": Entry(Hubert, _waves, _units),
}
