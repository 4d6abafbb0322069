"""The inner optimizers: fresh for every unit, float32 throughout, one rule for each parameter.

A rule turns a gradient into a direction u; then theta <- (1 - eta * decay) theta - eta u.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
from typing_extensions import override

from pleb_shared.protocol.project import AdamW, Muon, Optimizer, SgdMomentum, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "AdamRule",
    "InnerOptimizer",
    "MomentumRule",
    "MuonRule",
    "Rule",
    "learning_rate",
    "make_optimizer",
    "orthogonalized",
    "shape",
    "unit_learning_rates",
]

_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan 2024)."""


def shape(training: Training, done: float) -> float:
    """Return the share of the peak learning rate once the part `done` in [0, 1] is trained.

    With f = `final_fraction`:

    constant   1
    linear     1 - (1 - f) done
    cosine     f + (1 - f) (1 + cos(pi done)) / 2           (Loshchilov and Hutter 2017)
    step       f^(k / (levels - 1)), k = min(levels - 1, floor(levels * done))
    wsd        1, and f + (1 - f) (1 - sqrt(x)) in the last part c = `cooldown_fraction`, where
               x = (done - (1 - c)) / c                     (Haegele et al. 2024)
    """
    final = training.final_fraction
    match training.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - (1 - final) * done
        case "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
        case "step":
            last = training.levels - 1
            return float(final ** (min(last, math.floor(training.levels * done)) / last))
        case "wsd":
            start = 1 - training.cooldown_fraction
            if done <= start:
                return 1.0
            return final + (1 - final) * (1 - math.sqrt((done - start) / (1 - start)))


def learning_rate(
    training: Training, global_step: int, h: int, versions: int | None = None
) -> float:
    """Return eta_h of local step `h`, which is the project's step s = `global_step`.

    eta_s = learning_rate * min(1, (s + 1) / warmup_steps) * shape(s / S)
    eta_h = eta_s * min(1, (h + 1) / unit_warmup_steps), with S = versions * local_steps.
    Past S the rate stays at its end; a warm-up of 0 steps is none. `versions` is the unit's.
    """
    total = (versions or training.versions) * training.local_steps
    rate = training.learning_rate * shape(training, min(global_step, total) / total)
    if training.warmup_steps:
        rate *= min(1.0, (global_step + 1) / training.warmup_steps)
    if training.unit_warmup_steps:
        rate *= min(1.0, (h + 1) / training.unit_warmup_steps)
    return rate


def unit_learning_rates(
    training: Training, first_step: int, steps: int, versions: int | None = None
) -> list[float]:
    """Return eta_h of every local step of a unit that begins at global step `first_step`."""
    return [learning_rate(training, first_step + h, h, versions) for h in range(steps)]


def orthogonalized(matrix: torch.Tensor, steps: int) -> torch.Tensor:
    """Return about U V^T of `matrix` = U S V^T, [rows, columns], by Newton-Schulz in float32.

    Half precision would be faster on some processors but differs by 2e-2 between them after a
    unit, more than any tolerance survives; float32 differs by 3e-5 (Jordan 2024 for the
    iteration X <- a X + (b A + c A A) X with A = X X^T, on the short side).
    """
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


@dataclass(kw_only=True)
class Rule(ABC):
    """How one parameter is stepped. `state` tensors are zero at the unit's start."""

    state: dict[str, torch.Tensor]
    decay: float = 0.0
    rate_ratio: float = 1.0

    @abstractmethod
    def direction(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """Return u, of the gradient's shape, for step `step` = 1, 2, ...; advance the state."""


@dataclass(kw_only=True)
class AdamRule(Rule):
    """u = m' / (sqrt(v') + epsilon) with bias correction (Kingma and Ba 2015, algorithm 1)."""

    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8

    @override
    def direction(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """Return u, of the gradient's shape."""
        first, second = self.state["first"], self.state["second"]
        first.mul_(self.beta1).add_(gradient, alpha=1 - self.beta1)
        second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        scale = math.sqrt(1 - self.beta2**step)
        return (first / (1 - self.beta1**step)).div_((second.sqrt() / scale).add_(self.epsilon))


@dataclass(kw_only=True)
class MuonRule(Rule):
    """M <- mu M + g; u = 0.2 sqrt(max(rows, columns)) * NS(g + mu M) (Jordan 2024; Liu 2025).

    A weight of more than two dimensions is reshaped to [out, everything else].
    """

    momentum: float = 0.9
    iterations: int = 5

    @override
    def direction(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """Return u, of the gradient's shape."""
        buffer = self.state["momentum"]
        buffer.mul_(self.momentum).add_(gradient)
        matrix = gradient.add(buffer, alpha=self.momentum).reshape(gradient.shape[0], -1)
        scale = 0.2 * math.sqrt(max(matrix.shape))
        return orthogonalized(matrix, self.iterations).mul(scale).reshape(gradient.shape)


@dataclass(kw_only=True)
class MomentumRule(Rule):
    """M <- mu M + g; u = M, or g + mu M for Nesterov."""

    momentum: float = 0.9
    nesterov: bool = False

    @override
    def direction(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """Return u, of the gradient's shape."""
        buffer = self.state["momentum"]
        buffer.mul_(self.momentum).add_(gradient)
        return gradient.add(buffer, alpha=self.momentum) if self.nesterov else buffer.clone()


@dataclass
class InnerOptimizer:
    """Steps every parameter that has a gradient, each by its rule.

    `start` holds u0, the direction that the momentum starts from (recipe R): step t = 1, 2, ...
    takes (1 - mu^t) u + mu^t u0 with mu = `start_momentum`.
    """

    rules: dict[str, Rule]
    clip_norm: float = 0.0
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    start_momentum: float = 0.9
    steps: int = 0

    @torch.no_grad()
    def step(
        self,
        parameters: Mapping[str, torch.Tensor],
        rate: float,
        part_done: Callable[[], None] | None = None,
    ) -> None:
        """Change `parameters`, of any shape, by their gradients with the learning rate `rate`.

        `part_done` is called after each of them.
        """
        self.steps += 1
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), self.clip_norm)
        share = self.start_momentum**self.steps
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            rule = self.rules[name]
            update = rule.direction(gradient, self.steps)
            if name in self.start:
                update.mul_(1 - share).add_(self.start[name], alpha=share)
            eta = rate * rule.rate_ratio
            if rule.decay:
                parameter.mul_(1 - eta * rule.decay)
            parameter.add_(update, alpha=-eta)
            if part_done is not None:
                part_done()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state's tensors by `parameter/part`, not copied."""
        return {
            f"{name}/{part}": tensor
            for name, rule in self.rules.items()
            for part, tensor in rule.state.items()
        }

    def load(self, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Resume from what `state()` returned after `steps` steps, in the same shapes."""
        self.steps = steps
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def make_optimizer(
    training: Training,
    parameters: Mapping[str, torch.Tensor],
    difference: Mapping[str, torch.Tensor] | None,
    rates: Iterable[float],
) -> InnerOptimizer:
    """Return the fresh optimizer of a unit.

    `parameters` and `difference` hold tensors by name in the model's shapes; `difference` is the
    last published one (next - previous), or None at version 0; `rates` are the unit's learning
    rates. u0 = -share * difference / sum(rates), so that a unit that only followed u0 would
    repeat `share` of the model's last move.
    """
    settings = training.optimizer
    rules = {name: _rule(settings, name, tensor) for name, tensor in parameters.items()}
    if not isinstance(settings, Muon):
        return InnerOptimizer(rules, clip_norm=training.clip_norm)
    total = sum(rates)
    start = {
        name: tensor * (-settings.start_momentum / (total * rules[name].rate_ratio))
        for name, tensor in (difference or {}).items()
        if settings.start_momentum and total and name in rules
    }
    return InnerOptimizer(rules, start=start, start_momentum=settings.momentum)


def _rule(settings: Optimizer, name: str, tensor: torch.Tensor) -> Rule:
    """Return the rule of the parameter `name`, with zero state of the tensor's shape."""

    def zeros(*parts: str) -> dict[str, torch.Tensor]:
        return {part: torch.zeros_like(tensor, requires_grad=False) for part in parts}

    match settings:
        case Muon() if name in settings.matrices:
            return MuonRule(
                state=zeros("momentum"),
                decay=settings.weight_decay,
                momentum=settings.momentum,
                iterations=settings.newton_schulz_steps,
            )
        case Muon():
            return AdamRule(
                state=zeros("first", "second"),
                decay=settings.adam_weight_decay if tensor.ndim > 1 else 0.0,
                rate_ratio=settings.adam_learning_rate_ratio,
                beta1=settings.beta1,
                beta2=settings.beta2,
            )
        case AdamW():
            return AdamRule(
                state=zeros("first", "second"),
                decay=settings.weight_decay,
                beta1=settings.beta1,
                beta2=settings.beta2,
                epsilon=settings.epsilon,
            )
        case SgdMomentum():
            return MomentumRule(
                state=zeros("momentum"),
                decay=settings.weight_decay,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
            )
