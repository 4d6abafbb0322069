"""Weights to start from: every name and shape must be the model's, and the message helps."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pleb_project.check.initial import load_initial
from pleb_project.download import Wanted, parse_wanted
from pleb_shared.errors import InputError


def model(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight


def fault(tmp_path, state, into=None) -> str:
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    with pytest.raises(InputError) as caught:
        load_initial(into or model(), file)
    return str(caught.value)


def test_a_state_dict_comes_back_bit_by_bit(tmp_path):
    source, target = model(), model()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_initial(target, tmp_path / "w.safetensors")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_half_precision_is_taken_as_it_is(tmp_path):
    half = {n: t.half() if t.is_floating_point() else t for n, t in model().state_dict().items()}
    save_file(half, tmp_path / "w.safetensors")
    target = model()
    load_initial(target, tmp_path / "w.safetensors")
    assert torch.equal(target.state_dict()["0.weight"], half["0.weight"].float())


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_tied_weights_are_found_under_either_name(tmp_path, name):
    weights = torch.ones(5, 4)
    save_file({name: weights}, tmp_path / "w.safetensors")
    target = Tied()
    load_initial(target, tmp_path / "w.safetensors")
    assert torch.equal(target.head.weight, weights)


def test_other_shapes_and_kinds_are_named(tmp_path):
    assert "'0.weight' is float32 [5, 3] there and float32 [4, 3] in the model" in fault(
        tmp_path, model(5).state_dict()
    )
    wrong = {**model().state_dict(), "0.bias": torch.ones(4, dtype=torch.int64)}
    assert "'0.bias' is int64 [4] there" in fault(tmp_path, wrong)


def test_missing_and_unknown_names_are_listed(tmp_path):
    state = model().state_dict()
    del state["2.bias"]
    state["other"] = torch.ones(1)
    found = fault(tmp_path, state)
    assert "it lacks '2.bias'" in found
    assert "the model has no 'other'" in found


@pytest.mark.parametrize("put_in_front", [True, False])
def test_a_prefix_is_found(tmp_path, put_in_front):
    state, into = model().state_dict(), model()
    if put_in_front:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    else:
        into = nn.ModuleDict({"module": model()})
    assert "'module.' in front the names are the model's: rename them" in fault(
        tmp_path, state, into
    )


def test_what_is_no_safetensors_is_refused_in_a_sentence(tmp_path):
    file = tmp_path / "w.pt"
    torch_file = b"PK\x03\x04 not a safetensors file"
    file.write_bytes(torch_file)
    for path in (file, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match="cannot be read as safetensors"):
            load_initial(model(), path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("40", Wanted("40")),
        ("best", Wanted("best")),
        ("newest", Wanted("newest")),
        ("0/40", Wanted("40", 0)),
        ("2/best", Wanted("best", 2)),
    ],
)
def test_versions_are_named(text, wanted):
    assert parse_wanted(text) == wanted


@pytest.mark.parametrize("text", ["", "-1", "latest", "1/2/3", "0x3", "1.5", "best/1"])
def test_other_names_of_versions_are_refused(text):
    with pytest.raises(InputError, match="is no version"):
        parse_wanted(text)
