"""A variational autoencoder of 8 x 8 digits (Kingma and Welling 2014)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Vae(nn.Module):
    """Images [batch, 64] to means and log variances [batch, 8] each, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.SiLU(), nn.Linear(48, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 48), nn.SiLU(), nn.Linear(48, 64))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance


def model() -> nn.Module:
    return Vae()


def bound(
    model: Vae, x: torch.Tensor, code: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """The negative evidence bound, its mean over the batch."""
    rebuilt = model.decoder(code)
    missed = binary_cross_entropy_with_logits(rebuilt, x, reduction="none").sum(dim=1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
    result: torch.Tensor = (missed + divergence).mean()
    return result


def loss(model: Vae, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    x = batch["x"].flatten(1)
    mean, log_variance = model.encode(x)
    code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    return bound(model, x, code, mean, log_variance)


def evaluate(model: Vae, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    x = batch["x"].flatten(1)
    mean, log_variance = model.encode(x)
    error = (model.decoder(mean).sigmoid() - x).square().mean()
    return {"loss": bound(model, x, mean, mean, log_variance), "error": error}
