"""A byte-level GPT: smooth, no bias in query, key and value, so that honest results agree."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

BYTES = 256


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a residual path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width, bias=False)
        self.feed_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, time, width] -> the same."""
        batch, time, width = x.shape
        parts = self.query_key_value(self.attention_norm(x))
        query, key, value = parts.view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        fed: torch.Tensor = self.feed_out(gelu(self.feed_in(self.feed_norm(x))))
        return x + fed


class Gpt(nn.Module):
    """Bytes in, scores of the next byte out."""

    def __init__(self, window: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.position = nn.Parameter(0.02 * torch.randn(window, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and name != "position":
                residual = name.endswith(("attention_out.weight", "feed_out.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers if residual else 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, time] int64 -> [batch, time, 256]."""
        scores: torch.Tensor = self.head(self.norm(self.blocks(self.embedding(x) + self.position)))
        return scores


def model(window: int = 64, width: int = 96, layers: int = 4, heads: int = 4) -> nn.Module:
    """About half a million parameters."""
    return Gpt(window, width, layers, heads)


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the next byte, in nats."""
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss in nats, and in bits per byte, as `trigram.py` prints it."""
    nats = loss(model, batch)
    return {"loss": nats, "bits_per_byte": nats / math.log(2)}
