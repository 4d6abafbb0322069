"""Recurrent networks over sequences, of plain torch."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, noise, parts, whole

__all__ = ["RECURRENT"]

Tensor = torch.Tensor
WORDS: Final = 24
LENGTH: Final = 12


def counting() -> Batch:
    """Return `x` [examples, T] that counts up, `y` what follows each, and `length` [examples]."""
    start, step = whole(WORDS)[:, None], 1 + whole(3, seed=1)[:, None]
    tokens = (start + step * torch.arange(LENGTH + 1)) % WORDS
    return {"x": tokens[:, :-1], "y": tokens[:, 1:].contiguous(), "length": 6 + whole(7)}


class Tagger(nn.Module):
    """Tokens [B, T] -> scores [B, T, words], by a recurrent layer."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.inner = kind(16, 24, batch_first=True, **options)
        self.last = nn.Linear(48 if options.get("bidirectional") else 24, WORDS)

    @override
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.inner(self.embed(x))[0])
        return found


def next_loss(model: Any, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())


def _next_masked(model: Any, batch: Batch) -> Tensor:
    known = torch.arange(LENGTH) < batch["length"][:, None]
    labels = torch.where(known, batch["y"], -100)
    return F.cross_entropy(model(batch["x"]).mT, labels, ignore_index=-100)


class Cells(nn.Module):
    """An LSTM cell stepped by hand with zoneout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(WORDS, 16), nn.LSTMCell(16, 24)
        self.last = nn.Linear(24, WORDS)

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 24)
        outputs = []
        for token in self.embed(x).unbind(1):
            new, c = self.cell(token, (h, c))
            keep = F.dropout(torch.ones_like(h), 0.1, self.training) > 0
            h = torch.where(keep, new, h)
            outputs.append(self.last(h))
        return torch.stack(outputs, 1)


class Seq2Seq(nn.Module):
    """A GRU encoder and decoder with Bahdanau's attention; [B, T] twice -> [B, T, words]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.encoder = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(48, 16)
        self.key, self.query, self.score = nn.Linear(32, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.last = nn.Linear(16, WORDS)

    @override
    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encoder(self.embed(source))
        h, keys = state.mean(0), self.key(memory)
        outputs = []
        for token in self.embed(target).unbind(1):
            scores = self.score(torch.tanh(keys + self.query(h)[:, None]))
            context = (scores.softmax(1) * memory).sum(1)
            h = self.cell(torch.cat([token, context], -1), h)
            outputs.append(self.last(h))
        return torch.stack(outputs, 1)


class Diagonal(nn.Module):
    """A diagonal state-space layer as a convolution (S4D, real part); [B, T, C] both ways."""

    def __init__(self, width: int, states: int = 8) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.log(0.1 + torch.rand(width, states)))
        self.out = nn.Parameter(torch.randn(width, states) / states)
        self.skip = nn.Parameter(torch.ones(width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        steps = torch.arange(length, dtype=torch.float32)
        decay = torch.exp(-self.log_rate.exp()[..., None] * steps)
        kernel = torch.einsum("cn,cnt->ct", self.out, decay)
        padded = F.pad(x.mT, (length - 1, 0))
        return F.conv1d(padded, kernel.flip(-1)[:, None], groups=x.shape[2]).mT + self.skip * x


class MinGru(nn.Module):
    """minGRU by a parallel scan in log space (Feng et al. 2024); [B, T, C] both ways."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.new = nn.Linear(width, width), nn.Linear(width, width)

    @override
    def forward(self, x: Tensor) -> Tensor:
        gate, new = self.gate(x), self.new(x)
        values = torch.where(new >= 0, (F.relu(new) + 0.5).log(), -F.softplus(-new))
        forget = F.pad(torch.cumsum(-F.softplus(gate), 1), (0, 0, 1, 0))[:, 1:]
        return torch.exp(forget + torch.logcumsumexp(values - F.softplus(-gate) - forget, 1))


def _embedded(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 16), *layers, nn.Linear(16, WORDS))


class Crf(nn.Module):
    """A tagger with a linear-chain CRF; its value is the mean negative log-likelihood."""

    def __init__(self) -> None:
        super().__init__()
        self.tagger = Tagger(nn.LSTM, bidirectional=True)
        self.moves = nn.Parameter(torch.zeros(WORDS, WORDS))

    @override
    def forward(self, x: Tensor, tags: Tensor) -> Tensor:
        scores = self.tagger(x)
        alpha = scores[:, 0]
        for step in range(1, x.shape[1]):
            alpha = torch.logsumexp(alpha[:, :, None] + self.moves, 1) + scores[:, step]
        path = scores.gather(2, tags[..., None]).sum((1, 2))
        path = path + self.moves[tags[:, :-1], tags[:, 1:]].sum(1)
        return (alpha.logsumexp(1) - path).mean()


class ConvLstm(nn.Module):
    """A ConvLSTM over frames [B, T, 1, 8, 8] -> the next frame."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.gates = nn.Conv2d(1 + width, 4 * width, 3, padding=1)
        self.last, self.width = nn.Conv2d(width, 1, 1), width

    @override
    def forward(self, frames: Tensor) -> Tensor:
        h = c = frames.new_zeros(frames.shape[0], self.width, 8, 8)
        for frame in frames.unbind(1):
            i, f, o, g = self.gates(torch.cat([frame, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        found: Tensor = self.last(h)
        return found


def _frames() -> Batch:
    x = noise(5, 1, 8, 8)
    return {"x": x, "y": x.mean(1)}


RECURRENT: Final[Zoo] = {
    "RNN language model": Entry(lambda: Tagger(nn.RNN), counting, next_loss),
    "GRU language model": Entry(lambda: Tagger(nn.GRU), counting, next_loss),
    "LSTM language model": Entry(lambda: Tagger(nn.LSTM), counting, next_loss),
    "LSTM (2 layers, dropout)": Entry(
        lambda: Tagger(nn.LSTM, num_layers=2, dropout=0.2), counting, next_loss
    ),
    "BiLSTM tagger (masked)": Entry(
        lambda: Tagger(nn.LSTM, bidirectional=True), counting, _next_masked
    ),
    "BiLSTM-CRF": Entry(Crf, counting, lambda m, b: m(b["x"], b["y"])),
    "LSTM cells with zoneout": Entry(Cells, counting, next_loss),
    "GRU with Bahdanau attention": Entry(
        Seq2Seq, counting,
        lambda m, b: F.cross_entropy(m(b["x"], b["x"]).flatten(0, 1), b["y"].flatten()),
    ),
    "ConvLSTM": Entry(ConvLstm, _frames, lambda m, b: F.mse_loss(m(b["x"]), b["y"])),
    "S4D": Entry(lambda: _embedded(Diagonal(16), nn.GELU(), Diagonal(16)), counting, next_loss),
    "minGRU": Entry(lambda: _embedded(MinGru(16)), counting, next_loss),
    "packed sequences": Entry(
        lambda: parts(embed=nn.Embedding(WORDS, 8), rnn=nn.GRU(8, 8, batch_first=True)),
        counting,
        lambda m, b: m.rnn(nn.utils.rnn.pack_padded_sequence(
            m.embed(b["x"]), b["length"], True, enforce_sorted=False))[1].square().mean(),
        "values",
    ),
}  # fmt: skip
