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


class Table(nn.Module):
    """Embeddings of the categories beside the numbers, then two layers."""

    def __init__(self, width: int = 32, depth: int = 6) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(count, depth) for count in CATEGORIES)
        self.hidden = nn.Linear(NUMBERS + depth * len(CATEGORIES), width)
        self.head = nn.Linear(width, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Return scores [batch, 2] of numbers [batch, n] and categories [batch, m]."""
        columns = [e(categories[:, i]) for i, e in enumerate(self.embeddings)]
        scores: torch.Tensor = self.head(
            nn.functional.silu(self.hidden(torch.cat([numbers, *columns], dim=1)))
        )
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
