# ruff: noqa: E501 - a line of the researcher's code stays in one line
"""What a researcher reads after a usual mistake: one sentence, the line, and what to write."""

from __future__ import annotations

import re
import textwrap

import pytest
import torch

from pleb_project.check.draft import export_code
from pleb_project.check.mistakes import is_own
from pleb_project.check.researcher_code import load_code
from pleb_project.definition.sections import ModelSection
from pleb_shared.errors import PlebError
from pleb_shared.protocol.graph import parse_graph

HEAD = """\
import math, random
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.a = nn.Linear(8, 16)
        s.b = nn.Linear(16, 3)
    def forward(s, x):
        return s.b(torch.tanh(s.a(x)))

def model():
    return M()

def loss(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])

def evaluate(model, batch):
    return {"loss": loss(model, batch)}

"""


def module(init: str, forward: str) -> str:
    return f"""
class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.a = nn.Linear(8, 3)
        {init}
    def forward(s, x):
        {forward}
"""


def loss(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"def loss(model, batch):\n    {body}\n"


def layer(init: str, call: str) -> str:
    return module(f"s.l = {init}", f"return s.a(s.l({call}).flatten(1)[:, :8])  # HERE")


def evaluate(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"def evaluate(model, batch):\n    {body}\n"


FROZEN = "def model():\n    m = M()\n    m.requires_grad_(False)\n    return m\n"
TARGET = 'return F.mse_loss(model(batch["x"])[:, {}], batch["z"])  # HERE'

MISTAKES = {
    # the batch
    "another key": (
        loss('return model(batch["image"]).mean()  # HERE'),
        r"no 'image'.*'x' \(float32 \[8\]\)",
    ),
    "a key misspelt": (loss('return model(batch["X"]).mean()  # HERE'), "did you mean 'x'"),
    "an attribute of the batch": (loss("return model(batch.x).mean()  # HERE"), r'batch\["x"\]'),
    "a batch as a tuple": (loss("x, y, *_ = batch", "return model(x).mean()"), r"taken by name"),
    "another key in evaluate": (
        evaluate('return {"loss": model(batch["label"]).mean()}  # HERE'),
        r"evaluate.*no 'label'",
    ),
    "three arguments": (
        "def loss(model, x, y):\n    return F.cross_entropy(model(x), y)\n",
        "positional argument",
    ),
    # labels
    "labels from 1": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"] + 1)  # HERE'),
        "a label is 3.*from 0",
    ),
    "a label of -1": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"] - 1)  # HERE'),
        "a label is -1",
    ),
    "labels of int32": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"].int())  # HERE'),
        r"int64.*\.long\(\)",
    ),
    "labels of float32": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"].float())  # HERE'),
        r"\.long\(\)",
    ),
    "labels in a column": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"].unsqueeze(1))  # HERE'),
        r"squeeze\(1\)",
    ),
    "fewer labels": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"][:3])  # HERE'),
        "16 rows of scores and 3 labels",
    ),
    "one_hot is too narrow": (
        loss('return (model(batch["x"]) * F.one_hot(batch["y"], 2)).mean()  # HERE'),
        "num_classes",
    ),
    "targets broadcast": (loss(TARGET.format(":1")), r"\[16, 1\].*\[16\].*squeeze"),
    "targets for bce broadcast": (
        loss(
            'return F.binary_cross_entropy_with_logits(model(batch["x"])[:, :1], batch["z"])  # HERE'
        ),
        "do not match",
    ),
    "whole targets for bce": (
        loss(
            'return F.binary_cross_entropy_with_logits(model(batch["x"])[:, 0], batch["y"])  # HERE'
        ),
        r"\.float\(\)",
    ),
    "scores for bce": (
        loss('return F.binary_cross_entropy(model(batch["x"])[:, 0], batch["z"])  # HERE'),
        "with_logits",
    ),
    "a loss class that is not made": (
        loss('return nn.CrossEntropyLoss(model(batch["x"]), batch["y"])  # HERE'),
        r"CrossEntropyLoss\(\)\(scores",
    ),
    # dtypes
    "double input": (loss('return model(batch["x"].double()).mean()'), r"Double.*\.float\(\)"),
    "whole input": (loss('return model(batch["n"]).mean()'), r"\.float\(\)"),
    "bytes of an image": (
        layer("nn.Conv2d(1, 2, 3)", "(x[:, None, :, None] * x[:, None, None]).to(torch.uint8)"),
        r"\.float\(\) / 255",
    ),
    "decimals for an embedding": (layer("nn.Embedding(9, 4)", "x"), r"whole numbers.*\.long\(\)"),
    "the mean of whole numbers": (
        evaluate(
            's = model(batch["x"])',
            'return {"loss": s.mean(), "right": (s.argmax(1) == batch["y"]).mean()}  # HERE',
        ),
        r"decimal.*\.float\(\)",
    ),
    "a softmax of whole numbers": (
        loss('return model(batch["x"] * batch["n"].softmax(1)).mean()  # HERE'),
        r"\.float\(\)",
    ),
    "a model in float64": ("def model():\n    return M().double()\n", "same|float"),
    # shapes
    "a layer of another width": (layer("nn.Linear(10, 8)", "x"), r"nn.Linear\(8, 8\)"),
    "an image without a channel": (
        layer("nn.Conv2d(1, 2, 3)", "x[:, :, None] * x[:, None]"),
        "channel",
    ),
    "other channels": (
        layer("nn.Conv2d(3, 2, 3)", "(x[:, :, None] * x[:, None])[:, None]"),
        "for 3 channels got 1",
    ),
    "five dimensions for conv2d": (
        layer("nn.Conv2d(1, 2, 3)", "x[:, None, None, None]"),
        "conv2d takes",
    ),
    "a kernel that is too large": (
        layer("nn.Conv1d(1, 2, 9)", "x[:, None]"),
        "smaller than the kernel",
    ),
    "an embedding that is too small": (
        layer("nn.Embedding(2, 4)", "x.long().abs() + 5"),
        "num_embeddings",
    ),
    "addition of other shapes": (
        loss('return (model(batch["x"]) + torch.zeros(5)).mean()  # HERE'),
        "3 and 5 entries in dimension 1",
    ),
    "cat of other shapes": (
        loss('return model(torch.cat([batch["x"], torch.zeros(3, 4)], 1)).mean()  # HERE'),
        "cat",
    ),
    "a shape that does not fit": (
        loss('return model(batch["x"].view(16, 9)).mean()  # HERE'),
        "128 numbers do not fit",
    ),
    "a view across memory": (
        loss('return model(batch["x"].t().view(16, 8)).mean()  # HERE'),
        r"reshape\(\)",
    ),
    "batch norm of another width": (layer("nn.BatchNorm1d(10)", "x"), "num_features to 8"),
    "batch norm of another kind": (layer("nn.BatchNorm2d(8)", "x"), "BatchNorm1d"),
    "layer norm of another width": (layer("nn.LayerNorm(10)", "x"), "last dimensions"),
    "an LSTM of another width": (layer("nn.LSTM(10, 4)", "x"), "input_size to 8"),
    "an LSTM's two results": (
        module("s.l = nn.LSTM(8, 8)", "return s.a(s.l(x).tanh())  # HERE"),
        r"\[0\]",
    ),
    "heads that do not divide the width": (
        module("s.l = nn.MultiheadAttention(10, 3)  # HERE", "return s.a(x)"),
        "multiple of num_heads|divisible",
    ),
    "a dimension that is not there": (
        loss('return model(batch["x"]).mean(3)  # HERE'),
        "no dimension 3",
    ),
    "an entry that is not there": (
        loss('return model(batch["x"])[:, 9].mean()  # HERE'),
        "no entry 9",
    ),
    "gather without a dimension": (
        loss('return model(batch["x"]).gather(1, batch["y"]).mean()  # HERE'),
        "unsqueeze",
    ),
    # what loss() gives
    "no mean": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")'),
        r"\.mean\(\)",
    ),
    "no return": (loss('F.cross_entropy(model(batch["x"]), batch["y"])'), "`return`"),
    "a float": (
        loss('return F.cross_entropy(model(batch["x"]), batch["y"]).item()'),
        r"\.item\(\)",
    ),
    "a count": (loss('return (model(batch["x"]).argmax(1) == batch["y"]).sum()'), "no gradient"),
    "no gradient": (
        loss('return F.cross_entropy(model(batch["x"]).detach(), batch["y"])'),
        r"\.detach\(\)",
    ),
    "everything frozen": (FROZEN, "requires_grad"),
    "not a number": (loss('return (model(batch["x"]) * 0).log().mean() * 0'), "first batch is nan"),
    "a step of its own": (
        loss('value = model(batch["x"]).mean()', "value.backward()  # HERE", "return value"),
        "volunteers take its gradient",
    ),
    "two losses (GAN)": (
        loss('s = model(batch["x"])', "return s.mean(), -s.mean()"),
        r"GAN.*return a \+ b",
    ),
    "derivatives (PINN)": (
        loss(
            'x = batch["x"].requires_grad_()',
            "d, = torch.autograd.grad(model(x).sum(), x, create_graph=True)  # HERE",
            "return d.square().mean()",
        ),
        "physics-informed",
    ),
    # what evaluate() gives
    "metrics as a tensor": (evaluate("return loss(model, batch)"), "return a dict"),
    "metrics without a loss": (evaluate('return {"accuracy": model(batch["x"]).mean()}'), "loss"),
    "a metric as a float": (
        evaluate('return {"loss": loss(model, batch), "m": 1.0}'),
        "float as 'm'",
    ),
    "evaluation for one size only": (
        evaluate('return {"loss": model(batch["x"].view(16, 8)).mean()}  # HERE'),
        "any batch size|shape",
    ),
    # what a graph cannot hold
    "an if on data": (
        module("", "x = x * 2 if x.sum() > 0 else x  # HERE\n        return s.a(x)"),
        "torch.where",
    ),
    "an if in loss": (
        loss(
            'if batch["x"].sum() > 0:  # HERE',
            '    return model(batch["x"]).mean()',
            'return model(batch["x"]).sum()',
        ),
        "torch.where",
    ),
    "a boolean mask": (
        loss(
            's, m = model(batch["x"]), batch["y"] != 2',
            'return F.cross_entropy(s[m], batch["y"][m])  # HERE',
        ),
        "ignore_index",
    ),
    "nonzero": (
        loss(
            's = model(batch["x"])',
            'i = (batch["y"] != 2).nonzero()[:, 0]  # HERE',
            "return s[i].mean()",
        ),
        "mask",
    ),
    "a number from data": (
        loss('n = int(batch["n"].sum())  # HERE', 'return model(batch["x"]).mean() * n'),
        "int()",
    ),
    "numpy inside": (
        loss(
            'w = torch.from_numpy(batch["z"].numpy() * 2)  # HERE',
            'return (model(batch["x"])[:, 0] * w).mean()',
        ),
        "torch|numpy",
    ),
    "Python's randomness": (
        loss('return model(batch["x"]).mean() * random.random()'),
        "torch.rand",
    ),
    "numpy's randomness": (
        loss('return model(batch["x"]).mean() * np.random.rand()'),
        "torch.rand",
    ),
    "a parameter changed in place": (
        loss("model.a.weight.mul_(2)  # HERE", 'return model(batch["x"]).mean()'),
        "in place",
    ),
    "a value changed in place": (
        loss('h = model(batch["x"]).sigmoid()', "h.mul_(2)", "return h.mean()"),
        r"\+=",
    ),
    "layers in a list": (
        module("s.l = [nn.Linear(8, 8)]", "return s.a(s.l[0](x))"),
        "nn.ModuleList",
    ),
    "a sparse embedding": (
        module(
            "s.l = nn.Embedding(9, 8, sparse=True)", "return s.a(s.l(x.long().abs() % 9).mean(1))"
        ),
        "sparse=True",
    ),
    "an embedding with a largest norm": (
        layer("nn.Embedding(9, 4, max_norm=1.0)", "x.long().abs() % 9"),
        r"leave it out, and look up F\.embedding",
    ),
    "a counter": (
        module("s.step = 0", "s.step += 1\n        return s.a(x) * (1 + s.step / 100)"),
        "self.step of the model changes.*register_buffer",
    ),
    "an assert on values": (
        loss(
            'assert torch.isfinite(batch["x"]).all()  # HERE',
            'return model(batch["x"]).square().mean()',
        ),
        "leave an `assert` out",
    ),
    "a state for one batch size": (
        module(
            "s.g = nn.GRU(8, 8, batch_first=True)",
            "y, _ = s.g(x[:, None], torch.zeros(1, 16, 8))  # HERE\n        return s.a(y[:, 0])",
        ),
        r"make it of x.shape\[0\]",
    ),
    "the whole batch for the model": (
        loss('return nn.CrossEntropyLoss()(model(batch), batch["y"])'),
        r'batch\["x"\]',
    ),
    "predictions and targets": (
        "def loss(pred, target):\n    return F.cross_entropy(pred, target)  # HERE\n",
        r"loss\(model, batch\)",
    ),
    "arguments in another order": (
        "def loss(batch, model):\n    return model(batch['x']).mean()  # HERE\n",
        r"loss\(model, batch\)",
    ),
    "more best ones than there are": (
        evaluate(
            's = model(batch["x"])',
            'return {"loss": s.mean(), "five": s.topk(5, 1)[0].mean()}  # HERE',
        ),
        "make k smaller",
    ),
    "an input with a gradient": (
        loss('x = batch["x"].requires_grad_()', "return model(x).square().mean()"),
        r"input of the batch requires.*requires_grad_",
    ),
    "a slice by a value": (
        loss('n = batch["n"].max()', 'return model(batch["x"])[:n].mean()  # HERE'),
        "must not depend on a tensor's values",
    ),
    "a global counter": (
        "STEP = 0\n"
        + loss("global STEP", "STEP += 1", 'return model(batch["x"]).square().mean() / STEP'),
        "no number or list that changes",
    ),
    "a GPU": (module("", 'return s.a(x.to("cuda"))  # HERE'), "device"),
    "a model on a GPU": ("def model():\n    return M().cuda()  # HERE\n", "device|CUDA"),
    "a lazy layer that loss() does not use": (
        module("s.l = nn.LazyLinear(3)", "return s.a(x)"),
        "lazy|uninitialized",
    ),
    "a compiled model": ("def model():\n    return torch.compile(M())\n", "OptimizedModule"),
    "a parallel model": ("def model():\n    return nn.DataParallel(M())\n", "DataParallel"),
    "not a model": ("def model():\n    return M\n", "not a torch.nn.Module"),
    "no model": ("model = None\n", "def model"),
    "a syntax error": ("def loss(model, batch)\n    return 1\n", "SyntaxError"),
    "a missing package": ("import a_package_that_is_missing  # HERE\n", "pip install"),
}


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(16, 8, generator=generator),
        "y": torch.arange(16) % 3,
        "z": torch.rand(16, generator=generator),
        "n": torch.arange(128).reshape(16, 8),
    }


@pytest.mark.filterwarnings("ignore")  # torch's, about what the mistakes use
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gives_one_sentence_with_the_line(name, tmp_path, capfd, caplog):
    code, expected = MISTAKES[name]
    text = HEAD + textwrap.dedent(code)
    file = tmp_path / "model.py"
    file.write_text(text)
    with pytest.raises(PlebError) as caught:
        export_code(load_code(ModelSection(), tmp_path), [batch()], tmp_path)
    said = str(caught.value)
    assert re.search(expected, said), said
    assert "\n" not in said
    lines = [n for n, line in enumerate(text.splitlines(), 1) if "# HERE" in line]
    for line in lines:
        assert re.search(rf"{re.escape(str(file))}(, line |:){line}\b", said), said
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_there_are_sixty():
    assert len(MISTAKES) >= 60


def test_what_only_logs_is_left_out(tmp_path, capfd):
    """Texts of a loss, printed or kept, are no part of the graph."""
    logs = loss('v = model(batch["x"]).mean()', 'print(f"{v:.3f}", v.item())', "return v")
    (tmp_path / "model.py").write_text(HEAD + logs)
    exported = export_code(load_code(ModelSection(), tmp_path), [batch()], tmp_path)
    operators = [node.op for node in parse_graph(exported.training_graph).nodes]
    assert operators == ["aten.linear.default", "aten.tanh.default", "aten.linear.default",
                         "aten.mean.default"]  # fmt: skip
    assert capfd.readouterr().err == ""


def test_code_that_was_made_of_a_text_is_no_file_of_theirs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_own("model.py", tmp_path)
    assert not is_own("<string>", tmp_path)


def test_lazy_layers_get_their_sizes(tmp_path):
    lazy = "def model():\n    return nn.Sequential(nn.LazyLinear(5), nn.SiLU(), nn.LazyLinear(3))\n"
    (tmp_path / "model.py").write_text(HEAD + lazy)
    code = load_code(ModelSection(), tmp_path)
    exported = export_code(code, [batch()], tmp_path)
    shapes = [spec.shape for spec in exported.model.parameters]
    assert shapes == [[5, 8], [5], [3, 5], [3]]
