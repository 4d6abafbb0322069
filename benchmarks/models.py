"""Two models that benchmarks and tests train: a byte GPT and a small CNN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class GptSize:
    layers: int = 4
    width: int = 96
    heads: int = 4
    window: int = 64
    dropout: float = 0.0


class Block(nn.Module):
    """Pre-norm attention and MLP; x is [B, T, C]."""

    def __init__(self, size: GptSize) -> None:
        super().__init__()
        self.heads, self.dropout = size.heads, size.dropout
        self.norm1 = nn.LayerNorm(size.width)
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.out = nn.Linear(size.width, size.width, bias=False)
        self.norm2 = nn.LayerNorm(size.width)
        self.mlp = nn.Sequential(
            nn.Linear(size.width, 4 * size.width),
            nn.GELU(),
            nn.Linear(4 * size.width, size.width),
            nn.Dropout(size.dropout),
        )

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, T, C / H]
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        result: torch.Tensor = x + self.mlp(self.norm2(x))
        return result


class Gpt(nn.Module):
    """Bytes [B, T] to logits [B, T, 256]."""

    def __init__(self, size: GptSize) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(size.window, size.width))
        self.drop = nn.Dropout(size.dropout)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, 256, bias=False)
        self.apply(_small_weights)

    @override
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.tokens(tokens.long()) + self.places[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


class Cnn(nn.Module):
    """Images uint8 [B, 28, 28] to logits [B, 10]; has BatchNorm and dropout."""

    def __init__(self, channels: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_stage(1, channels),
            *_stage(channels, 2 * channels),
            *_stage(2 * channels, 2 * channels),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, 10),
        )

    @override
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image.float().div(255).sub(0.5).unsqueeze(1))
        return logits


def gpt_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    logits = model(batch["x"])
    return F.cross_entropy(logits.flatten(0, 1), batch["y"].long().flatten())


def gpt_metrics(model: nn.Module, batch: Batch) -> Batch:
    return {"loss": gpt_loss(model, batch)}


def cnn_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(model(batch["image"]), batch["label"])


def cnn_metrics(model: nn.Module, batch: Batch) -> Batch:
    logits = model(batch["image"])
    right = logits.argmax(-1) == batch["label"]
    return {"loss": F.cross_entropy(logits, batch["label"]), "accuracy": right.float().mean()}


def gpt_batch(batch: int, size: GptSize, seed: int = 0) -> Batch:
    """Return random tokens, inputs and targets: uint8 [batch, window] each."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 256, (batch, size.window + 1), dtype=torch.uint8, generator=generator)
    return {"x": text[:, :-1].contiguous(), "y": text[:, 1:].contiguous()}


def cnn_batch(batch: int, seed: int = 0) -> Batch:
    """Return random images uint8 [batch, 28, 28] and labels int64 [batch]."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (batch, 28, 28), dtype=torch.uint8, generator=generator),
        "label": torch.randint(0, 10, (batch,), generator=generator),
    }


def _stage(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]


def _small_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
