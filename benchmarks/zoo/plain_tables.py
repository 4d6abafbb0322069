"""Tables and regression, with the losses that they use, of plain torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.zoo.case import Batch, Entry, Zoo, noise, parts, relu_mlp, whole

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REGRESSION", "TABLES"]

Tensor = torch.Tensor
D: Any = torch.distributions  # its functions have no types


def _rows() -> Batch:
    """Return a table: `numbers` [examples, 6], `kinds` [examples, 3] and a 0-1 label `y`."""
    numbers, kinds = noise(6), whole(5, 3)
    y = (numbers[:, 0] + numbers[:, 1] * numbers[:, 2] + (kinds[:, 0] > 2) > 0).float()
    return {"numbers": numbers, "kinds": kinds, "y": y}


def _row(model: Any, batch: Batch) -> Tensor:
    return torch.cat([batch["numbers"], model.embed(batch["kinds"]).flatten(1)], 1)


def _yes(scores: Tensor, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores.squeeze(-1), batch["y"])


def _machine(model: Any, batch: Batch) -> Tensor:
    v = model.embed(batch["kinds"] + 5 * torch.arange(3))
    pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
    return _yes(pairs + model.linear(batch["numbers"]).squeeze(1), batch)


def _cross(model: Any, batch: Batch) -> Tensor:
    x0 = x = _row(model, batch)
    for layer in model.layers:
        x = x0 * layer(x) + x
    return _yes(model.last(x), batch)


def _tokens(model: Any, batch: Batch) -> Tensor:
    numbers = batch["numbers"][..., None] * model.scale + model.shift
    tokens = torch.cat([model.first.expand(numbers.shape[0], -1, -1), numbers,
                        model.embed(batch["kinds"])], 1)  # fmt: skip
    return _yes(model.last(model.inner(tokens)[:, 0]), batch)


def _embedding_row(**more: Any) -> nn.Module:
    return parts(embed=nn.Embedding(5, 4), **more)


def _soft_tree(model: Any, batch: Batch) -> Tensor:
    right = torch.sigmoid(model.split(_row(model, batch)))  # [B, 7], three levels
    reach = torch.ones(right.shape[0], 1)
    for level in range(3):
        here = right[:, 2**level - 1 : 2 ** (level + 1) - 1]
        reach = torch.stack([reach * (1 - here), reach * here], 2).flatten(1)
    return _yes(reach @ model.leaves, batch)


TABLES: Final[Zoo] = {
    "MLP with embeddings": Entry(
        lambda: _embedding_row(last=nn.Sequential(nn.Linear(18, 32), nn.BatchNorm1d(32),
                               nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))),
        _rows, lambda m, b: _yes(m.last(_row(m, b)), b),
    ),
    "logistic regression": Entry(
        lambda: nn.Linear(6, 1), _rows, lambda m, b: _yes(m(b["numbers"]), b)
    ),
    "factorisation machine": Entry(
        lambda: parts(embed=nn.Embedding(15, 4), linear=nn.Linear(6, 1)), _rows, _machine
    ),
    "deep and cross": Entry(
        lambda: _embedding_row(layers=[nn.Linear(18, 18) for _ in range(2)], last=relu_mlp(18, 1)),
        _rows, _cross,
    ),
    "wide and deep": Entry(
        lambda: _embedding_row(wide=nn.Linear(6, 1), deep=relu_mlp(18, 1)), _rows,
        lambda m, b: _yes(m.wide(b["numbers"]) + m.deep(_row(m, b)), b),
    ),
    "FT-Transformer": Entry(
        lambda: parts(
            embed=nn.Embedding(5, 8), scale=nn.Parameter(torch.randn(6, 8)),
            shift=nn.Parameter(torch.randn(6, 8)), first=nn.Parameter(torch.randn(1, 1, 8)),
            inner=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), last=nn.Linear(8, 1)),
        _rows, _tokens,
    ),
    "soft decision tree": Entry(
        lambda: _embedding_row(split=nn.Linear(18, 7), leaves=nn.Parameter(torch.randn(8))),
        _rows, _soft_tree,
    ),
    "self-normalising (SELU)": Entry(
        lambda: nn.Sequential(nn.Linear(6, 32), nn.SELU(), nn.AlphaDropout(0.1),
                              nn.Linear(32, 1)),
        _rows, lambda m, b: _yes(m(b["numbers"]), b),
    ),
}  # fmt: skip


def _numbers() -> Batch:
    x = noise(6)
    y = x[:, 0] - 0.5 * x[:, 1] * x[:, 2] + 0.1 * noise(1)[:, 0]
    return {"x": x, "y": y, "count": (2 * x[:, 0].sigmoid()).round() + whole(2).float(),
            "level": (y > -0.5).long() + (y > 0.5).long()}  # fmt: skip


def _on(function: Callable[[Tensor, Batch], Tensor], out: int = 1) -> Entry:
    """Return an entry of an MLP whose `out` numbers for each example `function` judges."""
    return Entry(lambda: relu_mlp(6, out), _numbers, lambda m, b: function(m(b["x"]), b))


def _mixture(found: Tensor, batch: Batch) -> Tensor:
    share, mean, log_std = found.chunk(3, 1)
    inner = D.Normal(mean, log_std.exp()).log_prob(batch["y"][:, None])
    return -torch.logsumexp(inner + share.log_softmax(1), 1).mean()


def _mixture_distribution(found: Tensor, batch: Batch) -> Tensor:
    share, mean, log_std = found.chunk(3, 1)
    mixture = D.MixtureSameFamily(D.Categorical(logits=share), D.Normal(mean, log_std.exp()))
    likelihood: Tensor = mixture.log_prob(batch["y"])
    return -likelihood.mean()


def _cox(found: Tensor, batch: Batch) -> Tensor:
    order = batch["y"].argsort(descending=True)
    risk = found.squeeze(1)[order]
    return -(risk - torch.logcumsumexp(risk, 0)).mean()


def _evidential(found: Tensor, batch: Batch) -> Tensor:
    y = batch["y"]
    mean, nu, alpha, beta = found.unbind(1)
    nu, alpha, beta = F.softplus(nu) + 0.1, F.softplus(alpha) + 1.1, F.softplus(beta) + 0.1
    omega = 2 * beta * (1 + nu)
    loss = (
        0.5 * torch.log(math.pi / nu) - alpha * torch.log(omega)
        + (alpha + 0.5) * torch.log((y - mean).square() * nu + omega)
        + torch.lgamma(alpha) - torch.lgamma(alpha + 0.5)
    )  # fmt: skip
    return loss.mean()


def _ordinal(found: Tensor, batch: Batch) -> Tensor:
    above = (batch["level"][:, None] > torch.arange(2)).float()
    return F.binary_cross_entropy_with_logits(found, above)


def _process(model: Any, batch: Batch) -> Tensor:
    x = model.features(batch["x"])
    noise = model.log_noise.exp() * torch.eye(len(x))
    kernel = torch.exp(-0.5 * torch.cdist(x, x).square()) + noise
    root = torch.linalg.cholesky(kernel)
    y = torch.linalg.solve_triangular(root, batch["y"][:, None], upper=False)
    return 0.5 * y.square().sum() + root.diagonal().log().sum()


def _ranked(found: Tensor, batch: Batch) -> Tensor:
    gap = found - found.T
    above = (batch["y"][:, None] > batch["y"]).float()
    return (F.softplus(-gap) * above).sum() / above.sum().clamp(min=1)


REGRESSION: Final[Zoo] = {
    "MSE": _on(lambda f, b: F.mse_loss(f.squeeze(1), b["y"])),
    "L1": _on(lambda f, b: F.l1_loss(f.squeeze(1), b["y"])),
    "Huber": _on(lambda f, b: F.huber_loss(f.squeeze(1), b["y"])),
    "smooth L1": _on(lambda f, b: F.smooth_l1_loss(f.squeeze(1), b["y"])),
    "Gaussian likelihood": _on(
        lambda f, b: F.gaussian_nll_loss(f[:, 0], b["y"], F.softplus(f[:, 1]) + 1e-3), 2
    ),
    "Poisson likelihood": _on(lambda f, b: F.poisson_nll_loss(f.squeeze(1), b["count"])),
    "Gamma likelihood": _on(
        lambda f, b: -D.Gamma(f[:, 0].exp(), f[:, 1].exp()).log_prob(b["y"].exp()).mean(), 2
    ),
    "Student's t": _on(
        lambda f, b: -D.StudentT(4.0, f[:, 0], f[:, 1].exp()).log_prob(b["y"]).mean(), 2
    ),
    "quantiles": _on(
        lambda f, b: torch.maximum(torch.tensor([0.1, 0.5, 0.9]) * (b["y"][:, None] - f),
                                   torch.tensor([-0.9, -0.5, -0.1]) * (b["y"][:, None] - f)
                                   ).mean(), 3,
    ),
    "mixture density": _on(_mixture, 9),
    "MixtureSameFamily": _on(_mixture_distribution, 9),
    "Cox partial likelihood": _on(_cox),
    "evidential": _on(_evidential, 4),
    "ordinal": _on(_ordinal, 2),
    "pairwise ranking": _on(_ranked),
    "log-cosh": _on(lambda f, b: torch.log(torch.cosh(f.squeeze(1) - b["y"])).mean()),
    "Gaussian process (deep kernel)": Entry(
        lambda: parts(features=relu_mlp(6, 2), log_noise=nn.Parameter(torch.tensor([-1.0]))),
        _numbers, _process, batch=12,
    ),
    "KAN (radial basis)": Entry(
        lambda: parts(first=nn.Linear(48, 8), last=nn.Linear(64, 1)), _numbers,
        lambda m, b: F.mse_loss(m.last(_basis(m.first(_basis(b["x"])))).squeeze(1), b["y"]),
    ),
}  # fmt: skip


def _basis(x: Tensor) -> Tensor:
    return torch.exp(-(x[..., None] - torch.linspace(-2, 2, 8)).square()).flatten(-2)
