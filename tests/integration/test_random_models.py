"""Models that draw: exported as written, equal to eager mode, and trained alike twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from typing_extensions import override

from pleb_project.export import export_model
from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.graph import Node, Output, Ref, Value, parse_graph
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import dry_run
from pleb_shared.training.graph import CompiledGraph

WIDTH = 6


def vae(model, batch):
    """Kingma and Welling 2014: reconstruction and KL divergence, with reparametrised noise."""
    mean, spread = model(batch["x"]).chunk(2, 1)
    hidden = mean + torch.randn(mean.shape, device=mean.device) * (spread / 2).exp()
    divergence = -0.5 * (1 + spread - mean**2 - spread.exp()).sum(1).mean()
    return (hidden.sum(1) - batch["x"].sum(1)).square().mean() + divergence


def diffusion(model, batch):
    """Ho et al. 2020, algorithm 1: predict the noise of a random step."""
    x = batch["x"]
    step = torch.randint(0, 100, (x.shape[0],), device=x.device)
    kept = (1 - torch.linspace(1e-4, 0.05, 100)).cumprod(0)[step].unsqueeze(1)
    noise = torch.randn_like(x)
    found = model(kept.sqrt() * x + (1 - kept).sqrt() * noise)[:, :WIDTH]
    return ((found - noise) ** 2).mean()


def mixup(model, batch):
    """Zhang et al. 2018, with a uniform share."""
    x, share = batch["x"], torch.rand(batch["x"].shape[0], 1)
    other = torch.randperm(x.shape[0])
    return model(share * x + (1 - share) * x[other]).square().mean()


def noise(model, batch):
    x = batch["x"]
    x = x + 0.1 * torch.rand_like(x) * torch.randint(-2, 3, x.shape)
    return model(x * torch.bernoulli(torch.full_like(x, 0.9))).square().mean()


def contrastive(model, batch):
    """Chen et al. 2020 (SimCLR): two noisy views of each example."""
    views = [batch["x"] + 0.3 * torch.randn_like(batch["x"]) for _ in range(2)]
    z = F.normalize(model(torch.cat(views)), dim=1)
    scores = z @ z.transpose(0, 1) / 0.5 - 1e9 * torch.eye(z.shape[0])
    count = batch["x"].shape[0]
    return F.cross_entropy(scores, torch.arange(2 * count).roll(count))


def sampled(model, batch):
    """Rows and categories by their weights."""
    scores = model(batch["x"])
    rows = torch.multinomial(batch["x"].square().sum(1), 2)
    kinds = torch.multinomial(scores.detach().softmax(1), 3, replacement=True)
    return scores[rows].mean() + scores.log_softmax(1).gather(1, kinds).mean()


def continuous(model, batch):
    """What torch.distributions draws from whole ranges, by other than rejection."""
    mean, spread = model(batch["x"]).chunk(2, 1)
    d = torch.distributions
    scale = F.softplus(spread) + 0.1
    kinds = [
        d.Normal(mean, scale),
        d.LogNormal(mean.tanh(), scale.tanh()),
        d.Laplace(mean, scale),
        d.Gumbel(mean, scale),
        d.Uniform(mean, mean + scale),
        d.Exponential(scale),
        d.RelaxedBernoulli(torch.tensor(0.5), logits=mean),
    ]
    return torch.stack([one.rsample().mean() for one in kinds]).sum()


def discrete(model, batch):
    """Choices: Gumbel softmax, Bernoulli and categories."""
    scores = model(batch["x"])
    soft = F.gumbel_softmax(scores, hard=True).square().sum(1).mean()
    d = torch.distributions
    kinds = [d.Bernoulli(logits=scores), d.Categorical(logits=scores)]
    return soft + torch.stack([one.log_prob(one.sample()).mean() for one in kinds]).sum()


def in_place(model, batch):
    """Drop-path with bernoulli_, and tensors filled in place."""
    x = batch["x"]
    path = x.new_empty(x.shape[0], 1).bernoulli_(0.8) / 0.8
    y = model(x) * path
    for fill in (
        lambda t: t.normal_(0, 2),
        lambda t: t.uniform_(-1, 1),
        lambda t: t.exponential_(2.0),
        lambda t: t.geometric_(0.5),
        lambda t: t.random_(3),
        lambda t: t.log_normal_(0, 0.5),
        lambda t: torch.normal(t.zero_(), 0.1),
        lambda t: torch.randint_like(t, 4),
    ):
        y = y + fill(torch.empty_like(y)).tanh()
    return y.square().mean()


def dropouts(model, batch):
    """Every kind of dropout, a random slope, and dropout between recurrent layers."""
    return model(batch["x"]).square().mean()


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(WIDTH, 16)
        self.lstm = nn.LSTM(4, 4, num_layers=3, dropout=0.3, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(8, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.each = nn.Sequential(
            nn.Dropout(0.2, inplace=True),
            nn.AlphaDropout(0.2),
            nn.FeatureAlphaDropout(0.2),
            nn.Dropout1d(0.2),
            nn.RReLU(),
        )

    @override
    def forward(self, x):
        x = self.first(x).unflatten(1, (4, 4))
        x = self.gru(self.lstm(x)[0])[0]
        x = self.each(x)
        x = nn.functional.dropout2d(x[..., None], 0.1, self.training)[..., 0]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1 * self.training).flatten(1)


KINDS = {
    f.__name__: f
    for f in (
        vae, diffusion, mixup, noise, contrastive, sampled,
        continuous, discrete, in_place, dropouts,
    )
}  # fmt: skip


def exported(loss, model=None, size=4):
    torch.manual_seed(1)
    model = model or nn.Sequential(nn.Linear(WIDTH, 16), nn.SiLU(), nn.Linear(16, 2 * WIDTH))
    return export_model(
        model, loss, lambda m, b: {"loss": loss(m, b)}, {"x": torch.randn(size, WIDTH)}
    )


def steps(found, seed):
    """Return the losses of three steps of plain SGD and the trained tensors."""
    graph = found.compiled(found.training_graph)
    generator = torch.Generator().manual_seed(2)
    tensors = {n: torch.from_numpy(a.copy()) for n, a in load_tensors(found.initial).items()}
    losses = []
    for step in range(3):
        parameters = {n: tensor.detach().requires_grad_() for n, tensor in tensors.items()}
        batch = {"x": torch.randn(4, WIDTH, generator=generator)}
        loss = graph.run(parameters, {}, batch, NodeDraws(seed, step))["loss"]
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        tensors = {n: parameters[n] - 0.1 * g for n, g in zip(parameters, gradients, strict=True)}
        losses.append(loss.item())
    return losses, {n: tensor.detach().numpy() for n, tensor in tensors.items()}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_that_draws_is_exported_and_trains_alike_twice(name):
    """`export_model` itself compares loss and gradients with eager mode under the same draws."""
    found = exported(KINDS[name], Dropped() if name == "dropouts" else None)
    (losses, once), (_, twice), (others, _) = (steps(found, seed) for seed in (1, 1, 2))
    for key, tensor in once.items():
        assert np.array_equal(tensor, twice[key])
    assert losses != others, "another seed draws otherwise"


@pytest.mark.parametrize("name", ["vae", "diffusion", "noise"])
def test_an_evaluation_draws_alike_for_any_batch_size(name):
    found = exported(KINDS[name])
    graph = found.compiled(found.evaluation_graph)
    tensors = {n: torch.from_numpy(a.copy()) for n, a in load_tensors(found.initial).items()}
    for size in (1, 3, 4):
        batch = {"x": torch.ones(size, WIDTH)}
        one, two, other = (
            graph.run(tensors, {}, batch, NodeDraws(7, start))["loss"] for start in (0, 0, 8)
        )
        assert one == two != other


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda x: torch.distributions.Gamma(x.exp(), 1.0).rsample(), "rejection"),
        (lambda x: torch.poisson(x.exp()), "rejection"),
        (lambda x: torch.rand(3, generator=torch.Generator()).sum() + x, "generator"),
    ],
)
def test_what_cannot_be_repeated_elsewhere_is_refused_with_the_reason(draw, reason):
    with pytest.raises(GraphError, match=reason):
        exported(lambda model, batch: draw(model(batch["x"])).mean())


def _graph(op, args, shape, weights):
    """Return a graph of one call whose value 0 is `weights`, and that input."""
    graph = parse_graph(exported(vae).training_graph)
    array = torch.tensor(weights)
    graph.parameters.clear()
    graph.nodes[:] = [Node(op=op, args=args, outputs=[Value(dtype="float32", shape=shape)])]
    graph.inputs[0].shape[:] = list(array.shape)
    graph.constants.clear()
    graph.outputs[:] = [Output(name="loss", slot=1)]
    return graph, array


X = Ref(slot=0)


@pytest.mark.parametrize(
    ("op", "args", "reason"),
    [
        ("rand.default", [[2**20, 2**20]], "too many"),
        ("randn.default", [[-1]], "negative"),
        ("randn.default", [[2**40]], "too large"),
        ("randn.default", [[2], True], "not a"),
        ("randint.low", [5, 5, [3]], "from 5 below 5"),
        ("randint.default", [2**40, [3]], "too large"),
        ("randperm.default", [-1], "negative"),
        ("randperm.default", [2**31], "too large"),
        ("exponential.default", [X, -1.0], "the rate is -1.0"),
        ("exponential.default", [X, float("nan")], "the rate is nan"),
        ("multinomial.default", [X, 5], "5 of 4 categories"),
        ("multinomial.default", [X, 0], "0 of 4"),
        ("multinomial.default", [X, 2**31 - 1, True, None], "arguments"),
        ("rand_like.default", [3], "not"),
    ],
)
def test_a_hostile_call_is_refused_before_it_runs(op, args, reason):
    graph, _ = _graph(f"aten.{op}", args, [1], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(GraphError, match=rf"Node 0 .*{reason}"):
        dry_run(graph, trains=False)


@pytest.mark.parametrize(
    ("op", "args", "weights"),
    [
        ("bernoulli.default", [X], [0.5, 1.5]),
        ("bernoulli.default", [X], [-0.5, 0.5]),
        ("bernoulli.default", [X], [float("nan"), 0.5]),
        ("multinomial.default", [X, 1], [0.0, 0.0]),
        ("multinomial.default", [X, 2], [0.0, 1.0]),
        ("multinomial.default", [X, 1], [-1.0, 2.0]),
        ("multinomial.default", [X, 1, True], [float("inf"), 2.0]),
        ("multinomial.default", [X, 1, True], [float("nan"), 2.0]),
    ],
)
def test_impossible_probabilities_end_the_unit_with_a_sentence(op, args, weights):
    graph, x = _graph(f"aten.{op}", args, [len(weights)], weights)
    with pytest.raises(TrainingError, match=r"Node 0 .*(bernoulli|multinomial)"):
        CompiledGraph(graph).run({}, {}, {"x": x}, NodeDraws(0, 0))


@pytest.mark.parametrize("replacement", [False, True])
def test_a_category_without_weight_is_never_drawn(replacement):
    weights = [[0.0, 1.0, 0.0, 3.0, 0.0]] * 4000
    graph, x = _graph("aten.multinomial.default", [X, 1, replacement], [4000, 1], weights)
    found = CompiledGraph(graph).run({}, {}, {"x": x}, NodeDraws(0, 0))["loss"]
    counts = torch.bincount(found.flatten(), minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    assert float(counts[3]) == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize("op", ["aten.lstm.input", "aten.gru.input"])
def test_a_graph_cannot_draw_from_torchs_generator_between_layers(op):
    """The exporter writes single layers; a graph that does not is refused."""
    args = [X, [X], [X], True, 2, 0.5, True, False, False]
    graph, _ = _graph(op, args, [1], [0.0])
    with pytest.raises(GraphError, match="dropout between layers"):
        CompiledGraph(graph)


def test_the_memory_of_a_draw_is_counted():
    graph, _ = _graph("aten.randn.default", [[2**20]], [2**20], [0.0])
    graph.nodes.append(
        Node(op="aten.mean.default", args=[Ref(slot=1)], outputs=[Value(dtype="float32", shape=[])])
    )
    graph.outputs[:] = [Output(name="loss", slot=2)]
    assert dry_run(graph, trains=False).memory_bytes > 16 * 2**20
