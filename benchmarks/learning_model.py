"""A GPT over bytes with 434,816 parameters, as the model.py of a project."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, linear, scaled_dot_product_attention

WINDOW = 64
"""As `window` in the project file."""


class Block(nn.Module):
    """Attention and a layer, each on its norm, nowhere a bias; x is [batch, time, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        parts = self.mix(self.norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        result: torch.Tensor = x + self.down(gelu(self.up(self.norm2(x))))
        return result


class Gpt(nn.Module):
    """Scores [batch, time, 256] of the byte after each of x int64 [batch, time]."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.byte = nn.Embedding(256, width)
        self.place = nn.Parameter(torch.randn(WINDOW, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(self.norm(self.blocks(self.byte(x) + self.place)), self.byte.weight)


def model(width: int = 128, layers: int = 2, heads: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return Gpt(width, layers, heads)


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"loss": loss(model, batch)}
