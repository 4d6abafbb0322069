"""What random operators are made of: calls of the few that a graph may draw with.

torch.export writes these formulas into the graph, and `parity` runs them in eager mode.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RANDOM", "RECURRENT", "draws_between_layers", "layer_by_layer"]

_ATEN: Final = torch.ops.aten
_SELU: Final = 1.7580993408473766
"""-alpha' of Klambauer et al. 2017: what a dropped number becomes."""


def _no_generator(generator: object) -> None:
    if generator is not None:
        raise NotImplementedError


def _uniform_like(x: torch.Tensor) -> torch.Tensor:
    """Return uniform numbers of the shape of `x`, in its type or float32."""
    return torch.rand_like(x, dtype=x.dtype if x.is_floating_point() else torch.float32)


def _normal_in_place(
    x: torch.Tensor, mean: float = 0, std: float = 1, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    return x.copy_(torch.randn_like(x) * std + mean)


def _normal(
    mean: torch.Tensor | float, std: torch.Tensor | float = 1, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    of: Any = (mean if isinstance(mean, torch.Tensor) else 0) + (
        torch.zeros_like(std) if isinstance(std, torch.Tensor) else 0
    )
    found: torch.Tensor = torch.randn_like(of.detach()) * std + mean
    return found.detach()


def _normal_sized(
    mean: float, std: float, size: Sequence[int], generator: object = None, **options: Any
) -> torch.Tensor:
    _no_generator(generator)
    return torch.randn(size, dtype=options.get("dtype")) * std + mean


def _log_normal_in_place(
    x: torch.Tensor, mean: float = 1, std: float = 2, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    return x.copy_((torch.randn_like(x) * std + mean).exp())


def _uniform_in_place(
    x: torch.Tensor, low: float = 0, high: float = 1, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    return x.copy_(torch.rand_like(x) * (high - low) + low)


def _exponential_in_place(
    x: torch.Tensor, lambd: float = 1, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    return x.copy_(_ATEN.exponential(x.detach(), lambd))


def _geometric_in_place(x: torch.Tensor, p: float, generator: object = None) -> torch.Tensor:
    _no_generator(generator)
    if not 0 < p < 1:
        raise NotImplementedError
    times = _ATEN.exponential(_uniform_like(x), -math.log1p(-p))
    return x.copy_(times.ceil().clamp(min=1))


def _cauchy_in_place(
    x: torch.Tensor, median: float = 0, sigma: float = 1, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    angle = math.pi * (torch.rand_like(x) - 0.5)
    return x.copy_(angle.sin() / angle.cos() * sigma + median)


def _random_below(x: torch.Tensor, high: int, generator: object = None) -> torch.Tensor:
    return _random_between(x, 0, high, generator)


def _random_between(
    x: torch.Tensor, low: int, high: int | None, generator: object = None
) -> torch.Tensor:
    _no_generator(generator)
    if high is None:
        raise NotImplementedError
    return x.copy_(torch.randint(low, high, x.shape))


def _randint_like(x: torch.Tensor, high: int, **options: Any) -> torch.Tensor:
    return _randint_like_from(x, 0, high, **options)


def _randint_like_from(x: torch.Tensor, low: int, high: int, **options: Any) -> torch.Tensor:
    return torch.randint(low, high, x.shape, dtype=options.get("dtype") or x.dtype)


def _bernoulli_p(x: torch.Tensor, p: float, generator: object = None) -> torch.Tensor:
    _no_generator(generator)
    if not 0 <= p <= 1:
        raise NotImplementedError
    return (_uniform_like(x) < p).to(x.dtype)


def _bernoulli_in_place(x: torch.Tensor, p: float = 0.5, generator: object = None) -> torch.Tensor:
    return x.copy_(_bernoulli_p(x, p, generator))


def _bernoulli_of_tensor(x: torch.Tensor, p: torch.Tensor, generator: object = None) -> Any:
    _no_generator(generator)
    return x.copy_(torch.bernoulli(p.expand(x.shape)))


def _rrelu(
    x: torch.Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: object = None,
) -> torch.Tensor:
    """Return a leaky ReLU of random slopes, or of the mean slope outside training (Xu 2015)."""
    _no_generator(generator)
    if not training:
        return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)
    slope = torch.rand_like(x) * (upper - lower) + lower
    return torch.where(x <= 0, x * slope, x)


def _rrelu_in_place(x: torch.Tensor, *args: Any) -> torch.Tensor:
    return x.copy_(_rrelu(x.clone(), *args))


def _alpha(x: torch.Tensor, like: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Return `x` with numbers set to SELU's limit, and mean and variance kept.

    `like` has one number for each choice (Klambauer et al. 2017, appendix on alpha dropout).
    """
    if not train or p == 0:
        return x
    if p == 1:
        return x * torch.zeros_like(like)
    kept = _bernoulli_p(like.detach(), 1 - p)
    a = 1 / math.sqrt((_SELU**2 * p + 1) * (1 - p))
    return x * (kept * a) + ((kept - 1) * (_SELU * a) + _SELU * a * p)


def _alpha_dropout(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    return _alpha(x, x, p, train)


def _feature_alpha_dropout(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    channels = x[(slice(None), slice(None), *([slice(0, 1)] * (x.dim() - 2)))]
    return _alpha(x, channels, p, train)


def _in_place(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def changed(x: torch.Tensor, *args: Any) -> torch.Tensor:
        return x.copy_(call(x.clone(), *args))

    return changed


RANDOM: Final[dict[Any, Callable[..., torch.Tensor]]] = {
    _ATEN.normal_.default: _normal_in_place,
    _ATEN.normal.Tensor_float: _normal,
    _ATEN.normal.float_Tensor: _normal,
    _ATEN.normal.Tensor_Tensor: _normal,
    _ATEN.normal.float_float: _normal_sized,
    _ATEN.log_normal_.default: _log_normal_in_place,
    _ATEN.uniform_.default: _uniform_in_place,
    _ATEN.exponential_.default: _exponential_in_place,
    _ATEN.geometric_.default: _geometric_in_place,
    _ATEN.cauchy_.default: _cauchy_in_place,
    _ATEN.random_.to: _random_below,
    getattr(_ATEN.random_, "from"): _random_between,
    _ATEN.randint_like.default: _randint_like,
    _ATEN.randint_like.low_dtype: _randint_like_from,
    _ATEN.bernoulli.p: _bernoulli_p,
    _ATEN.bernoulli_.float: _bernoulli_in_place,
    _ATEN.bernoulli_.Tensor: _bernoulli_of_tensor,
    _ATEN.rrelu.default: _rrelu,
    _ATEN.rrelu_.default: _rrelu_in_place,
    _ATEN.dropout_.default: _in_place(torch.dropout),
    _ATEN.feature_dropout_.default: _in_place(torch.feature_dropout),
    _ATEN.alpha_dropout.default: _alpha_dropout,
    _ATEN.alpha_dropout_.default: _in_place(_alpha_dropout),
    _ATEN.feature_alpha_dropout.default: _feature_alpha_dropout,
    _ATEN.feature_alpha_dropout_.default: _in_place(_feature_alpha_dropout),
}
"""By overload: a formula whose calls a graph may draw with. `NotImplementedError` refuses."""

RECURRENT: Final = (
    _ATEN.lstm.input,
    _ATEN.gru.input,
    _ATEN.rnn_tanh.input,
    _ATEN.rnn_relu.input,
)
"""Layers in a stack: input, hx, params, biases, layers, dropout, train, both ways, batch first."""


def draws_between_layers(*args: Any) -> bool:
    """Whether a recurrent stack with these arguments drops numbers between its layers."""
    return bool(args[4] > 1 and args[5] and args[6])


def layer_by_layer(overload: Any) -> Callable[..., Any]:
    """Return the formula of a recurrent stack as single layers with dropout between them.

    It returns what torch does: the last layer's outputs, then the states of all layers.
    """

    def formula(x: torch.Tensor, hx: Any, params: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
        biases, layers, dropout, train, both, batch_first = rest
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        directions, each = (2 if both else 1), len(params) // layers
        found: list[tuple[torch.Tensor, ...]] = []
        for layer in range(layers):
            own = [one.narrow(0, layer * directions, directions) for one in states]
            weights = list(params[layer * each : (layer + 1) * each])
            state: Any = own if len(states) > 1 else own[0]
            x, *after = overload(x, state, weights, biases, 1, 0.0, train, both, batch_first)
            found.append(tuple(after))
            if layer + 1 < layers:
                x = torch.dropout(x, dropout, train)
        return (x, *(torch.cat(parts) for parts in zip(*found, strict=True)))

    return formula
