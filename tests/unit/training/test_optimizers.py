"""Inner optimizers against plain references, and the learning rate's schedule."""

from __future__ import annotations

import math

import pytest
import torch

from pleb_shared.protocol.project import AdamW, Muon, SgdMomentum, Training
from pleb_shared.training.optimizers import (
    learning_rate,
    make_optimizer,
    orthogonalized,
    shape,
    unit_learning_rates,
)


def training(optimizer, **changes):
    settings = {"learning_rate": 0.02, "batch_examples": 4, "local_steps": 25, "versions": 40}
    settings |= {"warmup_steps": 0}
    return Training(optimizer=optimizer, **settings | changes)


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"w": (6, 4), "conv": (4, 3, 2, 2), "v": (5,)}
    return {
        name: torch.randn(shape, generator=generator).requires_grad_()
        for name, shape in shapes.items()
    }


def gradients(step):
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(p.shape, generator=generator) for name, p in parameters().items()}


def run(settings, steps=5, difference=None, rate=0.02):
    found = parameters()
    optimizer = make_optimizer(settings, found, difference, [rate] * steps)
    for step in range(steps):
        for name, gradient in gradients(step).items():
            found[name].grad = gradient.clone()
        optimizer.step(found, rate)
    return {name: p.detach() for name, p in found.items()}


def reference(make, steps=5):
    found = parameters()
    optimizer = make(list(found.values()))
    for step in range(steps):
        for name, gradient in gradients(step).items():
            found[name].grad = gradient.clone()
        optimizer.step()
    return {name: p.detach() for name, p in found.items()}


def assert_close(found, expected, tolerance=1e-6):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance)


def test_adamw_is_torchs():
    settings = training(AdamW(weight_decay=0.1), clip_norm=0)
    expected = reference(
        lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    )
    assert_close(run(settings), expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    settings = training(SgdMomentum(nesterov=nesterov), clip_norm=0)
    expected = reference(lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=nesterov))
    assert_close(run(settings), expected)


def plain_muon(u0=None, steps=5, rate=0.02, mu=0.9, decay=0.1):
    """Recipe R as a page of formulas, in float64, one parameter after the other."""
    found = {name: p.detach().double() for name, p in parameters().items()}
    momentum = {name: torch.zeros_like(p) for name, p in found.items()}
    second = {name: torch.zeros_like(p) for name, p in found.items()}
    for step in range(steps):
        t = step + 1
        for name, gradient in gradients(step).items():
            g = gradient.double()
            if name == "v":
                momentum[name] = 0.9 * momentum[name] + 0.1 * g
                second[name] = 0.99 * second[name] + 0.01 * g * g
                u = (momentum[name] / (1 - 0.9**t)) / ((second[name] / (1 - 0.99**t)).sqrt() + 1e-8)
            else:
                momentum[name] = mu * momentum[name] + g
                x = (g + mu * momentum[name]).reshape(g.shape[0], -1)
                u = 0.2 * max(x.shape) ** 0.5 * newton_schulz(x).reshape(g.shape)
            if u0 is not None:
                u = (1 - mu**t) * u + mu**t * u0[name].double()
            shrink = 1 - rate * decay if name != "v" else 1
            found[name] = shrink * found[name] - rate * u
    return {name: p.float() for name, p in found.items()}


def newton_schulz(x):
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_muon_is_the_recipe():
    found = run(training(Muon(matrices=["w", "conv"])))
    assert_close(found, plain_muon(), 1e-4)


def test_muon_starts_from_the_last_difference():
    difference = {name: p.detach() * 0.01 for name, p in parameters(9).items()}
    u0 = {name: -0.3 * d / (5 * 0.02) for name, d in difference.items()}
    found = run(training(Muon(matrices=["w", "conv"])), difference=difference)
    assert_close(found, plain_muon(u0), 1e-4)
    without = run(training(Muon(matrices=["w", "conv"], start_momentum=0)), difference=difference)
    assert_close(without, plain_muon(), 1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_newton_schulz_makes_singular_values_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix, 5))
    assert values.max() < 1.3
    assert values.min() > 0.3
    assert orthogonalized(torch.zeros(shape), 5).abs().max() == 0


def test_gradients_are_clipped_together():
    # after one step of plain SGD the change is the gradient: its norm is the ceiling
    settings = training(SgdMomentum(momentum=0), clip_norm=0.5)
    found, before = run(settings, steps=1, rate=1.0), parameters()
    change = math.sqrt(sum(float(((before[n].detach() - found[n]) ** 2).sum()) for n in found))
    assert change == pytest.approx(0.5, rel=1e-4)


def test_a_parameter_without_a_gradient_stays():
    found = parameters()
    optimizer = make_optimizer(training(Muon(matrices=["w"])), found, None, [0.1])
    found["w"].grad = torch.ones_like(found["w"])
    optimizer.step(found, 0.1)
    assert torch.equal(found["v"], parameters()["v"])
    assert not torch.equal(found["w"], parameters()["w"])


def test_the_schedule_by_hand():
    settings = training(AdamW(), warmup_steps=50, unit_warmup_steps=6, final_fraction=0.03)
    total = 1000
    for step, h in [(0, 0), (10, 10), (49, 24), (500, 0), (999, 24)]:
        cosine = 0.03 + 0.97 * (1 + math.cos(math.pi * step / total)) / 2
        eta = 0.02 * min(1, (step + 1) / 50) * cosine * min(1, (h + 1) / 6)
        assert learning_rate(settings, step, h) == pytest.approx(eta, rel=1e-12)
    assert learning_rate(settings, 5000, 24) == pytest.approx(0.02 * 0.03)
    assert unit_learning_rates(settings, 25, 2) == [
        learning_rate(settings, 25, 0),
        learning_rate(settings, 26, 1),
    ]


SHAPES = {
    "constant": [1, 1, 1, 1, 1],
    "linear": [1, 0.75 + 0.25 * 0.04, 0.52, 0.25 + 0.75 * 0.04, 0.04],
    "cosine": [1, 0.04 + 0.96 * (2 + math.sqrt(2)) / 4, 0.52, 0.04 + 0.96 * (2 - 2**0.5) / 4, 0.04],
    "step": [1, 1, 0.2, 0.04, 0.04],
    "wsd": [1, 1, 1, 0.04 + 0.96 * (1 - math.sqrt(0.5)), 0.04],
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_by_hand(name):
    settings = training(
        AdamW(),
        schedule=name,
        final_fraction=0.04,
        levels=3,
        cooldown_fraction=0.5,
        warmup_steps=0,
        unit_warmup_steps=0,
    )
    total = settings.versions * settings.local_steps
    found = [learning_rate(settings, total * quarter // 4, 0) / 0.02 for quarter in range(5)]
    assert found == pytest.approx(SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_without_a_last_rate_ends_at_zero(name):
    settings = training(AdamW(), schedule=name, final_fraction=0.0, cooldown_fraction=0.0)
    found = shape(settings, 1.0)
    assert found == pytest.approx(1.0 if name in {"constant", "wsd"} else 0.0)


def test_a_unit_says_by_how_many_versions_its_rates_go():
    short, long = training(AdamW()), training(AdamW(), versions=80)
    assert unit_learning_rates(short, 500, 5, 80) == unit_learning_rates(long, 500, 5)
    assert unit_learning_rates(short, 500, 5) != unit_learning_rates(long, 500, 5)


def test_without_warm_up_the_first_step_has_the_whole_rate():
    settings = training(AdamW(), warmup_steps=0, unit_warmup_steps=0)
    assert learning_rate(settings, 0, 0) == pytest.approx(0.02)
