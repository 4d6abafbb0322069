"""The zoo: that its models are what it says, and a few of them through `check` itself."""

from __future__ import annotations

import pytest
import torch

from benchmarks.zoo.main import rows
from benchmarks.zoo.table import PLAIN, entry
from pleb_project.export import export_model

CHECKED = ("VAE (torch.distributions)", "GAT")
"""One that draws, one that scatters; networks with batch norm are those of `numerics`."""
REFUSED = ("GAN", "PINN")
EXPORTED = ("BYOL (moving average in loss)", "nn.Transformer", "LSTM cells with zoneout")
"""What changes frozen parameters, looks at its mask, adds gradients in another order."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, about how models are traced
def test_models_of_each_kind_pass_check_and_others_are_refused_for_a_true_reason():
    found = {row.name: row for row in rows([*CHECKED, *REFUSED])}
    assert {name: found[name].reason for name in CHECKED if not found[name].passed} == {}
    assert [found[name].expected for name in REFUSED] == [True, True]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXPORTED)
def test_models_that_took_a_formula_of_their_own_are_equal_to_eager(name):
    torch.manual_seed(0)
    made, model = entry(name), entry(name).make()
    batch = {key: tensor[: made.batch] for key, tensor in made.examples().items()}
    exported = export_model(model, made.loss, lambda m, b: {"loss": made.loss(m, b)}, batch)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {spec.name for spec in exported.model.buffers} == frozen


def test_every_model_of_plain_torch_can_be_trained():
    """A model whose loss or gradient is not a number would be refused, and blamed on the export."""
    torch.manual_seed(0)
    for zoo in PLAIN.values():
        for name, one in zoo.items():
            if one.refusal:
                continue
            model = one.make().train()
            batch = {key: tensor[: one.batch] for key, tensor in one.examples().items()}
            one.loss(model, batch).backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            assert grads, name
            assert all(grad.isfinite().all() for grad in grads), name


def test_the_zoo_is_what_researchers_bring():
    names = [name for zoo in PLAIN.values() for name in zoo]
    assert len(names) == len(set(names)) >= 130
    assert len(PLAIN) >= 15
