"""Contrastive models of plain torch, and those that have no single loss."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.zoo.case import Batch, Entry, Zoo, images, parts
from benchmarks.zoo.plain_generative import encoder, mlp, pictures, points

__all__ = ["CONTRASTIVE", "REFUSED"]

Tensor = torch.Tensor


def _views(x: Tensor) -> Tensor:
    """Return one random view of images [B, 1, 16, 16]: a shift, a flip, brightness, noise."""
    shift = torch.randint(0, 5, (1,))
    places = (torch.arange(16) + shift) % 16
    x = x.index_select(3, places)
    flipped = torch.rand(x.shape[0], 1, 1, 1) < 0.5
    x = torch.where(flipped, x.flip(3), x) * (0.8 + 0.4 * torch.rand(x.shape[0], 1, 1, 1))
    return x + 0.05 * torch.randn_like(x)


def _two(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    first: Tensor = model.encoder(_views(batch["x"]))
    second: Tensor = model.encoder(_views(batch["x"]))
    return first, second


def _simclr(model: Any, batch: Batch) -> Tensor:
    z = F.normalize(torch.cat(_two(model, batch)), dim=1)
    count = z.shape[0]
    scores = (z @ z.T / 0.5).masked_fill(torch.eye(count, dtype=torch.bool), -1e9)
    return F.cross_entropy(scores, (torch.arange(count) + count // 2) % count)


def _vicreg(model: Any, batch: Batch) -> Tensor:
    a, b = _two(model, batch)

    def variance(z: Tensor) -> Tensor:
        return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()

    def covariance(z: Tensor) -> Tensor:
        z = z - z.mean(0)
        c = z.T @ z / (z.shape[0] - 1)
        return (c - torch.diag(c.diagonal())).square().sum() / z.shape[1]

    return 25 * F.mse_loss(a, b) + 25 * (variance(a) + variance(b)) + covariance(a) + covariance(b)


def _barlow(model: Any, batch: Batch) -> Tensor:
    a, b = (model.norm(z) for z in _two(model, batch))
    c = a.T @ b / a.shape[0]
    on = (c.diagonal() - 1).square().sum()
    off = (c - torch.diag_embed(c.diagonal())).square().sum()
    found: Tensor = on + 0.005 * off
    return found


def _siamese(model: Any, batch: Batch) -> Tensor:
    a, b = _two(model, batch)
    pa, pb = model.predictor(a), model.predictor(b)
    near = F.cosine_similarity(pa, b.detach()) + F.cosine_similarity(pb, a.detach())
    return -near.mean() / 2


def _byol(model: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        for slow, fast in zip(model.target.parameters(), model.encoder.parameters(), strict=True):
            slow.mul_(0.99).add_(fast, alpha=0.01)
    found = model.predictor(model.encoder(_views(batch["x"])))
    with torch.no_grad():
        wanted = model.target(_views(batch["x"]))
    return -F.cosine_similarity(found, wanted).mean()


def _online_and_target() -> nn.Module:
    online = encoder(16)
    return parts(encoder=online, target=copy.deepcopy(online).requires_grad_(False),
                 predictor=mlp(16, 16))  # fmt: skip


def _supervised(model: Any, batch: Batch) -> Tensor:
    z = F.normalize(model.encoder(batch["x"]), dim=1)
    scores = z @ z.T / 0.2
    own = torch.eye(z.shape[0], dtype=torch.bool)
    alike = (batch["y"][:, None] == batch["y"]) & ~own
    share = scores - scores.masked_fill(own, -1e9).logsumexp(1, keepdim=True)
    return -((share * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def _labelled() -> Batch:
    return images(1, 16)


def _arcface(model: Any, batch: Batch) -> Tensor:
    cosine = F.linear(F.normalize(model.encoder(batch["x"])), F.normalize(model.centres))
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    margin = 0.3 * F.one_hot(batch["y"], 4)
    return F.cross_entropy(16 * torch.cos(angle + margin), batch["y"])


def _mixup(model: Any, batch: Batch) -> Tensor:
    order = torch.randperm(batch["x"].shape[0])
    share = torch.rand(())
    scores = model.encoder(share * batch["x"] + (1 - share) * batch["x"][order])
    return share * F.cross_entropy(scores, batch["y"]) + (1 - share) * F.cross_entropy(
        scores, batch["y"][order]
    )


CONTRASTIVE: Final[Zoo] = {
    "SimCLR": Entry(lambda: parts(encoder=encoder(16)), pictures, _simclr),
    "VICReg": Entry(lambda: parts(encoder=encoder(16)), pictures, _vicreg),
    "Barlow Twins": Entry(
        lambda: parts(encoder=encoder(16), norm=nn.BatchNorm1d(16, affine=False)), pictures,
        _barlow,
    ),
    "SimSiam": Entry(
        lambda: parts(encoder=encoder(16), predictor=mlp(16, 16)), pictures, _siamese
    ),
    "BYOL (moving average in loss)": Entry(_online_and_target, pictures, _byol),
    "supervised contrastive": Entry(
        lambda: parts(encoder=encoder(16)), _labelled, _supervised
    ),
    "triplets": Entry(
        lambda: parts(encoder=encoder(16)), _labelled,
        lambda m, b: F.triplet_margin_loss(
            m.encoder(b["x"]), m.encoder(_views(b["x"])), m.encoder(b["x"].roll(1, 0))),
    ),
    "ArcFace": Entry(
        lambda: parts(encoder=encoder(16), centres=nn.Parameter(torch.randn(4, 16))),
        _labelled, _arcface,
    ),
    "mixup": Entry(lambda: parts(encoder=encoder(4)), _labelled, _mixup),
}  # fmt: skip


def _gan(model: Any, batch: Batch) -> Any:
    false = model.generator(torch.randn(batch["x"].shape[0], 4))
    real, made = model.critic(batch["x"]), model.critic(false)
    critic = F.softplus(-real).mean() + F.softplus(model.critic(false.detach())).mean()
    return critic, F.softplus(-made).mean()


def _pinn(model: Any, batch: Batch) -> Tensor:
    x = batch["x"].requires_grad_()
    u = model(x)
    slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    residual: Tensor = slope[:, :1] + u
    return residual.square().mean()


def _score_of_energy(model: Any, batch: Batch) -> Tensor:
    noise = torch.randn_like(batch["x"])
    moved = (batch["x"] + 0.3 * noise).requires_grad_()
    slope = torch.autograd.grad(model(moved).sum(), moved, create_graph=True)[0]
    error: Tensor = slope * 0.3 - noise
    return error.square().mean()


REFUSED: Final[Zoo] = {
    "GAN": Entry(
        lambda: parts(generator=mlp(4, 2), critic=mlp(2, 1)), points, _gan, "a GAN"
    ),
    "PINN": Entry(lambda: mlp(2, 1), points, _pinn, "derivatives inside loss"),
    "energy by score (second derivatives)": Entry(
        lambda: mlp(2, 1), points, _score_of_energy, "derivatives inside loss"
    ),
}  # fmt: skip
