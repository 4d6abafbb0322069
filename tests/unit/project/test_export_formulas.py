"""Formulas that stand in for kernels: value and gradient are those of the kernel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from pleb_project.export.ctc import ctc_loss
from pleb_project.export.formulas import FORMULAS
from pleb_project.export.replacements import redrawn, replaced

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("steps", "count", "classes", "labels"), [(12, 5, 6, 4), (7, 3, 4, 1), (9, 4, 3, 5)]
)
def test_ctc_is_torchs_with_lengths_repeats_and_no_path(steps, count, classes, labels, reduction):
    generator = torch.Generator().manual_seed(steps)
    x = torch.randn(steps, count, classes, generator=generator, requires_grad=True)
    targets = torch.randint(1, classes, (count, labels), generator=generator)
    lengths = (
        torch.randint(steps // 2, steps + 1, (count,), generator=generator),
        torch.randint(0, labels + 1, (count,), generator=generator),
    )
    for zero in (False, True):
        wanted = F.ctc_loss(
            x.log_softmax(-1), targets, *lengths, reduction=reduction, zero_infinity=zero
        )
        found = ctc_loss(x.log_softmax(-1), targets, *lengths, 0, REDUCTIONS[reduction], zero)
        torch.testing.assert_close(found, wanted)
        if zero:
            torch.testing.assert_close(
                torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), x)[0]
            )


@pytest.mark.parametrize("bins", [(5, -2, 2), (4, 0, 3), (10, 0, 0)])
@pytest.mark.parametrize(
    "x", [torch.linspace(-3, 3, 50), torch.arange(40.0) % 4, torch.ones(4), torch.tensor([-2.0, 2])]
)
def test_a_histogram_is_torchs(x, bins):
    formula, _ = FORMULAS[torch.ops.aten.histc.default]
    assert torch.equal(formula(x, *bins), torch.histc(x, *bins))


COUNTS, WEIGHTS = torch.arange(1, 8), torch.linspace(0.2, 1, 7)


@pytest.mark.parametrize("shape", [(3, 7), (1, 7), (7,)])
@pytest.mark.parametrize(
    "options", [{}, {"correction": 0}, {"fweights": COUNTS}, {"aweights": WEIGHTS},
                {"fweights": COUNTS, "aweights": WEIGHTS, "correction": 2}],
)  # fmt: skip
def test_covariances_and_correlations_are_torchs(shape, options):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted, correlated = torch.cov(x, **options), torch.corrcoef(x)
    with replaced():
        found = torch.cov(x, **options)
        torch.testing.assert_close(x.corrcoef(), correlated)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), x)[0]
    )


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_without_momentum_averages_over_all_batches_as_torchs(affine):
    layers = [torch.nn.BatchNorm2d(3, affine=affine, momentum=None) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(4, 3, 2, 2, generator=generator)
        wanted = layers[0](x)
        with replaced():
            torch.testing.assert_close(layers[1](x), wanted)
    torch.testing.assert_close(layers[1].state_dict(), layers[0].state_dict())


@pytest.mark.parametrize("concentration", [0.3, 4.0, 60.0])
def test_angles_are_drawn_as_their_density_wants(concentration):
    """The mean of cos(angle - loc) is I1(k) / I0(k), that of sin is 0."""
    torch.manual_seed(0)
    wanted = torch.distributions.VonMises(torch.tensor(2.5), torch.tensor(concentration))
    with redrawn():
        angles = wanted.sample((40_000,)) - 2.5
    k = torch.tensor(concentration)
    mean = torch.special.i1e(k) / torch.special.i0e(k)
    assert abs(float(angles.cos().mean() - mean)) < 5 / 200 * float((1 - mean**2).sqrt())
    assert abs(float(angles.sin().mean())) < 5 / 200
