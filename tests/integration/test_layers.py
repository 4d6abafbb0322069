"""Usual layers, functions and losses: exported and equal to eager, or refused for a true reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from typing_extensions import override

from benchmarks.layers import CASES, FUNCTIONS, LAYERS, LOSSES, case_loss
from pleb_project.export import export_model
from pleb_shared.errors import GraphError

AT_ONCE = 12
"""Models that are exported as one, which is several times as fast as one by one."""


class Together(nn.Module):
    """Several cases side by side; each takes its own of the inputs, some of which are shared."""

    def __init__(self, names, places):
        super().__init__()
        self.models = nn.ModuleList([CASES[name].make() for name in names])
        self.places = places

    @override
    def forward(self, *inputs):
        return [
            model(*(inputs[place] for place in places))
            for model, places in zip(self.models, self.places, strict=True)
        ]


def _groups():
    """Return lists of names of cases that export, those of one batch size together."""
    by_size: dict[object, list[str]] = {}
    for name, case in CASES.items():
        sizes = {len(tensor) for tensor in case.batch.values()}
        if not case.refusal:
            by_size.setdefault(sizes.pop() if len(sizes) == 1 else name, []).append(name)
    return [n[i : i + AT_ONCE] for n in by_size.values() for i in range(0, len(n), AT_ONCE)]


def _export(names):
    torch.manual_seed(0)
    inputs: list[torch.Tensor] = []
    places: list[list[int]] = []
    for name in names:
        places.append([])
        for tensor in CASES[name].batch.values():
            same = (i for i, one in enumerate(inputs) if one.dtype == tensor.dtype)
            place = next((i for i in same if torch.equal(inputs[i], tensor)), len(inputs))
            if place == len(inputs):
                inputs.append(tensor)
            places[-1].append(place)
    batch = {f"input {i}": tensor for i, tensor in enumerate(inputs)}
    model = Together(names, places)
    return export_model(model, case_loss, lambda m, b: {"loss": case_loss(m, b)}, batch)


@pytest.mark.filterwarnings("ignore")  # torch's own, about some of its older layers
@pytest.mark.parametrize("names", _groups(), ids=lambda names: names[0])
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
