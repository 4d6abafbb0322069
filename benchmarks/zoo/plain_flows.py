"""Flows of plain torch."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, parts
from benchmarks.zoo.plain_generative import D, mlp, points

__all__ = ["FLOWS"]

Tensor = torch.Tensor


class Coupling(nn.Module):
    """An affine coupling; x [B, 2] -> (z [B, 2], log-determinant [B])."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(1, 2)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        scale, shift = self.inner(a).chunk(2, 1)
        scale = scale.tanh()
        return torch.cat([b * scale.exp() + shift, a], 1), scale.squeeze(1)


def _flow(model: Any, batch: Batch) -> Tensor:
    z, total = batch["x"], torch.zeros(batch["x"].shape[0])
    for step in model.steps:
        z, change = step(z)
        total = total + change
    found: Tensor = D.Normal(0.0, 1.0).log_prob(z).sum(1) + total
    return -found.mean()


class Mixed(nn.Module):
    """Glow's invertible linear map; x [B, 2] -> (z [B, 2], log-determinant)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(2, 2))[0])

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.weight, torch.linalg.slogdet(self.weight)[1]


class Planar(nn.Module):
    """z = x + u tanh(w x + b) (Rezende 2015); x [B, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(2)), nn.Parameter(0.1 * torch.randn(2))
        self.b = nn.Parameter(torch.zeros(1))

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x @ self.w + self.b)
        slope = (1 - h.square())[:, None] * self.w
        return x + h[:, None] * self.u, torch.log((1 + slope @ self.u).abs() + 1e-6)


def _ode(model: Any, batch: Batch) -> Tensor:
    """Return the flow-matching loss of an ODE that four steps of Runge-Kutta solve."""
    x, step = batch["x"][:, :1].expand(-1, 2), 0.25
    for _ in range(4):
        k1 = model(x)
        k2 = model(x + step / 2 * k1)
        k3 = model(x + step / 2 * k2)
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + model(x + step * k3))
    return F.mse_loss(x, batch["x"])


FLOWS: Final[Zoo] = {
    "RealNVP": Entry(lambda: parts(steps=[Coupling() for _ in range(4)]), points, _flow),
    "Glow": Entry(
        lambda: parts(steps=[Coupling(), Mixed(), Coupling(), Mixed()]), points, _flow
    ),
    "planar flow": Entry(lambda: parts(steps=[Planar() for _ in range(4)]), points, _flow),
    "neural ODE": Entry(lambda: mlp(2, 2), points, _ode),
}  # fmt: skip
