"""Convolutions over time, forecasts and sounds, of plain torch."""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, noise, parts, whole
from benchmarks.zoo.plain_sequences import WORDS, counting, next_loss

__all__ = ["TEMPORAL"]

Tensor = torch.Tensor


def _waves() -> Batch:
    """Return `x` [examples, 32, 1], a noisy sine, and `y` [examples, 8, 1], how it goes on."""
    phase = whole(16)[:, None].float()
    wave = torch.sin((torch.arange(40) + phase) * 0.4)[..., None] + 0.1 * noise(40, 1)
    return {"x": wave[:, :32], "y": wave[:, 32:]}


class Causal(nn.Module):
    """A dilated causal convolution with a residual (TCN); [B, C, T] both ways."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.left = 2 * dilation
        self.inner = nn.utils.parametrizations.weight_norm(
            nn.Conv1d(width, width, 3, dilation=dilation)
        )
        self.drop = nn.Dropout(0.1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.drop(F.relu(self.inner(F.pad(x, (self.left, 0)))))
        return found


class WaveNet(nn.Module):
    """Gated dilated convolutions with skips (van den Oord 2016); tokens [B, T] -> scores."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=d) for d in (1, 2, 4))
        self.outs = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in range(3))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(width, WORDS, 1))

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).mT
        skips = torch.zeros_like(x)
        for gate, out in zip(self.gates, self.outs, strict=True):
            a, b = gate(F.pad(x, (int(cast("nn.Conv1d", gate).dilation[0]), 0))).chunk(2, 1)
            change, skip = out(a.tanh() * b.sigmoid()).chunk(2, 1)
            x, skips = x + change, skips + skip
        found: Tensor = self.last(skips)
        return found.mT


class NBeats(nn.Module):
    """Blocks that explain the rest of each other; [B, 32, 1] -> [B, 8, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 40)) for _ in range(3)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        rest, forecast = x.squeeze(-1), torch.zeros(x.shape[0], 8)
        for block in self.blocks:
            found = block(rest)
            rest, forecast = rest - found[:, :32], forecast + found[:, 32:]
        return forecast[..., None]


class DLinear(nn.Module):
    """Trend by a moving mean, and the rest, each linear (Zeng 2023); [B, 32, 1] -> [B, 8, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(32, 8), nn.Linear(32, 8)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = x.mT
        trend = F.avg_pool1d(F.pad(x, (2, 2), mode="replicate"), 5, 1)
        found: Tensor = self.trend(trend) + self.rest(x - trend)
        return found.mT


def _forecast(model: Any, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch["x"]), batch["y"])


def _m5() -> nn.Module:
    def block(into: int, out: int, size: int, stride: int) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv1d(into, out, size, stride, bias=False)]
        return [*layers, nn.BatchNorm1d(out), nn.ReLU(), nn.MaxPool1d(2)]

    return nn.Sequential(
        *block(1, 8, 16, 4), *block(8, 16, 3, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip


def _sounds() -> Batch:
    y = whole(4)
    return {"x": torch.sin(torch.arange(400) * 0.1 * (1 + y[:, None]))[:, None] + noise(1, 400),
            "y": y}  # fmt: skip


TEMPORAL: Final[Zoo] = {
    "TCN": Entry(
        lambda: nn.Sequential(nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 16, 1), Causal(16, 1),
                              Causal(16, 2), nn.Flatten(), nn.Linear(512, 8)),
        _waves, lambda m, b: F.mse_loss(m(b["x"].squeeze(-1)), b["y"].squeeze(-1)),
    ),
    "WaveNet": Entry(WaveNet, counting, next_loss),
    "N-BEATS": Entry(NBeats, _waves, _forecast),
    "DLinear": Entry(DLinear, _waves, _forecast),
    "M5 (waveform)": Entry(
        _m5, _sounds, lambda m, b: F.cross_entropy(m(b["x"]), b["y"])
    ),
    "LSTM forecaster (quantiles)": Entry(
        lambda: parts(rnn=nn.LSTM(1, 16, batch_first=True), last=nn.Linear(16, 24)), _waves,
        lambda m, b: _quantile_loss(m.last(m.rnn(b["x"])[1][0][-1]).view(-1, 8, 3), b["y"]),
    ),
    "spectrogram by FFT": Entry(
        lambda: nn.Linear(201, 4), _sounds,
        lambda m, b: F.cross_entropy(m(torch.fft.rfft(b["x"][:, 0]).abs()), b["y"]),
        "[Cc]omplex",
    ),
    "CRNN with CTC": Entry(
        lambda: parts(conv=nn.Conv1d(1, 16, 16, 16), rnn=nn.GRU(16, 16, batch_first=True),
                      last=nn.Linear(16, 6)),
        lambda: {"x": noise(1, 400), "y": 1 + whole(5, 4)},
        lambda m, b: _ctc(m.last(m.rnn(m.conv(b["x"]).mT)[0]), b["y"]),
    ),
}  # fmt: skip


def _ctc(scores: Tensor, labels: Tensor) -> Tensor:
    count, length = scores.shape[:2]
    lengths = torch.full((count,), length), torch.full((count,), labels.shape[1])
    return F.ctc_loss(scores.log_softmax(-1).transpose(0, 1), labels, *lengths)


def _quantile_loss(found: Tensor, wanted: Tensor) -> Tensor:
    levels = torch.tensor([0.1, 0.5, 0.9])
    error = wanted - found
    return torch.maximum(levels * error, (levels - 1) * error).mean()
