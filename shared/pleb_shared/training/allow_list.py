"""The allow-list: every ATen operator that a graph may call. No other code reaches a volunteer.

An operator belongs here if its result depends on its arguments alone, it checks its indices
itself, it reads no memory that was never written, and its output's size is known beforehand.
So there are no random operators (draws come from `training.drawing`), no `empty`, `resize_` or
`as_strided`, no `item`, `nonzero` or `masked_select`, and nothing that reads or writes files.
"""

from __future__ import annotations

from typing import Any, Final

import torch

__all__ = ["ALLOWED", "FACTORIES"]

# Elementwise arithmetic.
_ARITHMETIC: Final = """
    add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar sub_.Tensor rsub.Scalar
    mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar div.Tensor_mode
    div.Scalar_mode div_.Tensor div_.Scalar neg.default abs.default exp.default log.default
    log2.default log1p.default expm1.default sqrt.default rsqrt.default square.default
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar reciprocal.default sign.default sin.default
    cos.default tanh.default erf.default floor.default ceil.default round.default clamp.default
    clamp.Tensor clamp_min.default clamp_max.default clamp_.default maximum.default
    minimum.default lerp.Scalar lerp.Tensor addcmul.default remainder.Scalar remainder.Tensor
    floor_divide.default atan2.default
"""

# Comparisons and choices.
_LOGIC: Final = """
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor
    gt.Scalar ge.Tensor ge.Scalar logical_and.default logical_or.default logical_not.default
    bitwise_and.Tensor bitwise_or.Tensor bitwise_not.default __and__.Tensor __or__.Tensor
    isnan.default isinf.default isfinite.default where.self where.ScalarOther where.ScalarSelf
    where.Scalar masked_fill.Scalar masked_fill.Tensor masked_fill_.Scalar
"""

# Activations.
_ACTIVATIONS: Final = """
    relu.default relu_.default relu6.default relu6_.default leaky_relu.default
    leaky_relu_.default gelu.default silu.default silu_.default mish.default mish_.default
    elu.default elu_.default selu.default celu.default hardswish.default hardswish_.default
    hardsigmoid.default hardsigmoid_.default hardtanh.default hardtanh_.default sigmoid.default
    sigmoid_.default tanh_.default softplus.default softmax.int log_softmax.int
    log_sigmoid.default logsumexp.default prelu.default glu.default threshold.default
"""

# Products, convolutions, norms, pooling, recurrent layers, embeddings.
_LAYERS: Final = """
    linear.default matmul.default mm.default bmm.default addmm.default baddbmm.default
    mv.default dot.default outer.default einsum.default conv1d.default conv2d.default
    conv3d.default conv1d.padding conv2d.padding conv3d.padding conv_transpose1d.default
    conv_transpose2d.input layer_norm.default group_norm.default rms_norm.default
    batch_norm.default instance_norm.default linalg_vector_norm.default
    cosine_similarity.default max_pool1d.default max_pool2d.default max_pool3d.default
    avg_pool1d.default avg_pool2d.default avg_pool3d.default adaptive_avg_pool1d.default
    adaptive_avg_pool2d.default adaptive_avg_pool3d.default upsample_nearest2d.vec
    upsample_bilinear2d.vec pixel_shuffle.default embedding.default lstm.input gru.input
"""

# Losses.
_LOSSES: Final = """
    cross_entropy_loss.default nll_loss.default nll_loss_nd.default binary_cross_entropy.default
    binary_cross_entropy_with_logits.default mse_loss.default l1_loss.default
    smooth_l1_loss.default huber_loss.default kl_div.default
"""

# Reductions, orders, cumulative sums.
_REDUCTIONS: Final = """
    sum.default sum.dim_IntList mean.default mean.dim var.default var.dim var.correction
    std.default std.dim std.correction var_mean.correction amax.default amin.default max.default
    max.dim max.other min.default min.dim min.other argmax.default argmin.default prod.default
    all.default all.dim any.default any.dim topk.default sort.default argsort.default
    cumsum.default cumprod.default
"""

# Views and copies.
_SHAPES: Final = """
    view.default reshape.default permute.default transpose.int t.default flatten.using_ints
    unflatten.int squeeze.default squeeze.dim squeeze.dims unsqueeze.default expand.default
    expand_as.default view_as.default reshape_as.default broadcast_to.default repeat.default
    repeat_interleave.self_int cat.default stack.default split.Tensor split.sizes
    split_with_sizes.default chunk.default unbind.int select.int slice.Tensor diagonal.default
    unfold.default movedim.int movedim.intlist flip.default roll.default contiguous.default
    clone.default detach.default detach_.default alias.default lift_fresh_copy.default to.dtype
    type_as.default pad.default constant_pad_nd.default tril.default triu.default
    meshgrid.indexing index.Tensor index_select.default gather.default scatter.src scatter.value
    scatter_add.default index_add.default one_hot.default copy_.default fill_.Scalar
    zero_.default
"""

# New tensors; where they lie is not the graph's business.
_FACTORIES: Final = """
    arange.default arange.start arange.start_step full.default zeros.default ones.default
    scalar_tensor.default linspace.default eye.default
"""

# New tensors of the form of another.
_LIKES: Final = """
    full_like.default zeros_like.default ones_like.default new_zeros.default new_ones.default
    new_full.default
"""


def _operators(*groups: str) -> dict[str, Any]:
    """Return the overloads that the words of `groups` name, by the name that a graph uses."""
    operators = {}
    for word in " ".join(groups).split():
        packet, overload = word.split(".")
        operators[f"aten.{word}"] = getattr(getattr(torch.ops.aten, packet), overload)
    return operators


FACTORIES: Final = frozenset(_operators(_FACTORIES))
"""Names of the operators that get the device of the run."""

ALLOWED: Final = _operators(
    *(_ARITHMETIC, _LOGIC, _ACTIVATIONS, _LAYERS, _LOSSES, _REDUCTIONS, _SHAPES, _FACTORIES, _LIKES)
)
"""Operator by the name that a graph calls it by, such as `aten.linear.default`."""
