"""A table with numbers and categories: two classes are predicted.

`pleb-project check` lists what each column became: `numbers` (standardised, 0 where missing) and
`categories` (from 1, 0 where missing).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

NUMBERS = 3
CATEGORIES = (4, 3)
"""How many values each column of categories has, 'missing' included."""


class Waves(nn.Module):
    """Periodic embeddings of numbers: a network bends along them more easily (arXiv 2203.05556)."""

    def __init__(self, depth: int, frequencies: int = 8) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(3.0 * torch.randn(NUMBERS, frequencies))
        self.weight = nn.Parameter(0.2 * torch.randn(NUMBERS, 2 * frequencies, depth))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return [batch, n * depth] of numbers [batch, n]."""
        angles = numbers[:, :, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=2)
        return nn.functional.silu(torch.einsum("bnf,nfd->bnd", waves, self.weight)).flatten(1)


class Table(nn.Module):
    """Embeddings of numbers and categories, then three layers."""

    def __init__(self, width: int = 64, depth: int = 8) -> None:
        super().__init__()
        self.waves = Waves(depth)
        self.embeddings = nn.ModuleList(nn.Embedding(count, depth) for count in CATEGORIES)
        self.layers = nn.Sequential(
            *(nn.Linear(depth * (NUMBERS + len(CATEGORIES)), width), nn.SiLU(), nn.Dropout(0.2)),
            *(nn.Linear(width, width), nn.SiLU(), nn.Dropout(0.2)),
            nn.Linear(width, 2),
        )

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Return scores [batch, 2] of numbers [batch, n] and categories [batch, m]."""
        columns = [e(categories[:, i]) for i, e in enumerate(self.embeddings)]
        scores: torch.Tensor = self.layers(torch.cat([self.waves(numbers), *columns], dim=1))
        return scores


def model() -> nn.Module:
    """Return the untrained model."""
    return Table()


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean loss of a batch."""
    return cross_entropy(model(batch["numbers"], batch["categories"]), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means over the batch: the loss and any other metrics."""
    scores = model(batch["numbers"], batch["categories"])
    right = scores.argmax(dim=1) == batch["y"]
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right.float().mean()}


def showcase(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the scores that the project's page shows: [batch, 2]."""
    scores: torch.Tensor = model(batch["numbers"], batch["categories"])
    return scores
