"""Formulas that stand in for kernels: value and gradient are those of the kernel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from pleb_project.export.ctc import ctc_loss
from pleb_project.export.formulas import FORMULAS

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
