"""Layers, functions and losses that researchers use, each as a model small enough to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A model and a batch; its loss is the mean of all that the model gives for the batch."""

    make: Callable[[], nn.Module]
    batch: Batch
    refusal: str = ""
    """What the sentence says where it cannot be trained; "" if it can."""


def case_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the mean of all real numbers in what `model` gives for the inputs of `batch`."""
    found = model(*batch.values())
    return torch.stack([part.float().square().mean() for part in _real(found)]).mean()


def _real(value: Any) -> list[torch.Tensor]:
    """Return the tensors of real numbers, of any shape, in a structure of them."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, dict) else value
    return [one for part in parts for one in _real(part)] if value is not None else []


class After(nn.Module):
    """A trained layer, and then a function of what it gives and of the other inputs."""

    def __init__(self, function: Callable[..., Any], first: nn.Module) -> None:
        super().__init__()
        self.first, self.function = first, function

    @override
    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> Any:
        return self.function(self.first(x), *others)


class Scale(nn.Module):
    """A trained factor for each number of the last dimension; x of any shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, width))

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def _random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(shape, generator=generator)


def _whole(below: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(below + sum(shape))
    return torch.randint(0, below, shape, generator=generator)


def _sign(*shape: int) -> torch.Tensor:
    return torch.where(_random(*shape) > 0, 1.0, -1.0)


D: Any = torch.distributions  # its functions have no types
FLAT: Final = (4, 6)
SEQUENCE: Final = (4, 5, 6)
IMAGE: Final = (2, 4, 8, 8)
VOLUME: Final = (2, 4, 4, 4, 4)


def _layer(make: Callable[[], nn.Module], shape: tuple[int, ...], *others: torch.Tensor) -> Case:
    """Return a case of a layer whose input is trained, too, so that gradients flow through."""
    batch = {"x": _random(*shape)} | {f"x{i}": other for i, other in enumerate(others)}
    return Case(lambda: _Layered(make(), shape[-1]), batch)


class _Layered(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.scale, self.layer = Scale(width), layer

    @override
    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> Any:
        return self.layer(self.scale(x), *others)


def _function(
    function: Callable[..., Any], *shape: int, others: Any = (), refusal: str = ""
) -> Case:
    """Return a case of a function of a trained tensor of `shape` and of other inputs."""
    shape = shape or FLAT
    batch = {"x": _random(*shape)} | {f"x{i}": other for i, other in enumerate(others)}
    return Case(lambda: After(function, Scale(shape[-1])), batch, refusal)


class _SelfAttention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, **options)

    @override
    def forward(self, x: torch.Tensor) -> Any:
        size = x.shape[1] if self.inner.batch_first else x.shape[0]
        return self.inner(x, x, x, attn_mask=torch.ones(size, size).triu(1) > 0)


class _Weighted(nn.Module):
    """An embedding bag with a weight for each of its rows; x and w are [batch, n]."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 4, mode="sum")

    @override
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> Any:
        return self.bag(x, per_sample_weights=w)


LAYERS: Final[dict[str, Case]] = {
    # Linear, convolutions.
    "Identity": _layer(nn.Identity, FLAT),
    "Linear": _layer(lambda: nn.Linear(6, 3), FLAT),
    "Bilinear": _layer(lambda: nn.Bilinear(6, 5, 3), FLAT, _random(4, 5)),
    "Conv1d": _layer(lambda: nn.Conv1d(5, 3, 3), SEQUENCE),
    "Conv1d(circular)": _layer(
        lambda: nn.Conv1d(5, 3, 3, padding=1, padding_mode="circular"), SEQUENCE
    ),
    "Conv2d": _layer(lambda: nn.Conv2d(4, 3, 3, stride=2, padding=1), IMAGE),
    "Conv2d(reflect)": _layer(lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "Conv3d": _layer(lambda: nn.Conv3d(4, 2, 3), VOLUME),
    "ConvTranspose1d": _layer(lambda: nn.ConvTranspose1d(5, 3, 3, stride=2), SEQUENCE),
    "ConvTranspose2d": _layer(lambda: nn.ConvTranspose2d(4, 3, 3, stride=2), IMAGE),
    "ConvTranspose3d": _layer(lambda: nn.ConvTranspose3d(4, 2, 2, stride=2), VOLUME),
    "Unfold": _layer(lambda: nn.Unfold(3, padding=1), IMAGE),
    "Fold": _layer(lambda: nn.Fold((4, 4), 2, stride=2), (2, 12, 4)),
    # Pooling.
    "MaxPool1d": _layer(lambda: nn.MaxPool1d(2), SEQUENCE),
    "MaxPool2d": _layer(lambda: nn.MaxPool2d(3, 2, 1), IMAGE),
    "MaxPool2d(indices)": _layer(lambda: nn.MaxPool2d(2, return_indices=True), IMAGE),
    "MaxPool3d": _layer(lambda: nn.MaxPool3d(2), VOLUME),
    "AvgPool1d": _layer(lambda: nn.AvgPool1d(2), SEQUENCE),
    "AvgPool2d": _layer(lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    "AvgPool3d": _layer(lambda: nn.AvgPool3d(2), VOLUME),
    "LPPool1d": _layer(lambda: nn.LPPool1d(2, 2), SEQUENCE),
    "LPPool2d": _layer(lambda: nn.LPPool2d(2, 2), IMAGE),
    "AdaptiveAvgPool1d": _layer(lambda: nn.AdaptiveAvgPool1d(3), SEQUENCE),
    "AdaptiveAvgPool2d": _layer(lambda: nn.AdaptiveAvgPool2d((3, 2)), IMAGE),
    "AdaptiveAvgPool3d": _layer(lambda: nn.AdaptiveAvgPool3d(2), VOLUME),
    "AdaptiveMaxPool1d": _layer(lambda: nn.AdaptiveMaxPool1d(3), SEQUENCE),
    "AdaptiveMaxPool2d": _layer(lambda: nn.AdaptiveMaxPool2d((3, 2)), IMAGE),
    "AdaptiveMaxPool3d": _layer(lambda: nn.AdaptiveMaxPool3d(2), VOLUME),
    "MaxUnpool2d": _function(
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2]), *IMAGE
    ),
    # Padding and shapes.
    "ReflectionPad1d": _layer(lambda: nn.ReflectionPad1d(2), SEQUENCE),
    "ReflectionPad2d": _layer(lambda: nn.ReflectionPad2d(2), IMAGE),
    "ReplicationPad2d": _layer(lambda: nn.ReplicationPad2d(2), IMAGE),
    "ReplicationPad3d": _layer(lambda: nn.ReplicationPad3d(1), VOLUME),
    "ZeroPad2d": _layer(lambda: nn.ZeroPad2d(2), IMAGE),
    "ConstantPad1d": _layer(lambda: nn.ConstantPad1d(2, 1.5), SEQUENCE),
    "CircularPad2d": _layer(lambda: nn.CircularPad2d(2), IMAGE),
    "Flatten": _layer(nn.Flatten, IMAGE),
    "Unflatten": _layer(lambda: nn.Unflatten(1, (2, 3)), FLAT),
    "PixelShuffle": _layer(lambda: nn.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": _layer(lambda: nn.PixelUnshuffle(2), IMAGE),
    "ChannelShuffle": _layer(lambda: nn.ChannelShuffle(2), IMAGE),
    "Upsample(nearest)": _layer(lambda: nn.Upsample(scale_factor=2), IMAGE),
    "Upsample(bilinear)": _layer(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "Upsample(bicubic)": _layer(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    "Upsample(linear)": _layer(lambda: nn.Upsample(scale_factor=2, mode="linear"), SEQUENCE),
    "Upsample(nearest 1d)": _layer(lambda: nn.Upsample(scale_factor=2), SEQUENCE),
    "Upsample(nearest 3d)": _layer(lambda: nn.Upsample(scale_factor=2), VOLUME),
    "Upsample(trilinear)": _layer(lambda: nn.Upsample(scale_factor=2, mode="trilinear"), VOLUME),
    "UpsamplingBilinear2d": _layer(lambda: nn.UpsamplingBilinear2d(size=(5, 7)), IMAGE),
    "UpsamplingNearest2d": _layer(lambda: nn.UpsamplingNearest2d(size=(5, 7)), IMAGE),
    # Activations.
    **{
        name: _layer(getattr(nn, name), FLAT)
        for name in (
            *("ELU", "Hardshrink", "Hardsigmoid", "Hardtanh", "Hardswish", "LeakyReLU"),
            *("LogSigmoid", "PReLU", "ReLU", "ReLU6", "SELU", "CELU", "GELU", "Sigmoid", "SiLU"),
            *("Mish", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
        )
    },
    "GELU(tanh)": _layer(lambda: nn.GELU("tanh"), FLAT),
    "Threshold": _layer(lambda: nn.Threshold(0.1, 0.5), FLAT),
    "GLU": _layer(nn.GLU, FLAT),
    "PReLU(channels)": _layer(lambda: nn.PReLU(4), IMAGE),
    "RReLU(eval)": _function(lambda x: F.rrelu(x, training=False)),
    "Softmin": _layer(lambda: nn.Softmin(1), FLAT),
    "Softmax": _layer(lambda: nn.Softmax(1), FLAT),
    "Softmax2d": _layer(nn.Softmax2d, IMAGE),
    "LogSoftmax": _layer(lambda: nn.LogSoftmax(1), FLAT),
    "ReLU(inplace)": _layer(lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True)), FLAT),
    "Threshold(inplace)": _layer(
        lambda: nn.Sequential(nn.Linear(6, 6), nn.Threshold(0.1, 0.2, inplace=True)), FLAT
    ),
    # Norms.
    "BatchNorm1d": _layer(lambda: nn.BatchNorm1d(6), FLAT),
    "BatchNorm2d": _layer(lambda: nn.BatchNorm2d(4), IMAGE),
    "BatchNorm3d": _layer(lambda: nn.BatchNorm3d(4), VOLUME),
    "BatchNorm2d(cumulative)": _layer(lambda: nn.BatchNorm2d(4, momentum=None), IMAGE),
    "BatchNorm2d(no statistics)": _layer(
        lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGE
    ),
    "SyncBatchNorm": _layer(lambda: nn.SyncBatchNorm(4), IMAGE),
    "GroupNorm": _layer(lambda: nn.GroupNorm(2, 4), IMAGE),
    "InstanceNorm1d": _layer(lambda: nn.InstanceNorm1d(5), SEQUENCE),
    "InstanceNorm2d": _layer(lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "InstanceNorm3d": _layer(lambda: nn.InstanceNorm3d(4), VOLUME),
    "LayerNorm": _layer(lambda: nn.LayerNorm(6), SEQUENCE),
    "RMSNorm": _layer(lambda: nn.RMSNorm(6), SEQUENCE),
    "LocalResponseNorm": _layer(lambda: nn.LocalResponseNorm(3), IMAGE),
    "weight_norm": _layer(lambda: parametrizations.weight_norm(nn.Linear(6, 3)), FLAT),
    "spectral_norm": _layer(lambda: parametrizations.spectral_norm(nn.Linear(6, 3)), FLAT),
    "old weight_norm": _layer(lambda: nn.utils.weight_norm(nn.Linear(6, 3)), FLAT),
    "old spectral_norm": _layer(lambda: nn.utils.spectral_norm(nn.Conv2d(4, 3, 3)), IMAGE),
    "orthogonal(cayley)": _layer(
        lambda: parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="cayley"), FLAT
    ),
    "orthogonal(householder)": _layer(
        lambda: parametrizations.orthogonal(nn.Linear(6, 4), orthogonal_map="householder"), FLAT
    ),
    "orthogonal(exponential)": _layer(
        lambda: parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="matrix_exp"), FLAT
    ),
    # Recurrent layers.
    "RNN": _layer(lambda: nn.RNN(6, 4, batch_first=True), SEQUENCE),
    "RNN(relu, 2 layers)": _layer(
        lambda: nn.RNN(6, 4, 2, nonlinearity="relu", batch_first=True), SEQUENCE
    ),
    "RNN(bidirectional)": _layer(
        lambda: nn.RNN(6, 4, bidirectional=True, batch_first=True), SEQUENCE
    ),
    "LSTM": _layer(lambda: nn.LSTM(6, 4, batch_first=True), SEQUENCE),
    "LSTM(bidirectional)": _layer(
        lambda: nn.LSTM(6, 4, 2, bidirectional=True, batch_first=True), SEQUENCE
    ),
    "LSTM(projections)": _layer(lambda: nn.LSTM(6, 4, proj_size=3, batch_first=True), SEQUENCE),
    "GRU": _layer(lambda: nn.GRU(6, 4, batch_first=True), SEQUENCE),
    "GRU(bidirectional)": _layer(
        lambda: nn.GRU(6, 4, 2, bidirectional=True, batch_first=True), SEQUENCE
    ),
    "RNNCell": _layer(lambda: nn.RNNCell(6, 4), FLAT),
    "RNNCell(relu)": _layer(lambda: nn.RNNCell(6, 4, nonlinearity="relu"), FLAT),
    "LSTMCell": _layer(lambda: nn.LSTMCell(6, 4), FLAT),
    "GRUCell": _layer(lambda: nn.GRUCell(6, 4), FLAT),
    # Attention.
    "TransformerEncoderLayer": _layer(
        lambda: nn.TransformerEncoderLayer(6, 2, 12, 0, batch_first=True), SEQUENCE
    ),
    "TransformerDecoderLayer": _layer(
        lambda: nn.TransformerDecoderLayer(6, 2, 12, 0), SEQUENCE, _random(4, 5, 6)
    ),
    "TransformerEncoder": _layer(
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(6, 2, 12, 0, activation="gelu"), 2, nn.LayerNorm(6)
        ),
        SEQUENCE,
    ),
    "Transformer": _layer(
        lambda: nn.Transformer(6, 2, 1, 1, 12, 0, batch_first=True), SEQUENCE, _random(4, 3, 6)
    ),
    # Embeddings.
    "Embedding": Case(lambda: nn.Embedding(9, 4), {"x": _whole(9, 4, 3)}),
    "Embedding(padding)": Case(lambda: nn.Embedding(9, 4, padding_idx=0), {"x": _whole(9, 4, 3)}),
    "EmbeddingBag": Case(lambda: nn.EmbeddingBag(9, 4), {"x": _whole(9, 4, 3)}),
    "EmbeddingBag(sum)": Case(
        lambda: nn.EmbeddingBag(9, 4, mode="sum", padding_idx=1), {"x": _whole(9, 4, 3)}
    ),
    "EmbeddingBag(max)": Case(lambda: nn.EmbeddingBag(9, 4, mode="max"), {"x": _whole(9, 4, 3)}),
    "EmbeddingBag(weights)": Case(_Weighted, {"x": _whole(9, 4, 3), "w": _random(4, 3)}),
    "Embedding(max_norm)": Case(
        lambda: nn.Embedding(9, 4, max_norm=1.0), {"x": _whole(9, 4, 3)}, "max_norm"
    ),
    # Distances.
    "CosineSimilarity": _layer(lambda: nn.CosineSimilarity(1), FLAT, _random(*FLAT)),
    "PairwiseDistance": _layer(nn.PairwiseDistance, FLAT, _random(*FLAT)),
}


LAYERS["MultiheadAttention"] = _layer(_SelfAttention, SEQUENCE)
LAYERS["MultiheadAttention(batch_first)"] = _layer(
    lambda: _SelfAttention(batch_first=True, add_bias_kv=True, add_zero_attn=True), SEQUENCE
)


class Double(torch.autograd.Function):
    """A function with a backward of its own that is what autograd would do."""

    @staticmethod
    @override
    def forward(ctx: Any, x: torch.Tensor) -> Any:
        return 2 * x

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * grads[0]


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through as if it did not."""

    @staticmethod
    @override
    def forward(ctx: Any, x: torch.Tensor) -> Any:
        return x.round()

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


def _assigned(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 0] = 0
    y[:, 1:3] += 1
    y[..., 3] = y[..., 4]
    return y


def _assign_mask(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y < 0] = 0.5
    y[(x > 1) & (x < 2)] = x.mean()
    return y


def _positions(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(9, 6)
    y.index_add_(0, index, x)
    y.index_copy_(0, index, x)
    y.index_fill_(0, index[:1], 2.0)
    y[index] = x
    y[index, 0] += 1
    return y


def _affine(theta: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    grid = F.affine_grid(theta.view(-1, 2, 3), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


TORCH: Any = torch  # some of its functions have no types
FUNCTIONS: Final[dict[str, Case]] = {
    # Elementwise.
    **{
        name: _function(lambda x, name=name: getattr(torch, name)(0.4 * torch.tanh(x) + 0.5))
        for name in (
            *("abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "deg2rad", "digamma"),
            *("erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "frac", "lgamma", "log"),
            *("log10", "log1p", "log2", "logit", "neg", "positive", "reciprocal", "round", "rsqrt"),
            *("sgn", "sigmoid", "sign", "sin", "sinc", "sinh", "sqrt", "square", "tan", "tanh"),
            *("trunc", "nan_to_num", "asinh", "fix", "absolute", "negative", "i0"),
        )
    },
    "acosh": _function(lambda x: torch.acosh(2 + x.abs())),
    "atan2": _function(torch.atan2, others=[_random(*FLAT)]),
    "hypot": _function(torch.hypot, others=[_random(*FLAT)]),
    "logaddexp": _function(torch.logaddexp, others=[_random(*FLAT)]),
    "logaddexp2": _function(torch.logaddexp2, others=[_random(*FLAT)]),
    "xlogy": _function(lambda x, y: torch.xlogy(y, x.abs() + 1), others=[_random(*FLAT)]),
    "fmod": _function(lambda x: torch.fmod(x, 0.3)),
    "remainder": _function(lambda x: x % 0.3),
    "true_divide": _function(lambda x: torch.true_divide(x, 3)),
    "floor_divide": _function(lambda x: x + x.detach() // 0.3),
    "float_power": _function(lambda x: torch.float_power(x.abs() + 1, 1.5)),
    "pow": _function(lambda x: 2**x + x**3),
    "addcdiv": _function(lambda x: torch.addcdiv(x, x, 2 + x.abs(), value=0.5)),
    "addcmul": _function(lambda x: torch.addcmul(x, x, x, value=0.5)),
    "lerp": _function(lambda x: torch.lerp(x, 2 * x, 0.3)),
    "clip": _function(lambda x: x.clip(-0.5, 0.5)),
    "clamp(tensor)": _function(lambda x: x.clamp(min=x.mean())),
    "copysign": _function(torch.copysign, others=[_random(*FLAT)]),
    "heaviside": _function(lambda x: x * torch.heaviside(x.detach(), torch.tensor(0.5))),
    "fmax": _function(lambda x: torch.fmax(x, -x)),
    "isclose": _function(lambda x: x * torch.isclose(x, x)),
    "logical": _function(lambda x: x * ((x > 0) ^ (x > 1)) + x * (x > 0).logical_xor(x < 1)),
    "bitwise": _function(lambda x, i: x * ((i & 3) | 1) * (i ^ 5), others=[_whole(9, *FLAT)]),
    "where": _function(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "tensor in-place": _function(lambda x: (x * 1).add_(1).mul_(2).clamp_(-1, 1).pow_(2).exp_()),
    "masked_fill_": _function(lambda x: (x * 1).masked_fill_(x < 0, 0.5)),
    "masked assignment": _function(_assign_mask),
    "assignment": _function(_assigned),
    "index assignment": _function(_positions, others=[torch.tensor([1, 5, 0, 8])]),
    "straight-through": _function(lambda x: x + (x.round() - x).detach()),
    "autograd.Function": _function(Double.apply),
    "autograd.Function(straight)": _function(Straight.apply, refusal="differs|backward"),
    # Shapes.
    "T": _function(lambda x: x.T),
    "mT": _function(lambda x: x.mT @ x),
    "hstack": _function(lambda x: torch.hstack([x, x])),
    "vstack": _function(lambda x: torch.vstack([x, x])),
    "dstack": _function(lambda x: torch.dstack([x, x])),
    "column_stack": _function(lambda x: torch.column_stack([x, x])),
    "concat": _function(lambda x: torch.concat([x, x], -1)),
    "narrow": _function(lambda x: x.narrow(1, 1, 3)),
    "diff": _function(lambda x: torch.diff(x, dim=1)),
    "swapaxes": _function(lambda x: x.swapaxes(0, 1)),
    "moveaxis": _function(lambda x: x.moveaxis(0, 1)),
    "ravel": _function(lambda x: x.ravel()),
    "tile": _function(lambda x: x.tile(2, 2)),
    "rot90": _function(lambda x: x.rot90()),
    "fliplr": _function(lambda x: x.fliplr()),
    "roll": _function(lambda x: x.roll(1, 1)),
    "tensor_split": _function(lambda x: torch.tensor_split(x, 4, 1)),
    "hsplit": _function(lambda x: torch.hsplit(x, 3)),
    "unbind": _function(lambda x: x.unbind(1)),
    "unfold": _function(lambda x: x.unfold(1, 3, 2)),
    "diag": _function(lambda x: torch.diag(x[0])),
    "diag_embed": _function(torch.diag_embed),
    "diagonal": _function(lambda x: x.diagonal()),
    "block_diag": _function(lambda x: TORCH.block_diag(x, x), refusal="any batch size"),
    "atleast_3d": _function(TORCH.atleast_3d),
    "broadcast_tensors": _function(lambda x: TORCH.broadcast_tensors(x, x[:1])),
    "expand": _function(lambda x: x[:, None].expand(-1, 3, -1)),
    "repeat_interleave": _function(lambda x: x.repeat_interleave(2, 0)),
    "take_along_dim": _function(
        lambda x, i: torch.take_along_dim(x, i, 1),
        others=[_whole(6, 4, 2)],
        refusal="any batch size",
    ),
    "take": _function(torch.take, others=[_whole(24, 4, 2)]),
    "gather": _function(lambda x, i: x.gather(1, i), others=[_whole(6, 4, 2)]),
    "index_select": _function(lambda x, i: x.index_select(1, i[:, 0]), others=[_whole(6, 4, 2)]),
    "tril_indices": _function(lambda x: x[tuple(torch.tril_indices(4, 4))]),
    "meshgrid": _function(lambda x: torch.meshgrid(x[0], x[1], indexing="ij")),
    "cartesian_prod": _function(lambda x: torch.cartesian_prod(x[0], x[1])),
    "view_as": _function(lambda x: x.view_as(x) + x.reshape_as(x)),
    "unsqueeze_": _function(lambda x: (x * 1).unsqueeze_(0) + 1),
    "rearranged": _function(lambda x: x.view(-1, 2, 3).permute(1, 0, 2).contiguous().flatten(1)),
    "select_scatter": _function(lambda x: torch.select_scatter(x, x[0], 0, 1)),
    "slice_scatter": _function(lambda x: torch.slice_scatter(x, x[:2], 0, 1, 3)),
    "diagonal_scatter": _function(lambda x: torch.diagonal_scatter(x, x[:, 0])),
    "scatter_reduce": _function(
        lambda x, i: x.scatter_reduce(1, i, x, "amax"), others=[_whole(6, *FLAT)]
    ),
    "scatter_reduce(mean)": _function(
        lambda x, i: x.scatter_reduce(0, i, x, "mean"), others=[_whole(4, *FLAT)]
    ),
    "scatter_add_": _function(
        lambda x, i: torch.zeros_like(x).scatter_add_(1, i, x), others=[_whole(6, *FLAT)]
    ),
    "scatter_": _function(
        lambda x, i: torch.zeros_like(x).scatter_(1, i, 1.0) * x, others=[_whole(6, 4, 1)]
    ),
    "index_put(accumulate)": _function(
        lambda x, i: torch.zeros(9, 6).index_put((i,), x, accumulate=True), others=[_whole(9, 4)]
    ),
    # Reductions.
    "amax": _function(lambda x: x.amax(1)),
    "aminmax": _function(lambda x: torch.aminmax(x, dim=1)),
    "argmax": _function(lambda x: x * (x.argmax(1, keepdim=True) == 1)),
    "count_nonzero": _function(lambda x: x * (x > 0).count_nonzero()),
    "cumsum": _function(lambda x: x.cumsum(1)),
    "cumprod": _function(lambda x: x.cumprod(1)),
    "cummax": _function(lambda x: x.cummax(1)),
    "logcumsumexp": _function(lambda x: x.logcumsumexp(1)),
    "logsumexp": _function(lambda x: x.logsumexp((0, 1))),
    "median": _function(lambda x: x.median(1)),
    "nanmean": _function(lambda x: x.nanmean(1)),
    "nansum": _function(lambda x: x.nansum(1)),
    "quantile": _function(lambda x: x.quantile(0.3, 1)),
    "kthvalue": _function(lambda x: x.kthvalue(2, 1)),
    "mode": _function(lambda x: x.mode(1)),
    "norm": _function(lambda x: x.norm() + x.norm(p=1, dim=1) + x.norm(dim=1)),
    "norm(inf)": _function(lambda x: torch.linalg.norm(x, ord=float("inf"), dim=1)),
    "matrix norm": _function(torch.linalg.matrix_norm),
    "normalize": _function(F.normalize),
    "prod": _function(lambda x: x.prod(1)),
    "sort": _function(lambda x: x.sort(1)),
    "topk": _function(lambda x: x.topk(2, 1)),
    "std": _function(lambda x: x.std(0) + x.var(0)),
    "std_mean": _function(lambda x: torch.std_mean(x, 1)),
    "renorm": _function(lambda x: x.renorm(2, 0, 1.0)),
    "any, all": _function(lambda x: x * (x > 0).any(1, keepdim=True) * (x > -9).all()),
    "bucketize": _function(lambda x: x * torch.bucketize(x.detach(), torch.linspace(-1, 1, 5))),
    "searchsorted": _function(
        lambda x: x * torch.searchsorted(torch.linspace(-1, 1, 5), x.detach())
    ),
    "histc": _function(lambda x: x.sum() * torch.histc(x.detach(), 5, -2, 2)),
    # Products and linear algebra.
    "matmul": _function(lambda x: x @ x.T),
    "einsum": _function(lambda x: torch.einsum("bi,bj->bij", x, x)),
    "tensordot": _function(lambda x: torch.tensordot(x, x, dims=([0], [0]))),
    "kron": _function(lambda x: torch.kron(x[0], x[1]), *SEQUENCE),
    "inner": _function(lambda x: torch.inner(x, x)),
    "vdot": _function(lambda x: torch.vdot(x[0], x[1])),
    "addmv": _function(lambda x: torch.addmv(x[:, 0], x, x[0])),
    "addr": _function(lambda x: torch.addr(x, x[:, 0], x[0])),
    "addbmm": _function(lambda x: torch.addbmm(x[0], x, x.mT @ x), 2, 5, 5),
    "chain_matmul": _function(
        lambda x: torch.linalg.multi_dot([x[0], x[0].T, x[1]]), *SEQUENCE
    ),
    "trace": _function(lambda x: torch.trace(x @ x.T)),
    "cross": _function(lambda x: torch.linalg.cross(x, 2 + x.flip(0)), 2, 4, 3),
    "VonMises.sample": _function(
        lambda x: x * D.VonMises(x.detach(), 1 + x.detach().square()).sample()
    ),
    "cov": _function(lambda x: torch.cov(x.T)),
    "corrcoef": _function(lambda x: torch.corrcoef(x.T)),
    "cdist": _function(torch.cdist, *SEQUENCE, others=[_random(4, 3, 6)]),
    "cdist(p=1)": _function(
        lambda x, y: torch.cdist(x, y, p=1), *SEQUENCE, others=[_random(4, 3, 6)]
    ),
    "pdist": _function(lambda x: F.pdist(x[0]), *SEQUENCE),
    "matrix_power": _function(lambda x: torch.linalg.matrix_power(x, 3), 2, 4, 4),
    "matrix_exp": _function(torch.linalg.matrix_exp, 2, 4, 4),
    "inv": _function(lambda x: torch.linalg.inv(x + 5 * torch.eye(4)), 2, 4, 4),
    "det": _function(lambda x: torch.linalg.det(x + 5 * torch.eye(4)), 2, 4, 4),
    "slogdet": _function(lambda x: torch.linalg.slogdet(x + 5 * torch.eye(4)), 2, 4, 4),
    "solve": _function(lambda x: torch.linalg.solve(x + 5 * torch.eye(4), x), 2, 4, 4),
    "cholesky": _function(lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(4)), 2, 4, 4),
    "fft": _function(lambda x: torch.fft.rfft(x).abs(), refusal="[Cc]omplex"),
    "stft": _function(
        lambda x: torch.stft(x, 4, return_complex=True, window=torch.ones(4)).abs(),
        refusal="[Cc]omplex",
    ),
    "view_as_complex": _function(
        lambda x: torch.view_as_complex(x.view(-1, 3, 2)).abs(), refusal="[Cc]omplex"
    ),
    # Images.
    "interpolate(area)": _function(lambda x: F.interpolate(x, (3, 3), mode="area"), *IMAGE),
    "interpolate(antialias)": _function(
        lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True), *IMAGE
    ),
    "interpolate(nearest-exact)": _function(
        lambda x: F.interpolate(x, (5, 3), mode="nearest-exact"), *IMAGE
    ),
    "grid_sample": _function(
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        *IMAGE, others=[_random(2, 5, 5, 2)],
    ),
    "grid_sample(3d)": _function(
        lambda x, g: F.grid_sample(x, g, align_corners=True),
        *VOLUME, others=[_random(2, 3, 3, 3, 3)],
    ),
    "affine_grid": _function(_affine, 2, 6, others=[_random(*IMAGE)]),
    "scaled_dot_product_attention(shared heads)": _function(
        lambda x: F.scaled_dot_product_attention(
            x[:, None].repeat(1, 2, 1, 1), x[:, None], x[:, None]
        ),
        *SEQUENCE,
    ),
    "one_hot": _function(lambda x, i: x + F.one_hot(i, 6), others=[_whole(6, 4)]),
    "scaled_dot_product_attention": _function(
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), *SEQUENCE
    ),
    "gumbel-free softmax": _function(lambda x: F.softmax(x / 0.5, -1).max(-1).values),
    "boolean index": _function(lambda x: x[x > 0], refusal="[Ss]hape"),
    "nonzero": _function(lambda x: x[torch.nonzero(x[:, 0] > 0)], refusal="[Ss]hape"),
    "item": _function(lambda x: x * x.sum().item(), refusal="[Ss]hape|item"),
}  # fmt: skip


def _loss(
    function: Callable[..., Any], *targets: torch.Tensor, shape: Any = FLAT, **more: Any
) -> Case:
    return _function(function, *shape, others=targets, **more)


def _log_softmax(x: torch.Tensor) -> torch.Tensor:
    return x.log_softmax(-1)


def _ctc(x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    steps, labels = (torch.full((x.shape[0],), length) for length in (5, 2))
    return F.ctc_loss(x.log_softmax(-1).transpose(0, 1), targets, steps, labels)


LOSSES: Final[dict[str, Case]] = {
    "L1Loss": _loss(nn.L1Loss(), _random(*FLAT)),
    "MSELoss": _loss(nn.MSELoss(), _random(*FLAT)),
    "mse_loss": _loss(F.mse_loss, _random(*FLAT)),
    "mse_loss(none)": _loss(lambda x, y: F.mse_loss(x, y, reduction="none"), _random(*FLAT)),
    "l1_loss": _loss(F.l1_loss, _random(*FLAT)),
    "SmoothL1Loss": _loss(nn.SmoothL1Loss(), _random(*FLAT)),
    "HuberLoss": _loss(nn.HuberLoss(), _random(*FLAT)),
    "CrossEntropyLoss": _loss(nn.CrossEntropyLoss(label_smoothing=0.1), _whole(6, 4)),
    "CrossEntropyLoss(weight)": _loss(nn.CrossEntropyLoss(torch.ones(6)), _whole(6, 4)),
    "CrossEntropyLoss(probabilities)": _loss(
        nn.CrossEntropyLoss(), _random(*FLAT).softmax(-1)
    ),
    "CrossEntropyLoss(pixels)": _loss(nn.CrossEntropyLoss(), _whole(4, 2, 8, 8), shape=IMAGE),
    "NLLLoss": _loss(lambda x, y: nn.NLLLoss()(_log_softmax(x), y), _whole(6, 4)),
    "NLLLoss2d": _loss(
        lambda x, y: F.nll_loss(F.log_softmax(x, 1), y), _whole(4, 2, 8, 8), shape=IMAGE
    ),
    "PoissonNLLLoss": _loss(nn.PoissonNLLLoss(), _whole(6, *FLAT).float()),
    "PoissonNLLLoss(full)": _loss(
        nn.PoissonNLLLoss(full=True), _whole(6, *FLAT).float()
    ),
    "GaussianNLLLoss": _loss(
        lambda x, y: nn.GaussianNLLLoss()(x, y, x.exp()), _random(*FLAT)
    ),
    "GaussianNLLLoss(full)": _loss(
        lambda x, y: nn.GaussianNLLLoss(full=True)(x, y, y[:, :1].exp()), _random(*FLAT)
    ),
    "KLDivLoss": _loss(
        lambda x, y: nn.KLDivLoss(reduction="batchmean")(_log_softmax(x), y),
        _random(*FLAT).softmax(-1),
    ),
    "KLDivLoss(log)": _loss(
        lambda x, y: F.kl_div(_log_softmax(x), y, log_target=True), _random(*FLAT).log_softmax(-1)
    ),
    "BCELoss": _loss(lambda x, y: nn.BCELoss()(x.sigmoid(), y), _random(*FLAT).sigmoid()),
    "BCEWithLogitsLoss": _loss(
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(6)), _random(*FLAT).sigmoid()
    ),
    "MarginRankingLoss": _loss(
        lambda x, y: nn.MarginRankingLoss(0.5)(x[:, 0], x[:, 1], y), _sign(4)
    ),
    "HingeEmbeddingLoss": _loss(nn.HingeEmbeddingLoss(), _sign(*FLAT)),
    "MultiLabelMarginLoss": _loss(nn.MultiLabelMarginLoss(), _whole(6, *FLAT)),
    "SoftMarginLoss": _loss(nn.SoftMarginLoss(), _sign(*FLAT)),
    "MultiLabelSoftMarginLoss": _loss(
        nn.MultiLabelSoftMarginLoss(), (_random(*FLAT) > 0).float()
    ),
    "CosineEmbeddingLoss": _loss(
        lambda x, y: nn.CosineEmbeddingLoss(0.2)(x, x.flip(0), y), _sign(4)
    ),
    "MultiMarginLoss": _loss(nn.MultiMarginLoss(), _whole(6, 4)),
    "TripletMarginLoss": _loss(
        nn.TripletMarginLoss(), _random(*FLAT), _random(4, 6) + 1
    ),
    "TripletMarginLoss(swap)": _loss(
        nn.TripletMarginLoss(p=1, swap=True),
        _random(*FLAT), _random(4, 6) + 1,
    ),
    "TripletMarginWithDistanceLoss": _loss(
        nn.TripletMarginWithDistanceLoss(),
        _random(*FLAT), _random(4, 6) + 1,
    ),
    "CTCLoss": _loss(_ctc, 1 + _whole(5, 4, 2), shape=SEQUENCE),
    "InfoNCE": _loss(
        lambda x, y: F.cross_entropy(
            F.normalize(x) @ F.normalize(y).T / 0.1, torch.arange(x.shape[0])
        ),
        _random(*FLAT),
    ),
    "focal": _loss(
        lambda x, y: (
            (1 - torch.exp(-F.binary_cross_entropy_with_logits(x, y, reduction="none"))) ** 2
            * F.binary_cross_entropy_with_logits(x, y, reduction="none")
        ).mean(),
        (_random(*FLAT) > 0).float(),
    ),
    "dice": _loss(
        lambda x, y: 1 - 2 * (x.sigmoid() * y).sum() / (x.sigmoid().sum() + y.sum() + 1),
        (_random(*FLAT) > 0).float(),
    ),
    "pinball": _loss(lambda x, y: torch.max(0.9 * (y - x), -0.1 * (y - x)), _random(*FLAT)),
    "log_cosh": _loss(lambda x, y: torch.log(torch.cosh(x - y)), _random(*FLAT)),
    "Normal": _loss(lambda x, y: -D.Normal(x, x.exp()).log_prob(y), _random(*FLAT)),
    "LogNormal": _loss(lambda x, y: -D.LogNormal(x, x.exp()).log_prob(y), _random(*FLAT).exp()),
    "Bernoulli": _loss(
        lambda x, y: -D.Bernoulli(logits=x).log_prob(y), (_random(*FLAT) > 0).float()
    ),
    "Categorical": _loss(lambda x, y: -D.Categorical(logits=x).log_prob(y), _whole(6, 4)),
    "OneHotCategorical": _loss(
        lambda x, y: -D.OneHotCategorical(logits=x).log_prob(F.one_hot(y, 6)), _whole(6, 4)
    ),
    "Poisson": _loss(lambda x, y: -D.Poisson(x.exp()).log_prob(y), _whole(5, *FLAT).float()),
    "Exponential": _loss(lambda x, y: -D.Exponential(x.exp()).log_prob(y), _random(*FLAT).abs()),
    "Gamma": _loss(lambda x, y: -D.Gamma(x.exp(), x.exp()).log_prob(y), _random(*FLAT).exp()),
    "Beta": _loss(lambda x, y: -D.Beta(x.exp(), x.exp()).log_prob(y), _random(*FLAT).sigmoid()),
    "Dirichlet": _loss(lambda x, y: -D.Dirichlet(x.exp()).log_prob(y), _random(*FLAT).softmax(-1)),
    "StudentT": _loss(lambda x, y: -D.StudentT(x.exp(), x).log_prob(y), _random(*FLAT)),
    "Laplace": _loss(lambda x, y: -D.Laplace(x, x.exp()).log_prob(y), _random(*FLAT)),
    "Cauchy": _loss(lambda x, y: -D.Cauchy(x, x.exp()).log_prob(y), _random(*FLAT)),
    "Gumbel": _loss(lambda x, y: -D.Gumbel(x, x.exp()).log_prob(y), _random(*FLAT)),
    "VonMises": _loss(lambda x, y: -D.VonMises(x, x.exp()).log_prob(y), _random(*FLAT)),
    "NegativeBinomial": _loss(
        lambda x, y: -D.NegativeBinomial(x.exp(), logits=x).log_prob(y), _whole(5, *FLAT).float()
    ),
    "Weibull": _loss(
        lambda x, y: -D.Weibull(x.exp(), x.exp()).log_prob(y), _random(*FLAT).exp()
    ),
    "MultivariateNormal": _loss(
        lambda x, y: -D.MultivariateNormal(
            x, scale_tril=torch.diag_embed(x.exp())
        ).log_prob(y),
        _random(*FLAT),
    ),
    "MixtureSameFamily": _loss(
        lambda x, y: -D.MixtureSameFamily(
            D.Categorical(logits=x[:, :3]), D.Normal(x[:, 3:], 1.0)
        ).log_prob(y),
        _random(4),
    ),
    "TransformedDistribution": _loss(
        lambda x, y: -D.TransformedDistribution(
            D.Normal(x, 1.0), [D.AffineTransform(0.5, 2.0), D.TanhTransform()]
        ).log_prob(y),
        _random(*FLAT).tanh(),
    ),
    "kl_divergence": _loss(
        lambda x: D.kl_divergence(D.Normal(x, x.exp()), D.Normal(torch.zeros(6), 1.0))
    ),
    "entropy": _loss(lambda x: -D.Categorical(logits=x).entropy()),
}  # fmt: skip

CASES: Final = LAYERS | FUNCTIONS | LOSSES
