"""Usual layers, functions and losses as entries: several side by side, since each is small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from typing_extensions import override

from benchmarks.layers import CASES, case_loss
from benchmarks.zoo.case import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Together", "groups", "inputs_of", "together"]

AT_ONCE: Final = 12
"""Models that are exported as one, which is several times as fast as one by one."""
_EXAMPLES_AT_LEAST: Final = 24


class Together(nn.Module):
    """Several cases side by side; each takes its own of the inputs, some of which are shared."""

    def __init__(self, names: Sequence[str], places: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.models = nn.ModuleList([CASES[name].make() for name in names])
        self.places = places

    @override
    def forward(self, *inputs: torch.Tensor) -> list[Any]:
        return [
            model(*(inputs[place] for place in places))
            for model, places in zip(self.models, self.places, strict=True)
        ]


def groups() -> list[list[str]]:
    """Return lists of names of cases that export, those of one batch size together."""
    by_size: dict[object, list[str]] = {}
    for name, case in CASES.items():
        sizes = {len(tensor) for tensor in case.batch.values()}
        if not case.refusal:
            by_size.setdefault(sizes.pop() if len(sizes) == 1 else name, []).append(name)
    return [n[i : i + AT_ONCE] for n in by_size.values() for i in range(0, len(n), AT_ONCE)]


def inputs_of(names: Sequence[str]) -> tuple[list[torch.Tensor], list[list[int]]]:
    """Return the different inputs of cases, and the places of each case's own among them."""
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
    return inputs, places


def together(names: Sequence[str]) -> Entry | None:
    """Return an entry of several cases; None if their inputs are not rows of examples."""
    inputs, places = inputs_of(names)
    sizes = {len(one) for one in inputs}
    if len(sizes) > 1:
        return None
    size = sizes.pop()
    times = -(-_EXAMPLES_AT_LEAST // size)
    examples = {f"input{i}": torch.cat([one] * times) for i, one in enumerate(inputs)}
    refusal = CASES[names[0]].refusal if len(names) == 1 else ""
    return Entry(lambda: Together(names, places), lambda: examples, case_loss, refusal, batch=size)
