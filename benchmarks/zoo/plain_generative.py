"""Autoencoders and diffusion of plain torch: they draw numbers within a step."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, images, noise, parts, whole

__all__ = ["AUTOENCODERS", "DIFFUSION"]

Tensor = torch.Tensor
D: Any = torch.distributions  # its functions have no types


def points() -> Batch:
    """Return `x` [examples, 2], points of two moons."""
    angle, side = math.pi * noise(1).sigmoid(), whole(2, 1).float()
    x = torch.cat([angle.cos() + side, angle.sin() * (1 - 2 * side)], 1)
    return {"x": x + 0.05 * noise(2)}


def pictures() -> Batch:
    return {"x": images(1, 16)["x"].sigmoid()}


def mlp(into: int, out: int, hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(into, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, out),
    )  # fmt: skip


def encoder(out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.SiLU(), nn.Flatten(),
        nn.Linear(256, out),
    )  # fmt: skip


def _decoder(into: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(into, 256), nn.Unflatten(1, (16, 4, 4)), nn.SiLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1),
    )  # fmt: skip


def _pair(out: int, into: int) -> nn.Module:
    return parts(encoder=encoder(out), decoder=_decoder(into))


def _vae(model: Any, batch: Batch, beta: float = 1.0) -> Tensor:
    mean, log_var = model.encoder(batch["x"]).chunk(2, -1)
    z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
    found = F.binary_cross_entropy_with_logits(model.decoder(z), batch["x"], reduction="sum")
    kl = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp())
    total: Tensor = (found + beta * kl) / (256 * mean.shape[0])
    return total


def _vae_distributions(model: Any, batch: Batch) -> Tensor:
    mean, log_std = model.encoder(batch["x"]).chunk(2, -1)
    q, p = D.Normal(mean, log_std.exp()), D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    found = model.decoder(q.rsample())
    kl: Tensor = D.kl_divergence(q, p).sum(-1).mean()
    return F.mse_loss(found, batch["x"], reduction="sum") / batch["x"].shape[0] + kl


def _iwae(model: Any, batch: Batch) -> Tensor:
    x = batch["x"].flatten(1)
    mean, log_std = model.encoder(batch["x"]).chunk(2, -1)
    q = D.Normal(mean, log_std.exp())
    z = q.rsample((5,))
    scores = model.decoder(z.flatten(0, 1)).view(5, *x.shape)
    likelihood = -F.binary_cross_entropy_with_logits(
        scores, x.expand_as(scores), reduction="none"
    ).sum(-1)
    weight = likelihood + (D.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)
    bound: Tensor = torch.logsumexp(weight, 0) - math.log(5)
    return -bound.mean() / 256


def _vq_vae(model: Any, batch: Batch) -> Tensor:
    z = model.encoder(batch["x"]).view(-1, 8)
    codes = model.codes.weight
    nearest = codes[torch.cdist(z, codes).argmin(1)]
    used = z + (nearest - z).detach()
    found = model.decoder(used.view(-1, 32))
    commit = F.mse_loss(z, nearest.detach()) + F.mse_loss(nearest, z.detach())
    return F.mse_loss(found.sigmoid(), batch["x"]) + commit


def _gumbel(model: Any, batch: Batch) -> Tensor:
    scores = model.encoder(batch["x"]).view(-1, 4, 8)
    codes = F.gumbel_softmax(scores, tau=0.7)
    found = model.decoder(codes.flatten(1))
    p = scores.softmax(-1)
    return F.mse_loss(found.sigmoid(), batch["x"]) + 0.01 * (p * (p * 8 + 1e-6).log()).mean()


def _masked_autoencoder(model: Any, batch: Batch) -> Tensor:
    patches = F.unfold(batch["x"], 4, stride=4).mT  # [B, 16, 16]
    order = torch.rand(patches.shape[:2]).argsort(1)
    kept = order[:, :4, None].expand(-1, -1, 32)
    tokens = (model.embed(patches) + model.places).gather(1, kept)
    seen = model.encoder(tokens)
    full = (model.mask + model.places).expand(patches.shape[0], -1, -1).scatter(1, kept, seen)
    loss = (model.last(full) - patches).square().mean(-1)
    hidden = torch.ones_like(loss).scatter(1, order[:, :4], 0.0)
    total: Tensor = (loss * hidden).sum() / hidden.sum()
    return total


AUTOENCODERS: Final[Zoo] = {
    "autoencoder": Entry(
        lambda: _pair(8, 8), pictures,
        lambda m, b: F.mse_loss(m.decoder(m.encoder(b["x"])).sigmoid(), b["x"]),
    ),
    "denoising autoencoder": Entry(
        lambda: _pair(8, 8), pictures,
        lambda m, b: F.mse_loss(
            m.decoder(m.encoder(b["x"] + 0.3 * torch.randn_like(b["x"]))).sigmoid(), b["x"]),
    ),
    "VAE": Entry(lambda: _pair(16, 8), pictures, _vae),
    "beta-VAE": Entry(lambda: _pair(16, 8), pictures, lambda m, b: _vae(m, b, 4.0)),
    "VAE (torch.distributions)": Entry(lambda: _pair(16, 8), pictures, _vae_distributions),
    "IWAE": Entry(
        lambda: parts(encoder=encoder(16), decoder=mlp(8, 256)), pictures, _iwae
    ),
    "VQ-VAE": Entry(
        lambda: parts(encoder=encoder(32), decoder=_decoder(32), codes=nn.Embedding(16, 8)),
        pictures, _vq_vae,
    ),
    "Gumbel VAE": Entry(lambda: _pair(32, 32), pictures, _gumbel),
    "masked autoencoder": Entry(
        lambda: parts(
            embed=nn.Linear(16, 32), places=nn.Parameter(0.02 * torch.randn(1, 16, 32)),
            mask=nn.Parameter(torch.zeros(1, 1, 32)), last=nn.Linear(32, 16),
            encoder=nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True),
        ),
        pictures, _masked_autoencoder,
    ),
    "MADE": Entry(
        lambda: parts(first=nn.Linear(16, 32), last=nn.Linear(32, 16)),
        lambda: {"x": (noise(16) > 0).float()},
        lambda m, b: F.binary_cross_entropy_with_logits(_made(m, b["x"]), b["x"]),
    ),
}  # fmt: skip


def _made(model: Any, x: Tensor) -> Tensor:
    degree = torch.arange(32) % 15
    first = (degree[:, None] >= torch.arange(16)).float()
    last = (torch.arange(16)[:, None] > degree).float()
    h = F.relu(F.linear(x, model.first.weight * first, model.first.bias))
    return F.linear(h, model.last.weight * last, model.last.bias)


class Denoiser(nn.Module):
    """A U-Net with the step's embedding and group norm; x [B, 1, 16, 16], t [B]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.into = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.norm1, self.norm2 = nn.GroupNorm(4, width), nn.GroupNorm(4, width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.out = nn.ConvTranspose2d(width, width, 4, 2, 1), nn.Conv2d(
            2 * width, 1, 3, padding=1)  # fmt: skip

    @override
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rates = torch.exp(-math.log(1000.0) * torch.arange(8) / 8)
        angles = t[:, None].float() * rates
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        first = self.into(x)
        h = self.down(F.silu(self.norm1(first)) + time[..., None, None])
        flat = self.norm2(h).flatten(2).mT
        h = h + self.attend(flat, flat, flat, need_weights=False)[0].mT.reshape(h.shape)
        found: Tensor = self.out(torch.cat([self.up(h), first], 1))
        return found


def _ddpm(model: Any, batch: Batch) -> Tensor:
    x = 2 * batch["x"] - 1
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)
    t = torch.randint(0, 100, (x.shape[0],))
    a, e = kept[t][:, None, None, None], torch.randn_like(x)
    return F.mse_loss(model(a.sqrt() * x + (1 - a).sqrt() * e, t), e)


def _flow_matching(model: Any, batch: Batch) -> Tensor:
    x = batch["x"]
    t, e = torch.rand(x.shape[0], 1), torch.randn_like(x)
    return F.mse_loss(model(torch.cat([(1 - t) * e + t * x, t], 1)), x - e)


def _edm(model: Any, batch: Batch) -> Tensor:
    x = batch["x"]
    sigma = (1.2 * torch.randn(x.shape[0], 1) - 1.2).exp()
    noisy = x + sigma * torch.randn_like(x)
    total = (sigma.square() + 0.25).sqrt()
    inner = model(torch.cat([noisy / total, sigma.log() / 4], 1))
    found = 0.25 / total.square() * noisy + sigma * 0.5 / total * inner
    error = (found - x).square() * (total / (sigma * 0.5)).square()
    return error.mean()


def _score(model: Any, batch: Batch) -> Tensor:
    sigma = torch.logspace(-1, 0, 8)[torch.randint(8, (batch["x"].shape[0],))][:, None]
    e = torch.randn_like(batch["x"])
    found: Tensor = model(torch.cat([batch["x"] + sigma * e, sigma], 1))
    return (found * sigma + e).square().mean()


class DiT(nn.Module):
    """A transformer over patches whose norms follow step and class (Peebles 2023)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch, self.last = nn.Linear(16, width), nn.Linear(width, 16)
        self.places = nn.Parameter(0.02 * torch.randn(16, width))
        self.condition = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU("tanh"), nn.Linear(64, width))

    @override
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        tokens = self.patch(F.unfold(x, 4, stride=4).mT) + self.places
        a, b, g, c, d, h = self.condition(t[:, None] / 100)[:, None].chunk(6, -1)
        inner = self.norm(tokens) * (1 + a) + b
        tokens = tokens + g * self.attend(inner, inner, inner)[0]
        tokens = tokens + h * self.mlp(self.norm(tokens) * (1 + c) + d)
        return F.fold(self.last(tokens).mT, (16, 16), 4, stride=4)


DIFFUSION: Final[Zoo] = {
    "DDPM (U-Net)": Entry(Denoiser, pictures, _ddpm),
    "DiT": Entry(DiT, pictures, _ddpm),
    "flow matching": Entry(lambda: mlp(3, 2), points, _flow_matching),
    "EDM": Entry(lambda: mlp(3, 2), points, _edm),
    "score matching": Entry(lambda: mlp(3, 2), points, _score),
}
