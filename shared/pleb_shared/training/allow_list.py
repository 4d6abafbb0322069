"""The allow-list: every ATen operator that a graph may call. No other code reaches a volunteer.

An operator belongs here if its result depends on its arguments alone, its kernel compares indices
with sizes, it reads no memory that was never written, and its output's size is known beforehand.
What else its kernel takes for granted is stated beside its name (`training.preconditions`).
So there are no random operators (draws come from `training.drawing`), no `empty`, `resize_` or
`as_strided`, no `item`, `nonzero` or `masked_select`, and nothing that reads or writes files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from pleb_shared.training.preconditions import (
    algebra,
    indices,
    layers,
    losses,
    rule,
    shapes,
    windows,
)

if TYPE_CHECKING:
    from pleb_shared.training.preconditions.rule import Rule

__all__ = ["ALLOWED", "FACTORIES", "Allowed"]


class Allowed(NamedTuple):
    """An ATen overload, and what must hold before it runs."""

    call: Any
    rules: tuple[Rule, ...]


_ALLOWED: Final[tuple[tuple[str, tuple[Rule, ...]], ...]] = (
    # Elementwise arithmetic.
    ("""
        add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar sub_.Tensor rsub.Scalar
        mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar div_.Tensor div_.Scalar
        neg.default abs.default exp.default log.default log2.default log1p.default expm1.default
        sqrt.default rsqrt.default square.default pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar
        reciprocal.default sign.default sin.default cos.default tanh.default erf.default
        floor.default ceil.default round.default clamp.default clamp.Tensor clamp_min.default
        clamp_max.default clamp_.default maximum.default minimum.default lerp.Scalar lerp.Tensor
        addcmul.default addcdiv.default atan2.default acos.default acosh.default asin.default
        asinh.default atan.default atanh.default cosh.default sinh.default tan.default
        log10.default exp2.default erfc.default erfinv.default lgamma.default digamma.default
        polygamma.default sinc.default frac.default trunc.default sgn.default hypot.default
        logaddexp.default logaddexp2.default xlogy.Tensor copysign.Tensor copysign.Scalar
        heaviside.default fmax.default fmin.default nan_to_num.default logit.default deg2rad.default
        rad2deg.default clamp_min.Tensor clamp_max.Tensor special_i0e.default special_i1e.default
        special_i0.default special_i1.default special_entr.default special_log_ndtr.default
        special_erfcx.default i0.default
     """, rule.NOTHING),
    # Whole numbers are divided by our own code (`operators`): kernels trap on -2^63 / -1.
    ("""
        div.Tensor_mode div.Scalar_mode remainder.Scalar remainder.Tensor floor_divide.default
        fmod.Scalar fmod.Tensor
     """, rule.NOTHING),
    # Comparisons and choices.
    ("""
        eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor
        gt.Scalar ge.Tensor ge.Scalar logical_and.default logical_or.default logical_not.default
        bitwise_and.Tensor bitwise_or.Tensor bitwise_not.default __and__.Tensor __or__.Tensor
        bitwise_and.Scalar bitwise_or.Scalar bitwise_xor.Tensor bitwise_xor.Scalar
        logical_xor.default isposinf.default isneginf.default signbit.default
        isnan.default isinf.default isfinite.default where.self where.ScalarOther
        where.ScalarSelf where.Scalar masked_fill.Scalar masked_fill.Tensor masked_fill_.Scalar
     """, rule.NOTHING),
    # Activations.
    ("""
        relu.default relu_.default relu6.default relu6_.default leaky_relu.default
        leaky_relu_.default gelu.default silu.default silu_.default mish.default mish_.default
        elu.default elu_.default selu.default celu.default hardswish.default hardswish_.default
        hardsigmoid.default hardsigmoid_.default hardtanh.default hardtanh_.default
        sigmoid.default sigmoid_.default tanh_.default softplus.default softmax.int
        log_softmax.int log_sigmoid.default logsumexp.default glu.default threshold.default
        threshold_.default hardshrink.default softshrink.default
     """, rule.NOTHING),
    ("prelu.default", layers.PRELU),
    # Products.
    ("""
        linear.default matmul.default mm.default bmm.default addmm.default baddbmm.default
        mv.default dot.default outer.default addmv.default addbmm.default
     """, algebra.PRODUCT),
    ("einsum.default", algebra.EINSUM),
    # Convolutions, norms, windows.pooling, layers.recurrent layers, embeddings.
    ("conv1d.default conv1d.padding", windows.convolution(1)),
    ("conv2d.default conv2d.padding", windows.convolution(2)),
    ("conv3d.default conv3d.padding", windows.convolution(3)),
    ("conv_transpose1d.default", windows.transposed_convolution(1)),
    ("conv_transpose2d.input", windows.transposed_convolution(2)),
    ("conv_transpose3d.input", windows.transposed_convolution(3)),
    ("im2col.default", windows.WINDOWS),
    ("col2im.default", windows.FOLD),
    ("layer_norm.default rms_norm.default", layers.SHAPED_NORM),
    ("group_norm.default", layers.GROUP_NORM),
    ("batch_norm.default instance_norm.default", layers.BATCH_NORM),
    ("linalg_vector_norm.default renorm.default cosine_similarity.default", rule.FLOATS),
    ("max_pool1d.default avg_pool1d.default", windows.pooling(1)),
    ("max_pool2d.default avg_pool2d.default max_pool2d_with_indices.default", windows.pooling(2)),
    ("max_pool3d.default avg_pool3d.default max_pool3d_with_indices.default", windows.pooling(3)),
    ("""
        adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default
        adaptive_max_pool2d.default adaptive_max_pool3d.default
     """, windows.ADAPTIVE),
    ("""
        upsample_nearest1d.vec upsample_linear1d.vec _upsample_nearest_exact1d.vec
     """, windows.upsampling(1)),
    ("""
        upsample_nearest2d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
        _upsample_nearest_exact2d.vec _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec
     """, windows.upsampling(2)),
    ("upsample_nearest3d.vec upsample_trilinear3d.vec _upsample_nearest_exact3d.vec",
     windows.upsampling(3)),
    ("grid_sampler_2d.default", windows.grid_sampling(2)),
    ("grid_sampler_3d.default", windows.grid_sampling(3)),
    ("pixel_shuffle.default pixel_unshuffle.default", rule.NOTHING),
    ("_cdist_forward.default", algebra.CDIST),
    ("_pdist_forward.default", algebra.PDIST),
    ("embedding.default", layers.EMBEDDING),
    ("lstm.input", layers.recurrent(4)),
    ("gru.input", layers.recurrent(3)),
    # Losses.
    ("cross_entropy_loss.default nll_loss.default nll_loss_nd.default", losses.CLASSES),
    ("""
        binary_cross_entropy.default binary_cross_entropy_with_logits.default mse_loss.default
        l1_loss.default smooth_l1_loss.default huber_loss.default kl_div.default
     """, losses.LOSS),
    ("multi_margin_loss.default", losses.MARGIN),
    ("multilabel_margin_loss_forward.default", losses.LABEL_MARGIN),
    ("soft_margin_loss.default", losses.LOSS),
    # Linear algebra, whose kernels take square matrices of the shapes that torch checks.
    ("""
        linalg_cholesky_ex.default linalg_inv_ex.default linalg_matrix_exp.default
        _linalg_det.default _linalg_slogdet.default
     """, algebra.SQUARE),
    ("_linalg_solve_ex.default linalg_solve_triangular.default", algebra.SOLVE),
    ("linalg_cross.default", rule.FLOATS),
    ("linalg_householder_product.default", algebra.HOUSEHOLDER),
    # Reductions, orders, cumulative sums.
    ("""
        sum.default sum.dim_IntList mean.default mean.dim var.default var.dim var.correction
        std.default std.dim std.correction var_mean.correction amax.default amin.default
        max.default max.dim max.other min.default min.dim min.other argmax.default argmin.default
        prod.default all.default all.dim any.default any.dim sort.default argsort.default
        cumsum.default cumprod.default cummax.default cummin.default logcumsumexp.default
        prod.dim_int all.dims any.dims aminmax.default median.default median.dim nansum.default
        nanmedian.default nanmedian.dim mode.default count_nonzero.default count_nonzero.dim_IntList
        std_mean.correction norm.Scalar norm.ScalarOpt_dim
     """, rule.NOTHING),
    ("kthvalue.default", rule.COUNTS),
    ("searchsorted.Tensor bucketize.Tensor", indices.SORTED),
    ("topk.default", rule.COUNTS),
    # Views and copies.
    ("""
        permute.default transpose.int t.default flatten.using_ints squeeze.default squeeze.dim
        squeeze.dims unsqueeze.default expand_as.default view_as.default reshape_as.default
        cat.default stack.default unbind.int select.int diagonal.default movedim.int
        movedim.intlist flip.default roll.default contiguous.default clone.default detach.default
        detach_.default alias.default lift_fresh_copy.default to.dtype type_as.default
        tril.default triu.default meshgrid.indexing copy_.default fill_.Scalar fill_.Tensor
        zero_.default diag_embed.default trace.default select_scatter.default slice_scatter.default
        diagonal_scatter.default
     """, rule.NOTHING),
    # A size of -1 stands for what is left, which torch computes and checks.
    ("""
        view.default reshape.default unflatten.int expand.default broadcast_to.default
     """, rule.NOTHING),
    ("""
        repeat.default repeat_interleave.self_int split.Tensor split.sizes
        split_with_sizes.default chunk.default
     """, rule.COUNTS),
    ("slice.Tensor", shapes.SLICE),
    ("unfold.default", shapes.UNFOLD),
    ("pad.default constant_pad_nd.default", shapes.PADDING),
    # Indices, which the kernels compare with the sizes when they run.
    ("index.Tensor", indices.INDEX),
    ("index_select.default", indices.INDEX_SELECT),
    ("index_add.default index_copy.default", indices.INDEX_ADD),
    ("index_fill.int_Scalar", indices.INDEX_SELECT),
    ("index_put.default index_put_.default", indices.INDEX_PUT),
    ("take.default", indices.TAKE),
    ("gather.default", indices.GATHER),
    ("scatter.src scatter.value scatter_add.default scatter_reduce.two", indices.SCATTER),
    ("one_hot.default", indices.ONE_HOT),
    # New tensors of the form of another.
    ("""
        full_like.default zeros_like.default ones_like.default new_zeros.default new_ones.default
        new_full.default
     """, rule.COUNTS),
)  # fmt: skip
"""Names of operators with what must hold before each of them runs. A new operator needs both."""

_FACTORIES: Final[tuple[tuple[str, tuple[Rule, ...]], ...]] = (
    ("""
        arange.default arange.start arange.start_step full.default zeros.default ones.default
        scalar_tensor.default linspace.default eye.default eye.m tril_indices.default
        triu_indices.default
     """, rule.COUNTS),
)  # fmt: skip
"""New tensors; where they lie is not the graph's business."""


def _operators(table: tuple[tuple[str, tuple[Rule, ...]], ...]) -> dict[str, Allowed]:
    """Return the overloads that the words of `table` name, by the name that a graph uses."""
    operators: dict[str, Allowed] = {}
    for words, rules in table:
        for word in words.split():
            packet, overload = word.split(".")
            call = getattr(getattr(torch.ops.aten, packet), overload)
            operators[f"aten.{word}"] = Allowed(call, rules)
    return operators


FACTORIES: Final = frozenset(_operators(_FACTORIES))
"""Names of the operators that get the device of the run."""

ALLOWED: Final = _operators(_ALLOWED + _FACTORIES)
"""Operator by the name that a graph calls it by, such as `aten.linear.default`."""
