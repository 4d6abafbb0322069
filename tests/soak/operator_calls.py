"""For every operator of the allow-list, calls that it accepts; fuzzing starts from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pleb_shared.protocol.graph import Dtype

Shape = tuple[int, ...]


@dataclass(frozen=True)
class T:
    """A tensor argument: floats of a normal distribution, or whole numbers below `below`."""

    shape: Shape = (3, 4)
    dtype: str = "float32"
    below: int = 5
    values: str = "usual"
    """usual, unit (between 0 and 1), positive, or hostile (NaN, ends of a type, out of range)."""
    layout: str = "plain"
    """plain, or a view: transposed, expanded, sliced."""


@dataclass(frozen=True)
class Call:
    """The arguments of one call."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def i64(*shape: int, below: int = 3) -> T:
    return T(shape, "int64", below)


def flag(*shape: int) -> T:
    return T(shape, "bool", 2)


X: Final = T()
UNIT: Final = T(values="unit")
"""Between 0 and 1, for losses of probabilities."""
N: Final = T((2, 4, 6, 6))
V: Final = T((4,))
V2: Final = T((2,))
N3: Final = T((1, 2, 4, 4, 4))


def _recurrent(gates: int, layers: int, *, both: bool, biases: bool) -> tuple[Any, ...]:
    width, hidden, directions = 6, 5, 2 if both else 1
    params: list[T] = []
    for _ in range(layers):
        one = [T((gates * hidden, width)), T((gates * hidden, hidden))]
        one += [T((gates * hidden,))] * (2 if biases else 0)
        params += one * directions
        width = hidden * directions
    state = T((layers * directions, 2, hidden))
    hx = [state, state] if gates == 4 else state
    return (T((7, 2, 6)), hx, params, biases, layers, 0.0, True, both, False)


_UNARY: Final = """
    neg abs exp log log2 log1p expm1 sqrt rsqrt square reciprocal sign sin cos tanh erf floor ceil
    round isnan isinf isfinite relu relu6 leaky_relu gelu silu mish elu selu celu hardswish
    hardsigmoid hardtanh sigmoid softplus log_sigmoid relu_ relu6_ leaky_relu_ silu_ mish_ elu_
    hardswish_ hardsigmoid_ hardtanh_ sigmoid_ tanh_ sum mean var std amax amin max min argmax
    argmin prod all any sort argsort squeeze acos acosh asin asinh atan atanh cosh sinh tan log10
    exp2 erfc erfinv lgamma digamma sinc frac trunc sgn nan_to_num logit deg2rad rad2deg
    special_i0e special_i1e special_i0 special_i1 special_entr special_log_ndtr special_erfcx i0
    isposinf isneginf signbit hardshrink softshrink median nansum nanmedian mode count_nonzero
    aminmax diag_embed contiguous clone detach detach_ alias
    lift_fresh_copy zero_ t zeros_like ones_like tril triu
"""
_BINARY: Final = """
    add.Tensor sub.Tensor mul.Tensor div.Tensor pow.Tensor_Tensor maximum.default minimum.default
    atan2.default eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor max.other min.other
    logical_and.default logical_or.default add_.Tensor sub_.Tensor mul_.Tensor div_.Tensor
    expand_as.default view_as.default reshape_as.default type_as.default copy_.default
    remainder.Tensor floor_divide.default fmod.Tensor hypot.default logaddexp.default
    logaddexp2.default xlogy.Tensor copysign.Tensor heaviside.default fmax.default fmin.default
    clamp_min.Tensor clamp_max.Tensor logical_xor.default
"""
_SCALAR: Final = """
    add.Scalar sub.Scalar rsub.Scalar mul.Scalar div.Scalar pow.Tensor_Scalar remainder.Scalar
    eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar add_.Scalar mul_.Scalar div_.Scalar
    clamp_min.default clamp_max.default fill_.Scalar full_like.default fmod.Scalar
    copysign.Scalar norm.Scalar
"""
_BY_DIMENSION: Final = """
    softmax.int log_softmax.int cumsum.default cumprod.default unbind.int sum.dim_IntList mean.dim
    var.dim var.correction std.dim std.correction var_mean.correction amax.default amin.default
    max.dim min.dim argmax.default argmin.default all.dim any.dim sort.default argsort.default
    squeeze.dim unsqueeze.default glu.default logsumexp.default flip.default cummax.default
    cummin.default logcumsumexp.default prod.dim_int all.dims any.dims median.dim nanmedian.dim
    mode.default nansum.default count_nonzero.dim_IntList std_mean.correction
"""
_LISTS: Final = """
    sum.dim_IntList mean.dim var.dim var.correction std.dim std.correction var_mean.correction
    amax.default amin.default logsumexp.default flip.default all.dims any.dims nansum.default
    count_nonzero.dim_IntList std_mean.correction
"""
_LOSSES: Final = (
    "mse_loss l1_loss smooth_l1_loss huber_loss kl_div binary_cross_entropy_with_logits"
)

_OTHERS: Final[dict[str, list[tuple[Any, ...]]]] = {
    "pow.Scalar": [(2, X)],
    "clamp.default": [(X, -1, 1), (T(dtype="int64"), 0, 3)],
    "clamp_.default": [(X, -1, 1)],
    "clamp.Tensor": [(X, X, X), (X, X)],
    "lerp.Scalar": [(X, X, 0.3)],
    "lerp.Tensor": [(X, X, X)],
    "addcmul.default": [(X, X, X)],
    "addcdiv.default": [(X, X, X)],
    "polygamma.default": [(2, X)],
    "bitwise_and.Scalar": [(i64(3, 4), 3)],
    "bitwise_or.Scalar": [(i64(3, 4), 3)],
    "bitwise_xor.Scalar": [(i64(3, 4), 3)],
    "bitwise_xor.Tensor": [(i64(3, 4), i64(4)), (flag(3, 4), flag(4))],
    "threshold_.default": [(X, 0.1, 0.0)],
    "norm.ScalarOpt_dim": [(X, 2, [1]), (X, None, [0, 1], True)],
    "renorm.default": [(X, 2, 0, 1.0)],
    "kthvalue.default": [(X, 2, 1)],
    "searchsorted.Tensor": [(V, X), (T((3, 2)), X), (i64(5), i64(3))],
    "bucketize.Tensor": [(X, V)],
    "trace.default": [(X,)],
    "select_scatter.default": [(X, V, 0, 1)],
    "slice_scatter.default": [(X, T((1, 4)), 0, 1, 2)],
    "diagonal_scatter.default": [(X, T((3,)))],
    "fill_.Tensor": [(X, T(()))],
    "index_copy.default": [(X, 0, i64(2), T((2, 4)))],
    "index_fill.int_Scalar": [(X, 0, i64(2), 1.5)],
    "index_put.default": [(X, [i64(2)], T((2, 4))), (X, [i64(2), i64(2)], V2, True)],
    "index_put_.default": [(X, [i64(2)], T((2, 4)))],
    "take.default": [(X, i64(2, 2))],
    "scatter_reduce.two": [
        (X, 1, i64(3, 2), X, "amax"),
        (X, 1, i64(3, 2), X, "mean"),
        (X, 0, i64(3, 4), X, "prod"),
    ],
    "eye.m": [(3, 4)],
    "tril_indices.default": [(3, 4)],
    "triu_indices.default": [(3, 4, 1)],
    "addmv.default": [(T((3,)), X, V)],
    "addbmm.default": [(T((3, 5)), T((2, 3, 4)), T((2, 4, 5)))],
    "conv_transpose3d.input": [(T((1, 2, 4, 4, 4)), T((2, 3, 2, 2, 2)), T((3,)), [2, 2, 2])],
    "im2col.default": [
        (N, [3, 3], [1, 1], [1, 1], [2, 2]),
        (T((4, 6, 6)), [2, 2], [1, 1], [0, 0], [1, 1]),
    ],
    "col2im.default": [(T((2, 12, 4)), [4, 4], [2, 2], [1, 1], [0, 0], [2, 2])],
    "max_pool2d_with_indices.default": [(N, [2, 2]), (N, [3, 3], [2, 2], [1, 1], [2, 2])],
    "max_pool3d_with_indices.default": [(T((1, 2, 4, 4, 4)), [2, 2, 2])],
    "adaptive_max_pool2d.default": [(N, [1, 1]), (N, [4, 3])],
    "adaptive_max_pool3d.default": [(T((1, 2, 4, 4, 4)), [2, 3, 1])],
    "upsample_nearest1d.vec": [(T((2, 4, 9)), None, [2.0]), (T((2, 4, 9)), [5], None)],
    "_upsample_nearest_exact1d.vec": [(T((2, 4, 9)), None, [2.0]), (T((2, 4, 9)), [5], None)],
    "upsample_linear1d.vec": [(T((2, 4, 9)), None, False, [2.0]), (T((2, 4, 9)), [5], True, None)],
    "upsample_bicubic2d.vec": [(N, None, False, [2.0, 1.5]), (N, [5, 9], True, None)],
    "_upsample_bilinear2d_aa.vec": [(N, None, False, [0.5, 1.5]), (N, [5, 9], True, None)],
    "_upsample_bicubic2d_aa.vec": [(N, None, False, [0.5, 1.5]), (N, [5, 9], True, None)],
    "_upsample_nearest_exact2d.vec": [(N, None, [2.0, 1.5]), (N, [5, 9], None)],
    "upsample_nearest3d.vec": [(N3, None, [2.0, 1.5, 1.0]), (N3, [5, 2, 3], None)],
    "_upsample_nearest_exact3d.vec": [(N3, None, [2.0, 1.5, 1.0]), (N3, [5, 2, 3], None)],
    "upsample_trilinear3d.vec": [(N3, None, False, [2.0, 1.5, 1.0]), (N3, [5, 2, 3], True, None)],
    "grid_sampler_2d.default": [
        (N, T((2, 3, 5, 2)), 0, 0, False),
        (N, T((2, 3, 5, 2), values="hostile"), 1, 1, True),
        (N, T((2, 3, 5, 2), values="hostile"), 2, 2, False),
    ],
    "grid_sampler_3d.default": [
        (N3, T((1, 3, 2, 2, 3)), 0, 0, False),
        (N3, T((1, 3, 2, 2, 3), values="hostile"), 1, 2, True),
    ],
    "pixel_unshuffle.default": [(N, 2)],
    "_cdist_forward.default": [(X, T((5, 4)), 2.0, None), (T((2, 3, 4)), T((2, 5, 4)), 1.0, 2)],
    "_pdist_forward.default": [(X,), (X, 1.0)],
    "multi_margin_loss.default": [(X, i64(3)), (X, i64(3), 2, 0.5, V, 2)],
    "multilabel_margin_loss_forward.default": [(X, i64(3, 4), 1)],
    "linalg_cholesky_ex.default": [(T((4, 4)),), (T((2, 3, 3)),)],
    "linalg_inv_ex.default": [(T((4, 4)),), (T((2, 3, 3)),)],
    "linalg_matrix_exp.default": [(T((4, 4)),), (T((2, 3, 3)),)],
    "_linalg_det.default": [(T((4, 4)),), (T((2, 3, 3)),)],
    "_linalg_slogdet.default": [(T((4, 4)),), (T((2, 3, 3)),)],
    "_linalg_solve_ex.default": [(T((4, 4)), T((4, 2))), (T((2, 3, 3)), T((2, 3)))],
    "linalg_cross.default": [(T((4, 3)), T((4, 3)))],
    "linalg_householder_product.default": [(T((4, 3)), T((3,)))],
    "bitwise_and.Tensor": [(i64(3, 4), i64(3, 4)), (flag(3, 4), flag(3, 4))],
    "bitwise_or.Tensor": [(i64(3, 4), i64(4))],
    "bitwise_not.default": [(flag(3, 4),)],
    "logical_not.default": [(X,)],
    "__and__.Tensor": [(flag(3, 4), flag(4))],
    "__or__.Tensor": [(flag(3, 4), flag(4))],
    "where.self": [(flag(3, 4), X, X)],
    "where.ScalarOther": [(flag(3, 4), X, 0.0)],
    "where.ScalarSelf": [(flag(3, 4), 0.0, X)],
    "where.Scalar": [(flag(3, 4), 0.0, 1.0)],
    "masked_fill.Scalar": [(X, flag(3, 4), 0.0)],
    "masked_fill.Tensor": [(X, flag(3, 4), T(()))],
    "masked_fill_.Scalar": [(X, flag(3, 4), 0.0)],
    "threshold.default": [(X, 0.1, 0.0)],
    "prelu.default": [(N, V), (N, T((1,)))],
    "linear.default": [(X, T((5, 4)), T((5,))), (X, T((5, 4)))],
    "matmul.default": [(X, T((4, 5))), (T((2, 3, 4)), T((4,)))],
    "mm.default": [(X, T((4, 5)))],
    "bmm.default": [(T((2, 3, 4)), T((2, 4, 5)))],
    "addmm.default": [(T((5,)), X, T((4, 5)))],
    "baddbmm.default": [(T((2, 3, 5)), T((2, 3, 4)), T((2, 4, 5)))],
    "mv.default": [(X, V)],
    "dot.default": [(V, V)],
    "outer.default": [(V, T((3,)))],
    "einsum.default": [("ij,jk->ik", [X, T((4, 5))]), ("bij,bjk", [T((2, 3, 4)), T((2, 4, 5))])],
    "conv1d.default": [(T((2, 4, 9)), T((6, 2, 3)), T((6,)), [2], [1], [1], 2)],
    "conv2d.default": [
        (N, T((6, 4, 3, 3)), T((6,)), [1, 1], [1, 1], [1, 1], 1),
        (N, T((4, 1, 3, 3)), None, [2, 1], [0, 2], [2, 1], 4),
    ],
    "conv3d.default": [(T((1, 2, 4, 4, 4)), T((3, 2, 2, 2, 2)), T((3,)))],
    "conv1d.padding": [(T((2, 4, 9)), T((6, 4, 3)), None, [1], "same")],
    "conv2d.padding": [(N, T((6, 4, 3, 3)), T((6,)), [1, 1], "same")],
    "conv3d.padding": [(T((1, 2, 4, 4, 4)), T((3, 2, 2, 2, 2)), None, [1, 1, 1], "valid")],
    "conv_transpose1d.default": [(T((2, 4, 5)), T((4, 3, 3)), T((6,)), [2], [1], [1], 2, [1])],
    "conv_transpose2d.input": [(N, T((4, 3, 3, 3)), T((3,)), [2, 2], [1, 1], [1, 1], 1, [1, 1])],
    "layer_norm.default": [(X, [4], V, V), (N, [6, 6], None, None)],
    "rms_norm.default": [(X, [4], V), (X, [4])],
    "group_norm.default": [(N, 2, V, V)],
    "batch_norm.default": [
        (N, V, V, V, T((4,), values="unit"), True, 0.1, 1e-5, False),
        (N, V, V, V, T((4,), values="unit"), False, 0.1, 1e-5, False),
        (X, None, None, None, None, True, 0.1, 1e-5, False),
    ],
    "instance_norm.default": [(N, V, V, None, None, True, 0.1, 1e-5, False)],
    "linalg_vector_norm.default": [(X,), (X, 3, [1])],
    "cosine_similarity.default": [(X, X, 1)],
    "max_pool1d.default": [(T((2, 4, 9)), [3], [2], [1])],
    "max_pool2d.default": [(N, [2, 2]), (N, [3, 3], [2, 2], [1, 1], [2, 2])],
    "max_pool3d.default": [(T((1, 2, 4, 4, 4)), [2, 2, 2])],
    "avg_pool1d.default": [(T((2, 4, 9)), [3], [2], [1])],
    "avg_pool2d.default": [(N, [2, 2]), (N, [3, 3], [2, 2], [1, 1], True, False, 5)],
    "avg_pool3d.default": [(T((1, 2, 4, 4, 4)), [2, 2, 2])],
    "adaptive_avg_pool1d.default": [(T((2, 4, 9)), [4])],
    "adaptive_avg_pool2d.default": [(N, [1, 1]), (N, [4, 3])],
    "adaptive_avg_pool3d.default": [(T((1, 2, 4, 4, 4)), [2, 3, 1])],
    "upsample_nearest2d.vec": [(N, None, [2.0, 1.5]), (N, [5, 9], None)],
    "upsample_bilinear2d.vec": [(N, None, False, [2.0, 1.5]), (N, [5, 9], True, None)],
    "pixel_shuffle.default": [(N, 2)],
    "embedding.default": [(X, i64(2, 5)), (X, i64(5), 1, True)],
    "lstm.input": [
        _recurrent(4, 1, both=False, biases=True),
        _recurrent(4, 2, both=True, biases=False),
    ],
    "gru.input": [
        _recurrent(3, 1, both=False, biases=True),
        _recurrent(3, 2, both=True, biases=True),
    ],
    "cross_entropy_loss.default": [
        (X, i64(3), V, 1, -100, 0.1),
        (N, i64(2, 6, 6)),
        (X, UNIT),
        (X, i64(3), V, 0),
    ],
    "nll_loss.default": [(X, i64(3), V)],
    "nll_loss_nd.default": [(N, i64(2, 6, 6), V), (X, i64(3))],
    "binary_cross_entropy.default": [(UNIT, UNIT), (UNIT, UNIT, UNIT, 2)],
    "topk.default": [(X, 2), (X, 3, 0)],
    "permute.default": [(N, [3, 0, 2, 1])],
    "transpose.int": [(N, 1, 3)],
    "flatten.using_ints": [(N, 1)],
    "unflatten.int": [(X, 1, [2, -1])],
    "squeeze.dims": [(T((3, 1, 4, 1)), [1, 3])],
    "view.default": [(X, [2, 6]), (X, [-1])],
    "reshape.default": [(X, [2, 6]), (X, [4, -1])],
    "expand.default": [(T((3, 1)), [2, 3, 4])],
    "broadcast_to.default": [(T((3, 1)), [2, 3, 4])],
    "repeat.default": [(X, [2, 1, 3])],
    "repeat_interleave.self_int": [(X, 3, 1)],
    "cat.default": [([X, X, T((1, 4))],), ([X, X], 1)],
    "stack.default": [([X, X], 1)],
    "split.Tensor": [(X, 2, 1)],
    "split.sizes": [(X, [1, 3], 1)],
    "split_with_sizes.default": [(X, [1, 3], 1)],
    "chunk.default": [(X, 3, 1)],
    "select.int": [(X, 1, -1)],
    "slice.Tensor": [(X, 1, 0, 2**63 - 1), (X, 0, 1, 3, 2)],
    "diagonal.default": [(X, 1), (N, -1, 3, 2)],
    "unfold.default": [(X, 1, 2, 2)],
    "movedim.int": [(N, 0, 3)],
    "movedim.intlist": [(N, [0, 1], [2, 0])],
    "roll.default": [(X, [1, -1], [0, 1]), (X, [5])],
    "to.dtype": [(X, Dtype(name="float64")), (X, Dtype(name="int32"))],
    "pad.default": [(N, [1, 2], "constant", 0.5), (N, [1, 2, 0, 1], "reflect")],
    "constant_pad_nd.default": [(X, [1, -1, 2, 0], 1.0)],
    "index.Tensor": [(X, [i64(2), None]), (N, [None, i64(2, 1), i64(3)])],
    "index_select.default": [(X, 1, i64(6))],
    "index_add.default": [(X, 0, i64(5), T((5, 4)))],
    "gather.default": [(X, 1, i64(3, 2)), (X, 0, i64(5, 4))],
    "scatter.src": [(X, 1, i64(3, 2), X)],
    "scatter.value": [(X, 1, i64(3, 2), 1.0)],
    "scatter_add.default": [(X, 0, i64(2, 4), X)],
    "one_hot.default": [(i64(3, 4), 5)],
    "tril.default": [(X, 1)],
    "triu.default": [(N, -1)],
    "arange.default": [(5,)],
    "arange.start": [(1, 5.5)],
    "arange.start_step": [(5, 0, -2)],
    "full.default": [([2, 3], 1.5)],
    "zeros.default": [([2, 3],)],
    "ones.default": [([2, 3],)],
    "scalar_tensor.default": [(1.5,)],
    "linspace.default": [(0, 1, 5)],
    "eye.default": [(4,)],
    "new_zeros.default": [(X, [2, 3])],
    "new_ones.default": [(X, [2, 3])],
    "new_full.default": [(X, [2, 3], 2.5)],
    "dropout.default": [(X, 0.5, True)],
    "feature_dropout.default": [(N, 0.5, True)],
    "rand.default": [([2, 3],), ([3], Dtype(name="float16"))],
    "rand_like.default": [(X,)],
    "randn.default": [([2, 3],), ([3], Dtype(name="float64"))],
    "randn_like.default": [(X,)],
    "randint.default": [(5, [2, 3])],
    "randint.low": [(-2, 5, [2, 3])],
    "randperm.default": [(5,)],
    "bernoulli.default": [(UNIT,)],
    "exponential.default": [(X, 2.0)],
    "multinomial.default": [(UNIT, 2), (T((4,), values="unit"), 7, True)],
    "scaled_dot_product_attention.default": [
        (T((2, 2, 5, 8)), T((2, 2, 7, 8)), T((2, 2, 7, 8))),
        (T((2, 2, 5, 8)), T((2, 2, 5, 8)), T((2, 2, 5, 8)), None, 0.0, True),
        (T((2, 2, 5, 8)), T((2, 2, 7, 8)), T((2, 2, 7, 3)), T((5, 7)), 0.1),
        (T((2, 2, 5, 8)), T((2, 2, 7, 8)), T((2, 2, 7, 8)), flag(2, 1, 5, 7)),
    ],
}  # fmt: skip


def _calls() -> dict[str, list[Call]]:
    """Return the calls by operator."""
    found: dict[str, list[tuple[Any, ...]]] = {}

    def add(name: str, *args: tuple[Any, ...]) -> None:
        found.setdefault(f"aten.{name}", []).extend(args)

    for name in _UNARY.split():
        add(f"{name}.default", (X,))
    for name in _BINARY.split():
        add(name, (X, X))
    for name in _SCALAR.split():
        add(name, (X, 2))
    for name in _BY_DIMENSION.split():
        add(name, (X, [1] if name in _LISTS.split() else 1))
    for name in _LOSSES.split():
        add(f"{name}.default", (X, X), (X, X, X if "binary" in name else 2))
    for name, arguments in _OTHERS.items():
        add(name, *arguments)
    calls = {op: [Call(op, args) for args in many] for op, many in found.items()}

    def also(name: str, *args: Any, **kwargs: Any) -> None:
        calls.setdefault(f"aten.{name}", []).append(Call(f"aten.{name}", args, kwargs))

    whole = (T(dtype="int64", below=9), T(dtype="int64", values="positive"))
    also("div.Tensor_mode", X, X, rounding_mode="floor")
    also("div.Tensor_mode", *whole, rounding_mode="trunc")
    also("div.Scalar_mode", X, 2, rounding_mode="floor")
    also("floor_divide.default", *whole)
    also("remainder.Tensor", *whole)
    also("fmod.Tensor", *whole)
    also("scatter_reduce.two", X, 0, i64(3, 4), X, "sum", include_self=False)
    also("soft_margin_loss.default", X, X)
    also("linalg_solve_triangular.default", T((4, 4)), T((4, 2)), upper=True)
    also("linalg_solve_triangular.default", T((4, 4)), T((2, 4)), upper=False, left=False)
    also("searchsorted.Tensor", V, X, right=True)
    also("aminmax.default", X, dim=1)
    also("meshgrid.indexing", [V, V], indexing="ij")
    for name in ("sum.default", "mean.default", "prod.default"):
        also(name, X, dtype=Dtype(name="float64"))
    return calls


CALLS: Final = _calls()
