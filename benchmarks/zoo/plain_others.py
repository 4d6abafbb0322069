"""Experts, recommendation, control, fields and detection, of plain torch."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typing_extensions import override

from benchmarks.zoo.case import Batch, Entry, Zoo, images, noise, parts, relu_mlp, whole

__all__ = ["EXPERTS", "OTHERS"]

Tensor = torch.Tensor
D: Any = torch.distributions  # its functions have no types


class Experts(nn.Module):
    """A mixture of MLPs; x [N, C]. `kind` is how tokens and experts find each other."""

    def __init__(self, kind: str, width: int = 16, count: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count)
        self.into = nn.Parameter(torch.randn(count, width, 32) / 4)
        self.out = nn.Parameter(torch.randn(count, 32, width) / 6)
        self.kind = kind

    @override
    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        share = scores.softmax(-1)
        if self.kind == "soft":  # every expert gets mixtures of tokens (Puigcerver 2023)
            found = self._run(scores.softmax(0).T[:, None] @ x)
            return (share[..., None] * found[:, 0]).sum(1)
        if self.kind == "switch":  # the best one, up to a capacity (Fedus 2021)
            weight, chosen = share.max(-1)
            one = F.one_hot(chosen, 4)
            place = (one.cumsum(0) * one).sum(-1) - 1
            room = x.shape[0] // 2
            slot = torch.where(place < room, chosen * room + place, 4 * room)
            held = x.new_zeros(4 * room + 1, x.shape[1]).index_copy(0, slot, x)
            done = self._run(held[:-1].view(4, room, -1)).flatten(0, 1)
            return weight[:, None] * torch.cat([done, torch.zeros_like(x[:1])])[slot]
        weight, chosen = share.topk(2, -1)  # all experts, of which two count
        every = self._run(x.expand(4, -1, -1)).transpose(0, 1)
        taken = every.gather(1, chosen[..., None].expand(-1, -1, x.shape[1]))
        return (taken * (weight / weight.sum(-1, keepdim=True))[..., None]).sum(1)

    def _run(self, x: Tensor) -> Tensor:
        return F.gelu(x @ self.into) @ self.out


def _expert_loss(model: Any, batch: Batch) -> Tensor:
    h = model.embed(batch["x"])
    h = h + model.experts(h.flatten(0, 1)).view(h.shape)
    return F.cross_entropy(model.last(h).flatten(0, 1), batch["y"].flatten())


def _sequences() -> Batch:
    x = (whole(16)[:, None] + torch.arange(9)) % 16
    return {"x": x[:, :-1], "y": x[:, 1:].contiguous()}


def _experts(kind: str) -> Entry:
    return Entry(
        lambda: parts(embed=nn.Embedding(16, 16), experts=Experts(kind), last=nn.Linear(16, 16)),
        _sequences, _expert_loss,
    )  # fmt: skip


EXPERTS: Final[Zoo] = {
    "experts (top two)": _experts("top"),
    "experts (switch, capacity)": _experts("switch"),
    "experts (soft)": _experts("soft"),
}


def _pairs() -> Batch:
    user, item = whole(8), whole(10)
    return {"user": user, "item": item, "other": whole(10, seed=1),
            "y": ((user + item) % 3).float()}  # fmt: skip


def _factors() -> nn.Module:
    return parts(user=nn.Embedding(8, 8), item=nn.Embedding(10, 8))


def _bpr(model: Any, batch: Batch) -> Tensor:
    user = model.user(batch["user"])
    gap = (user * (model.item(batch["item"]) - model.item(batch["other"]))).sum(1)
    return -F.logsigmoid(gap).mean()


def _towers(model: Any, batch: Batch) -> Tensor:
    user, item = model.user(batch["user"]), model.item(batch["item"])
    scores = F.normalize(user) @ F.normalize(item).T / 0.1
    return F.cross_entropy(scores, torch.arange(scores.shape[0]))


def _moves() -> Batch:
    x = noise(4)
    return {"x": x, "action": whole(3), "reward": x[:, 0], "next": noise(4, seed=1),
            "old": -1.1 + 0.1 * noise(1)[:, 0]}  # fmt: skip


def _dqn(model: Any, batch: Batch) -> Tensor:
    now = model.online(batch["x"]).gather(1, batch["action"][:, None]).squeeze(1)
    with torch.no_grad():
        later = model.target(batch["next"]).amax(1)
    return F.smooth_l1_loss(now, batch["reward"] + 0.9 * later)


def _ppo(model: Any, batch: Batch) -> Tensor:
    policy = D.Categorical(logits=model.actor(batch["x"]))
    ratio = (policy.log_prob(batch["action"]) - batch["old"]).exp()
    value = model.critic(batch["x"]).squeeze(1)
    gain = (batch["reward"] - value).detach()
    clipped = torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
    total: Tensor = F.mse_loss(value, batch["reward"]) - clipped.mean() - 0.01 * policy.entropy(
        ).mean()  # fmt: skip
    return total


def _frozen_target() -> nn.Module:
    online = relu_mlp(4, 3)
    return parts(online=online, target=copy.deepcopy(online).requires_grad_(False))


class Sine(nn.Module):
    """A SIREN: sines of 10 x (Sitzmann 2020); x [B, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 32), nn.Linear(32, 3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(torch.sin(10 * self.first(x)))
        return found


def _field() -> Batch:
    x = noise(2).tanh()
    return {"x": x, "y": torch.cat([x.prod(1, keepdim=True), x], 1)}


def _nerf(model: Any, batch: Batch) -> Tensor:
    start = torch.cat([batch["x"], torch.zeros_like(batch["x"][:, :1])], 1)[:, None]
    depth = torch.linspace(0, 1, 8)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    points = start + depth
    waves = torch.cat([(points * 2**i).sin() for i in range(3)], -1)
    density, colour = model(waves).split([1, 3], -1)
    alpha = 1 - torch.exp(-F.softplus(density) / 8)
    through = torch.cumprod(F.pad(1 - alpha + 1e-6, (0, 0, 1, 0), value=1.0)[:, :-1], 1)
    return F.mse_loss((through * alpha * colour.sigmoid()).sum(1), batch["y"].sigmoid())


def _hyper(model: Any, batch: Batch) -> Tensor:
    weights = model(batch["y"])
    w1, w2 = weights[:, :16].view(-1, 2, 8), weights[:, 16:].view(-1, 8, 1)
    found = torch.tanh(batch["x"][:, None] @ w1) @ w2
    return F.mse_loss(found.flatten(), batch["y"][:, 0])


def _distil(model: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        wanted = (model.teacher(batch["x"].flatten(1)) / 2).softmax(1)
    scores = model.student(batch["x"].flatten(1))
    soft = F.kl_div((scores / 2).log_softmax(1), wanted, reduction="batchmean")
    return soft + F.cross_entropy(scores, batch["y"])


def _sinkhorn(model: Any, batch: Batch) -> Tensor:
    a, b = model(batch["x"]), batch["y"][:, :2]
    cost = torch.cdist(a, b).square() / 0.2
    u = v = torch.zeros(a.shape[0])
    for _ in range(5):
        u = -torch.logsumexp(v - cost, 1)
        v = -torch.logsumexp(u[:, None] - cost, 0)
    plan = torch.exp(u[:, None] + v - cost)
    return (plan * cost).sum() / a.shape[0]


def _boxes(model: Any, batch: Batch) -> Tensor:
    found = model(batch["x"])  # [B, 5, 4, 4]
    cell = F.adaptive_max_pool2d(batch["x"].mean(1, keepdim=True), 4)
    there = (cell > cell.mean()).float()
    near = F.smooth_l1_loss(found[:, 1:], cell.expand(-1, 4, -1, -1), reduction="none")
    focal = (
        1 - torch.exp(-F.binary_cross_entropy_with_logits(found[:, :1], there, reduction="none"))
    ) ** 2
    return focal.mean() + (near * there).sum() / there.sum().clamp(min=1)


def _spatial(model: Any, batch: Batch) -> Tensor:
    theta = model.where(batch["x"].flatten(1)).view(-1, 2, 3) * 0.1 + torch.eye(2, 3)
    grid = F.affine_grid(theta, list(batch["x"].shape), align_corners=False)
    x = F.grid_sample(batch["x"], grid, align_corners=False)
    return F.cross_entropy(model.last(x.flatten(1)), batch["y"])


OTHERS: Final[Zoo] = {
    "matrix factorisation": Entry(
        _factors, _pairs,
        lambda m, b: F.mse_loss((m.user(b["user"]) * m.item(b["item"])).sum(1), b["y"]),
    ),
    "Bayesian personalised ranking": Entry(_factors, _pairs, _bpr),
    "two towers": Entry(_factors, _pairs, _towers),
    "DQN (frozen target)": Entry(_frozen_target, _moves, _dqn),
    "PPO (recorded moves)": Entry(
        lambda: parts(actor=relu_mlp(4, 3), critic=relu_mlp(4, 1)), _moves, _ppo
    ),
    "SIREN": Entry(Sine, _field, lambda m, b: F.mse_loss(m(b["x"]), b["y"])),
    "NeRF": Entry(lambda: relu_mlp(9, 4), _field, _nerf),
    "hypernetwork": Entry(lambda: relu_mlp(3, 24), _field, _hyper),
    "distillation (frozen teacher)": Entry(
        lambda: parts(teacher=relu_mlp(768, 4).requires_grad_(False), student=relu_mlp(768, 4, 8)),
        images, _distil,
    ),
    "Sinkhorn": Entry(lambda: relu_mlp(2, 2), _field, _sinkhorn),
    "detector (focal, smooth L1)": Entry(
        lambda: nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.SiLU(), nn.Conv2d(16, 5, 1)), images,
        _boxes,
    ),
    "spatial transformer": Entry(
        lambda: parts(where=relu_mlp(768, 6), last=nn.Linear(768, 4)), images, _spatial
    ),
}  # fmt: skip
