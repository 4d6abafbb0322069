"""Rules of layers: recurrent ones, norms, embeddings, dropout, attention."""

from __future__ import annotations

import math
from typing import Final

import torch

from pleb_shared.training.preconditions.rule import (
    Arguments,
    Rule,
    check_floats,
    first_problem,
    names_of,
    shape_of,
    whole_numbers,
    wrong_shape,
)

__all__ = [
    "ATTENTION",
    "BATCH_NORM",
    "DROPOUT",
    "EMBEDDING",
    "GROUP_NORM",
    "PRELU",
    "SHAPED_NORM",
    "recurrent",
]


def recurrent(gates: int) -> tuple[Rule, ...]:
    """Return the rules of `lstm.input` (4 gates) and `gru.input` (3).

    The kernels read every parameter as if it had the shape that input and state imply: for each
    layer and direction [gates * H, E], [gates * H, H], and twice [gates * H] with biases, where E
    is the width of the layer's input; states are [layers * directions, B, H].
    """

    def rule(arguments: Arguments) -> str:
        states = arguments["hx"] if gates == 4 else [arguments["hx"]]
        data = arguments["input"]
        if data.dim() != 3 or min(shape_of(data)) < 1 or len(states) != (2 if gates == 4 else 1):
            return "input must be [steps, batch, width], not empty, with one state for each kind"
        if any(state.dim() != 3 or state.shape[2] < 1 for state in states):
            return "each state must be [layers, batch, hidden]"
        batch = data.shape[0 if arguments["batch_first"] else 1]
        layers, directions = arguments["num_layers"], 2 if arguments["bidirectional"] else 1
        hidden = int(states[0].shape[2])
        for state in states:
            if not layers > 0 or shape_of(state) != [layers * directions, batch, hidden]:
                return (
                    f"a state has the shape {shape_of(state)}, "
                    f"not {[layers * directions, batch, hidden]}"
                )
        width, wanted = int(data.shape[2]), []
        for _ in range(layers):
            one = [[gates * hidden, width], [gates * hidden, hidden]]
            one += [[gates * hidden]] * (2 if arguments["has_biases"] else 0)
            wanted += one * directions
            width = hidden * directions
        found = [shape_of(parameter) for parameter in arguments["params"]]
        if found != wanted:
            return f"params have the shapes {found[:8]}, not {wanted[:8]}"
        return ""

    return (check_floats, rule)


def _shaped_norm(arguments: Arguments) -> str:
    """Input [.., *normalized_shape]; weight and bias have exactly that shape."""
    data, shape = arguments["input"], list(arguments["normalized_shape"])
    if not shape or shape_of(data)[-len(shape) :] != shape or min(shape) < 1:
        return f"normalized_shape {shape} is not the end of {shape_of(data)}"
    names = [name for name in ("weight", "bias") if name in arguments]
    return first_problem(*(wrong_shape(arguments, name, shape) for name in names))


SHAPED_NORM: Final[tuple[Rule, ...]] = (check_floats, _shaped_norm)


def _group_norm(arguments: Arguments) -> str:
    """Input [B, C, ..]; C is a multiple of the groups; weight and bias are [C]."""
    data, groups = arguments["input"], arguments["num_groups"]
    if data.dim() < 2 or min(shape_of(data)) < 1 or groups < 1 or data.shape[1] % groups:
        return f"input {shape_of(data)} cannot be split into {groups} groups of channels"
    channels = [int(data.shape[1])]
    return first_problem(*(wrong_shape(arguments, name, channels) for name in ("weight", "bias")))


GROUP_NORM: Final[tuple[Rule, ...]] = (check_floats, _group_norm)


def _batch_norm(arguments: Arguments) -> str:
    """Input [B, C, ..]; weight, bias, running mean and variance are [C]."""
    data = arguments["input"]
    if data.dim() < 2 or min(shape_of(data)) < 1:
        return f"input has the shape {shape_of(data)}: [batch, channels, ..] is needed"
    if (arguments["running_mean"] is None) != (arguments["running_var"] is None):
        return "running_mean and running_var belong together"
    channels = [int(data.shape[1])]
    names = ("weight", "bias", "running_mean", "running_var")
    return first_problem(*(wrong_shape(arguments, name, channels) for name in names))


BATCH_NORM: Final[tuple[Rule, ...]] = (check_floats, _batch_norm)


def _prelu(arguments: Arguments) -> str:
    """One weight for all channels, or one for each of self [B, C, ..]."""
    data, weight = arguments["self"], arguments["weight"]
    channels = int(data.shape[1]) if data.dim() > 1 else 1
    if weight.dim() > 1 or weight.numel() not in {1, channels}:
        return f"weight has the shape {shape_of(weight)}, not [1] or [{channels}]"
    return ""


PRELU: Final[tuple[Rule, ...]] = (check_floats, _prelu)


def _embedding(arguments: Arguments) -> str:
    """Weight [rows, width]; dense gradients only."""
    weight = arguments["weight"]
    if weight.dim() != 2 or not weight.dtype.is_floating_point or arguments["sparse"]:
        return "weight must be [rows, width], floating point, with dense gradients"
    if not -1 <= arguments["padding_idx"] < max(1, weight.shape[0]):
        return f"padding_idx {arguments['padding_idx']} is no row"
    return whole_numbers(arguments, "indices")


EMBEDDING: Final[tuple[Rule, ...]] = (_embedding,)


def _dropout(arguments: Arguments) -> str:
    """A probability, and floating point numbers; channels can be dropped of [B, C, ..]."""
    data, probability = arguments["x"], arguments["p"]
    if not data.dtype.is_floating_point or type(arguments["train"]) is not bool:
        return "its input must be floating point numbers"
    if type(probability) not in {int, float} or not 0 <= probability <= 1:
        return f"the probability is {probability}"
    return ""


DROPOUT: Final[tuple[Rule, ...]] = (_dropout,)


def _attention(arguments: Arguments) -> str:
    """Query [.., T, E], key [.., S, E], value [.., S, V], mask to be broadcast to [.., T, S]."""
    query, key, value = (shape_of(arguments[name]) for name in ("query", "key", "value"))
    types = {arguments[name].dtype for name in ("query", "key", "value")}
    if len(types) > 1 or not all(dtype.is_floating_point for dtype in types):
        return f"query, key and value must be floating point numbers, not {names_of(types)}"
    if len({len(query), len(key), len(value)}) > 1 or len(query) < 2:
        return "query, key and value must have as many dimensions, at least two"
    if min(*query, *key, *value) < 1 or query[-1] != key[-1] or key[-2] != value[-2]:
        return f"query {query}, key {key} and value {value} do not fit together"
    heads = arguments["enable_gqa"] and len(query) > 2
    if heads and (query[-3] % key[-3] or query[-3] % value[-3]):
        return "the query's heads must be a multiple of those of key and value"
    outer = -3 if heads else -2
    if not query[:outer] == key[:outer] == value[:outer]:
        return f"query {query}, key {key} and value {value} do not fit together"
    probability, scale = arguments["dropout_p"], arguments["scale"]
    if not 0 <= probability <= 1 or not (scale is None or math.isfinite(scale)):
        return f"dropout is {probability}, scale {scale}"
    return _mask(arguments, [*query[:-1], key[-2]])


def _mask(arguments: Arguments, wanted: list[int]) -> str:
    mask = arguments["attn_mask"]
    if mask is None:
        return ""
    shape = shape_of(mask)
    fits = zip(reversed(shape), reversed(wanted), strict=False)
    if not 2 <= len(shape) <= len(wanted) or any(have not in {1, want} for have, want in fits):
        return f"attn_mask {shape} cannot be broadcast to {wanted}"
    if mask.dtype not in {torch.bool, arguments["query"].dtype}:
        return f"attn_mask is {mask.dtype}"
    return ""


ATTENTION: Final[tuple[Rule, ...]] = (_attention,)
