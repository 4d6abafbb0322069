"""Usual layers, functions and losses: exported and equal to eager, or refused for a true reason."""

from __future__ import annotations

import pytest
import torch

from benchmarks.layers import CASES, FUNCTIONS, LAYERS, LOSSES, case_loss
from benchmarks.zoo.layers_together import Together, groups, inputs_of
from pleb_project.export import export_model
from pleb_shared.errors import GraphError


def _export(names):
    torch.manual_seed(0)
    inputs, places = inputs_of(names)
    batch = {f"input {i}": tensor for i, tensor in enumerate(inputs)}
    model = Together(names, places)
    return export_model(model, case_loss, lambda m, b: {"loss": case_loss(m, b)}, batch)


@pytest.mark.filterwarnings("ignore")  # torch's own, about some of its older layers
@pytest.mark.parametrize("names", groups(), ids=lambda names: names[0])
def test_usual_layers_functions_and_losses_export_and_match_eager(names):
    """`export_model` compares loss, gradients and buffers with those of eager mode."""
    assert _export(names).metrics == ["loss"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refusal])
def test_the_others_are_refused_for_a_true_reason(name):
    with pytest.raises(GraphError, match=CASES[name].refusal):
        _export([name])


def test_the_table_is_what_researchers_use():
    assert len(LAYERS) >= 110
    assert len(FUNCTIONS) >= 150
    assert len(LOSSES) >= 55
    assert sum(not case.refusal for case in CASES.values()) / len(CASES) > 0.95
