"""What a researcher's model becomes, and what is said where it cannot be exported."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import prune
from typing_extensions import override

from pleb_project.export import export_model
from pleb_shared.errors import GraphError, InputError
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.tensors.layout import load_tensors, version_digest
from pleb_shared.training.draws import NodeDraws


def mean_square(model, batch):
    return model(batch["x"]).square().mean()


def metrics(model, batch):
    return {"loss": mean_square(model, batch)}


def export(model, batch=None, loss=mean_square, evaluate=metrics, **changes):
    return export_model(model, loss, evaluate, batch or {"x": torch.randn(4, 6)}, **changes)


class Attention(nn.Module):
    """Self-attention with weights, a causal table as a buffer, and grouped queries."""

    mask: torch.Tensor

    def __init__(self):
        super().__init__()
        self.mha = nn.MultiheadAttention(6, 2, dropout=0.1, batch_first=True)
        self.register_buffer("mask", torch.ones(3, 3).tril().bool(), persistent=False)
        self.out = nn.Linear(6, 6)

    @override
    def forward(self, x):
        x, _ = self.mha(x, x, x, attn_mask=~self.mask)
        q = x.view(x.shape[0], 3, 2, 3).transpose(1, 2)
        k = q[:, :1]
        y = F.scaled_dot_product_attention(
            q, k, k, attn_mask=self.mask, dropout_p=0.2 if self.training else 0, enable_gqa=True
        )
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 4, batch_first=True)
        self.gru = nn.GRU(4, 4, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)

    @override
    def forward(self, x):
        return self.gru(self.drop(self.lstm(x)[0]))[0]


class Quiet(nn.Module):
    """Part of it gets no gradient: a frozen layer, a no_grad block, an unused parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.first.requires_grad_(requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.ones(6))

    @override
    def forward(self, x):
        with torch.no_grad():
            centre = (x * self.scale).mean()
        with torch.autocast("cpu", enabled=False):
            centre = centre * torch.tensor(0.5)
        return self.second(self.first(x)) - centre


def sequential(*layers):
    return nn.Sequential(*layers)


IMAGE = {"x": torch.randn(4, 4, 8, 8)}
SEQUENCE = {"x": torch.randn(4, 3, 6)}
ZOO = {
    "mlp": (sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 2)), None),
    "transformer": (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, norm_first=True),
            2,
            enable_nested_tensor=False,
        ),
        SEQUENCE,
    ),
    "attention": (Attention(), SEQUENCE),
    "recurrent": (Recurrent(), SEQUENCE),
    "quiet": (Quiet(), None),
    "convnext": (
        sequential(
            nn.Conv2d(4, 8, 2, stride=2),
            nn.Conv2d(8, 8, 3, padding="same", groups=8),
            nn.GroupNorm(2, 8),
            nn.Hardswish(),
            nn.Dropout2d(0.2),
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.Upsample(scale_factor=2),
            nn.AvgPool2d(2),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.Flatten(),
        ),
        IMAGE,
    ),
    "norms": (
        sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.RMSNorm(8), nn.LayerNorm(8), nn.PReLU()),
        None,
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_models_of_many_kinds_export_and_match_eager(name):
    """`export_model` itself compares loss, gradients and buffers to the bit."""
    model, batch = ZOO[name]
    before = copy.deepcopy(model.state_dict())
    exported = export(model, batch)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    version = load_tensors(exported.initial)
    assert version_digest(version, exported.model) == exported.model.initial_digest
    assert exported.flops_per_step > 0


@pytest.mark.parametrize("name", ZOO)
def test_evaluation_graphs_take_any_batch_size(name):
    model, batch = ZOO[name]
    batch = batch or {"x": torch.randn(4, 6)}
    exported = export(model, batch)
    graph = exported.compiled(exported.evaluation_graph)
    tensors = {n: torch.from_numpy(a.copy()) for n, a in load_tensors(exported.initial).items()}
    still = copy.deepcopy(model).eval()
    for size in (1, 3, 4):
        part = {"x": batch["x"][:size]}
        with torch.no_grad():
            found = graph.run(tensors, tensors, part, NodeDraws(0, 0))["loss"]
            assert torch.allclose(found, mean_square(still, part), rtol=1e-5)


def test_what_gets_no_gradient_is_the_base():
    """Frozen, unused, or only used where nothing is recorded: no step would change it."""
    exported = export(Quiet())
    graph = parse_graph(exported.training_graph)
    assert [spec.name for spec in exported.model.parameters] == ["second.weight", "second.bias"]
    found = {spec.name for spec in exported.model.base_tensors}
    assert found == {"first.weight", "first.bias", "unused", "scale"}
    assert load_tensors(exported.base).keys() == found
    assert sum(node.no_grad for node in graph.nodes) == 2


def test_tied_weights_travel_once():
    model = sequential(nn.Embedding(9, 5), nn.Linear(5, 5), nn.Linear(5, 9, bias=False))
    model[2].weight = model[0].weight
    exported = export(model, {"x": torch.randint(0, 9, (4, 3))})
    assert [spec.name for spec in exported.model.parameters] == ["0.weight", "1.weight", "1.bias"]
    assert exported.shared == {"2.weight": "0.weight"}


def test_muon_gets_the_hidden_matrices_unless_told_otherwise():
    model = sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    assert export(model).matrices == ["0.weight", "2.weight"]
    assert export(model, matrices=["4.weight"]).matrices == ["4.weight"]
    with pytest.raises(InputError, match=r"'0.bias'.*two dimensions"):
        export(model, matrices=["0.bias"])


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    @override
    def forward(self, x):
        return self.layer(x) + torch.poisson(x[:, :2].abs())  # the line that is named


def test_a_refusal_names_operator_line_and_remedy():
    with pytest.raises(GraphError) as caught:
        export(Noisy())
    message = str(caught.value)
    assert "aten.poisson.default" in message
    assert "test_export.py, line" in message
    assert "# the line that is named" in message
    assert "log-normal" in message


def test_so_does_one_for_a_line_in_loss():
    def loss(model, batch):
        return model(batch["x"]).mean() + torch.poisson(torch.ones(1)).sum()  # this one

    with pytest.raises(GraphError, match=r"aten.poisson.default.*test_export.py.*# this one"):
        export(nn.Linear(6, 2), loss=loss)


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    @override
    def forward(self, x):
        return torch.fft.rfft(self.layer(x)).abs()  # here


def test_so_does_one_for_what_an_operator_is_made_of():
    with pytest.raises(GraphError) as caught:
        export(Spectrum())
    message = str(caught.value)
    assert "aten.fft_rfft.default (by way of " in message
    assert "test_export.py, line" in message
    assert "# here" in message


def test_a_batch_norm_stays_one_call_beside_what_is_taken_apart():
    model = sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))

    def loss(model, batch):
        return F.mse_loss(model(batch["x"]).T.hsplit(2)[0], torch.zeros(6, 2))

    exported = export(model, loss=loss, evaluate=lambda m, b: {"loss": mean_square(m, b)})
    operators = [node.op for node in parse_graph(exported.training_graph).nodes]
    assert "aten.batch_norm.default" in operators
    assert "aten.mse_loss.default" in operators
    assert parse_graph(exported.training_graph).mutated == [
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ]


def branches(model, batch):
    y = model(batch["x"])
    return y.mean() if y.sum() > 0 else y.square().mean()


def fixed_size(model, batch):
    return {"loss": model(batch["x"]).reshape(4, 2).mean()}


def without_loss(model, batch):
    return {"accuracy": model(batch["x"]).mean()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": branches}, r"loss\(\) cannot be exported"),
        ({"loss": lambda model, batch: model(batch["x"])}, "one number"),
        ({"loss": lambda model, batch: model(batch["x"]).sum().item()}, "one number|item"),
        ({"evaluate": fixed_size}, "any batch size"),
        ({"evaluate": without_loss}, 'with a "loss"'),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_sentence(changes, message):
    with pytest.raises(GraphError, match=message) as caught:
        export(nn.Linear(6, 2), **changes)
    assert "\n" not in str(caught.value)


def changes_its_input(model, batch):
    x = batch["x"]
    x += 1
    x[:, 0] = 0
    x[x > 1] = 0
    return model(x).square().mean()


def test_a_loss_may_change_its_inputs_which_stay_as_they_are():
    batch = {"x": torch.randn(4, 6)}
    before = batch["x"].clone()
    loss = {"loss": changes_its_input, "evaluate": lambda m, b: {"loss": changes_its_input(m, b)}}
    exported = export(nn.Linear(6, 2), batch, **loss)
    graph = exported.compiled(exported.training_graph)
    tensors = {n: torch.from_numpy(a.copy()) for n, a in load_tensors(exported.initial).items()}
    first, second = (graph.run(tensors, {}, batch, NodeDraws(0, 0))["loss"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(batch["x"], before)


class Hooked(nn.Module):
    """A pruned layer, whose weight is computed by a hook; another hook's closure keeps features.

    A layer is left out at a rate of 0, by a draw.
    """

    def __init__(self):
        super().__init__()
        self.body = prune.l1_unstructured(nn.Linear(6, 4), "weight", 0.5)
        self.head = nn.Linear(4, 2)
        self.features: dict[str, torch.Tensor] = {}
        self.head.register_forward_pre_hook(lambda _, x: self.features.update(h=x[0]))
        self.rate = 0.0

    @override
    def forward(self, x):
        if not self.training or torch.rand(1) > self.rate:
            x = torch.tanh(self.body(x))
        return self.head(x) + self.features["h"].mean()


def test_hooks_computed_weights_and_a_rate_of_nothing_export_and_the_model_stays_as_it_was():
    torch.manual_seed(0)
    model = Hooked()
    model.head.weight.grad = torch.ones(2, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = export(model)
    assert {spec.name for spec in exported.model.base_tensors} == {"body.weight_mask"}
    torch.testing.assert_close(model.state_dict(), before)
    assert torch.equal(model.head.weight.grad, torch.ones(2, 4))
    assert model.body.weight_orig.grad is None
    assert model.training


def far_apart(model, batch):
    """`cdist` takes another kernel for more than 25 rows."""
    y = model(batch["x"])
    return {"loss": torch.cdist(y, y).square().sum() / y.shape[0] ** 2}


def contrast(model, batch):
    y = F.normalize(model(batch["x"]), dim=1)
    return {"loss": F.cross_entropy(y @ y.T, torch.arange(len(y)))}


def of_sizes(model, batch):
    y, n = model(batch["x"]), batch["x"].shape[0]
    return {"loss": (1 / n) * y.sum() + y.sum() / (n / 2 + 1) + y.sum() / n**3}


@pytest.mark.parametrize("evaluate", [far_apart, contrast, of_sizes])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_examples_that_are_compared_with_each_other_are_evaluated_in_any_number(evaluate, count):
    model = nn.Linear(6, 2)
    x = torch.randn(60, 6)
    exported = export(model, {"x": x[:count]}, evaluate=evaluate)
    graph = exported.compiled(exported.evaluation_graph)
    tensors = dict(model.named_parameters())
    for size in (1, 2, count, 60):
        part = {"x": x[:size]}
        with torch.no_grad():
            found = graph.run(tensors, {}, part, NodeDraws(0, 0))["loss"]
            wanted = evaluate(model, part)["loss"]
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6), size


def looks_at_the_size(model, batch):
    y = model(batch["x"])
    return {"loss": y.mean() if y.shape[0] > 2 else y.square().mean()}


def test_a_python_branch_on_the_batch_size_is_refused_with_the_size():
    with pytest.raises(GraphError, match=r"exported with 4 examples.*not right for 1"):
        export(nn.Linear(6, 2), evaluate=looks_at_the_size)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(6, 2).double(), "make it float32"),
    ],
)
def test_models_that_cannot_be_reproduced_are_refused(model, message):
    def loss(model, batch):
        result = model(batch["x"].to(next(model.parameters()).dtype))
        return (result[0] if isinstance(result, tuple) else result).mean()

    with pytest.raises(InputError, match=message):
        export(model, loss=loss, evaluate=lambda m, b: {"loss": loss(m, b)})


def test_the_graph_carries_small_tables_but_no_large_ones():
    model = nn.Linear(6, 2)
    model.register_buffer("table", torch.zeros(2**22), persistent=False)

    def loss(model, batch):
        return model(batch["x"]).mean() + model.table.mean()

    with pytest.raises(GraphError, match="persistent buffers"):
        export(model, loss=loss)
