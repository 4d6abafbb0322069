"""What torch's own messages mean in a researcher's code, and what to write instead: a table."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BRANCHES", "HIGHER_DERIVATIVES", "ROW_CHOICE", "sentence"]

BRANCHES: Final = (
    "`if`, `assert`, `while`, `range()`, `int()`, `float()` and `.item()` must not depend on a "
    "tensor's values, which differ from batch to batch: use torch.where(condition, a, b) instead "
    "of an `if`, and leave an `assert` out"
)
ROW_CHOICE: Final = (
    "choosing entries by their values gives a tensor of another length for every batch: keep all "
    "entries and multiply by the mask, as (values * mask).sum() / mask.sum(), or use torch.where "
    "(for labels: ignore_index)"
)
HIGHER_DERIVATIVES: Final = (
    "derivatives inside loss() (as physics-informed networks need) cannot be trained here: the "
    "graph has forward operators only, and volunteers take one gradient of it; finite differences "
    "of the model's outputs work instead"
)

_LABELS: Final = 'write .long(), as in cross_entropy(scores, batch["y"].long())'
_MEANINGS: Final = tuple(
    (re.compile(pattern, re.DOTALL), words)
    for pattern, words in (
        # labels
        (
            r"Target (?P<label>-?\d+) is out of bounds",
            (
                "a label is {label}, but labels go from 0 to the number of scores less one: make "
                "the last layer that wide, or number the classes from 0"
            ),
        ),
        (
            r"Class values must be (smaller than num_classes|non-negative)",
            (
                "one_hot() got a label that is not between 0 and num_classes - 1: raise "
                "num_classes, or number the classes from 0"
            ),
        ),
        (r"expected target dtype to be Long or Byte", f"labels must be int64: {_LABELS}"),
        (r"expected scalar type Long but found", f"labels must be int64: {_LABELS}"),
        (r"target is torch\.\w+, not int64", f"labels must be int64: {_LABELS}"),
        (
            r"0D or 1D target tensor expected",
            (
                "the labels have a dimension too many: write batch[...].squeeze(1), or, where "
                "they are shares of classes, give them the shape of the scores"
            ),
        ),
        (
            r"Expected input batch_size \((?P<a>\d+)\) to match target batch_size \((?P<b>\d+)\)",
            (
                "there are {a} rows of scores and {b} labels: flatten both alike, as "
                "scores.flatten(0, 1) and labels.flatten()"
            ),
        ),
        (
            (
                r"(?:Using a target size|Target size) \(torch.Size\((?P<b>\[.*?\])\)\).*?input "
                r"size \(torch.Size\((?P<a>\[.*?\])\)\)"
            ),
            (
                "predictions of shape {a} and targets of shape {b} do not match: write "
                "predictions.squeeze(1), or targets.unsqueeze(1)"
            ),
        ),
        (
            r"result type (Float|Double) can't be cast to the desired output type",
            'the targets must be float32 here: write batch["y"].float()',
        ),
        (
            r"all elements of input should be between 0 and 1",
            "binary_cross_entropy wants probabilities: use binary_cross_entropy_with_logits",
        ),
        # dtypes
        (
            r"mat1 and mat2 must have the same dtype, but got (?P<a>\w+) and (?P<b>\w+)",
            "a layer of {b} numbers got {a} ones: write .float() after the input",
        ),
        (
            r"Input type \((?P<a>[\w ]+)\) and bias type \((?P<b>[\w ]+)\)",
            (
                "a layer of {b} numbers got {a} ones: write .float() after the input (for bytes "
                "of an image: .float() / 255)"
            ),
        ),
        (
            r"Expected tensor for argument #1 'indices'",
            "an embedding looks up whole numbers: write .long() after the input",
        ),
        (
            (
                r"(not implemented for '(Long|Int|Bool|Byte)'|could not infer output dtype|"
                r"only (Tensors of )?floating point)"
            ),
            "this needs decimal numbers: write .float() first",
        ),
        # shapes
        (
            (
                r"mat1 and mat2 shapes cannot be multiplied \((?P<a>\d+)x(?P<b>\d+) and "
                r"(?P<c>\d+)x(?P<d>\d+)\)"
            ),
            (
                "a layer (or matrix) for {c} numbers per row got {b}: make it for {b}, as "
                "nn.Linear({b}, {d}), or flatten the input with .flatten(1)"
            ),
        ),
        (
            (
                r"weight of size \[(?P<out>\d+), (?P<want>\d+).*?to have \d+ channels, but got "
                r"(?P<got>\d+)"
            ),
            (
                "a convolution for {want} channels got {got}: its input is [batch, channels, "
                "height, width]; add a channel with .unsqueeze(1), or change its in_channels"
            ),
        ),
        (
            r"Expected .*? input to (?P<layer>conv\dd), but got input of size: (?P<a>\[.*?\])",
            "{layer} takes [batch, channels, ...], not {a}: add the channel with .unsqueeze(1)",
        ),
        (
            r"Kernel size can't be greater than actual input size",
            (
                "the input is smaller than the kernel here: use a smaller kernel, padding, or "
                "fewer pooling layers before it"
            ),
        ),
        (
            r"index out of range in self",
            (
                "an embedding has too few rows for the largest number in its input: raise "
                "num_embeddings"
            ),
        ),
        (
            (
                r"The size of tensor a \((?P<a>\d+)\) must match the size of tensor b "
                r"\((?P<b>\d+)\) at non-singleton dimension (?P<d>\d+)"
            ),
            (
                "tensors with {a} and {b} entries in dimension {d} do not fit together: look at "
                "their .shape, and use .unsqueeze() or .transpose()"
            ),
        ),
        (
            r"Sizes of tensors must match except in dimension (?P<d>\d+)",
            (
                "cat() along dimension {d} wants tensors that are equal in all other dimensions: "
                "use .flatten(1) or .expand() first"
            ),
        ),
        (
            r"shape '(?P<shape>.*?)' is invalid for input of size (?P<n>\d+)",
            (
                "{n} numbers do not fit into the shape {shape}: write -1 for one dimension, or "
                ".flatten(1)"
            ),
        ),
        (
            r"view size is not compatible with input tensor's size and stride",
            "these numbers are not side by side in memory: use .reshape() instead of .view()",
        ),
        (
            r"Expected more than 1 value per channel when training",
            "BatchNorm needs more than one example: raise batch in [training], or use LayerNorm",
        ),
        (
            r"running_mean should contain (?P<got>\d+) elements not (?P<want>\d+)",
            "a BatchNorm for {want} features got {got}: change its num_features to {got}",
        ),
        (
            r"expected (?P<want>[\w ]+D) (\(or \w+ \w+\) )?input \(got (?P<got>\w+) input\)",
            (
                "this layer takes {want} input, not {got}: use the kind for that many "
                "dimensions, such as BatchNorm1d, or add one with .unsqueeze()"
            ),
        ),
        (
            (
                r"Given normalized_shape=(?P<want>\[.*?\]), expected input with shape .*?size\s?"
                r"(?P<got>\[.*?\])"
            ),
            "a LayerNorm for {want} got the shape {got}: its last dimensions must be equal",
        ),
        (
            r"input.size\(-1\) must be equal to input_size. Expected (?P<a>\d+), got (?P<b>\d+)",
            "a recurrent layer for {a} features got {b}: change its input_size to {b}",
        ),
        (
            r"embed_dim must be divisible by num_heads",
            "the width of attention must be a multiple of num_heads: change one of them",
        ),
        (
            r"Dimension out of range \(expected to be in range of \[.*?\], but got (?P<d>-?\d+)\)",
            "the tensor has no dimension {d}: look at its .shape",
        ),
        (
            r"index (?P<i>-?\d+) is out of bounds for dimension (?P<d>\d+) with size (?P<n>\d+)",
            "dimension {d} has {n} entries, so there is no entry {i}: the last is {n} - 1",
        ),
        (
            r"stack expects each tensor to be equal size",
            "stack() wants tensors of one shape: use torch.cat for different lengths",
        ),
        (
            r"Index tensor must have the same number of dimensions as input tensor",
            "gather() wants an index with as many dimensions as the input: write .unsqueeze(1)",
        ),
        (
            r"Expected hidden(\[\d\])? size",
            (
                "the first state has another batch size than the input: make it of x.shape[0], or "
                "leave it out where it is zeros"
            ),
        ),
        (
            r"selected index k out of range",
            "topk() asks for more entries than the dimension has: make k smaller",
        ),
        # Python and tensors
        (
            r"must be Tensor, not _NamedBatch",
            'the batch is a dict, whose parts are taken by name: write batch["x"]',
        ),
        (
            (
                r"(must be Tensor, not (?!str|NoneType|list|tuple|int|float)\w+|"
                r"object is not subscriptable)"
            ),
            (
                "there is no tensor where one is expected: the functions are loss(model, batch) "
                'and evaluate(model, batch), and the model is called, as model(batch["x"])'
            ),
        ),
        (
            r"must be Tensor, not str",
            'the batch is a dict, whose parts are taken by name: write batch["x"]',
        ),
        (r"must be Tensor, not NoneType", "there is None instead of a tensor: `return` it"),
        (
            r"'(?:dict|_NamedBatch)' object has no attribute '(?P<name>\w+)'",
            'the batch is a dict: write batch["{name}"] instead of batch.{name}',
        ),
        (
            r"'tuple' object has no attribute '(?P<name>\w+)'",
            (
                "a tuple has no .{name}: recurrent and attention layers return (output, state); "
                "take the first with [0]"
            ),
        ),
        (
            r"Boolean value of Tensor with more than one value is ambiguous",
            (
                "a loss class is made first and then called, as nn.CrossEntropyLoss()(scores, "
                "labels); and an `if` cannot ask many numbers at once"
            ),
        ),
        (
            r"(Torch not compiled with CUDA|Found no NVIDIA driver|not linked with support for)",
            "the volunteer's PC chooses the device: leave out .cuda(), .to(...) and device=",
        ),
        (
            r"a leaf Variable that requires grad is being used in an in-place operation",
            (
                "a parameter is changed in place, which only the optimizer may do: compute with a "
                "new tensor, as weight * 2 instead of weight.mul_(2)"
            ),
        ),
        (
            r"modified by an inplace operation",
            (
                "a tensor that the gradient needs was changed in place: use + instead of +=, and "
                "functions without a trailing underscore"
            ),
        ),
        (
            (
                r"(Can't call numpy\(\) on Tensor|numpy\(\) is not supported|"
                r"can't convert .* to numpy|\.numpy\(\))"
            ),
            "numpy, pandas and scikit-learn cannot be part of a graph: compute it with torch",
        ),
        (
            r"uninitialized parameter or buffer",
            (
                "a lazy layer was not used by loss(), so its size is unknown: write the size, as "
                "nn.Linear(64, 10)"
            ),
        ),
        # torch.export
        (r"(Could not guard on data-dependent|Could not extract specialized integer)", BRANCHES),
        (r"(aten|torch).*(_local_scalar_dense|\.item)", BRANCHES),
        (
            r"(Attempted to use FunctorchInterpreter|functorch)",
            HIGHER_DERIVATIVES,
        ),
        (
            r"(attribute|tensor)s? (?P<name>[\w.]+) (was|were) assigned during export",
            (
                "{name} is changed by forward(): register it in __init__, as "
                "self.register_buffer(name, torch.zeros(...)), and change it in place"
            ),
        ),
    )
)


def sentence(error: BaseException) -> str | None:
    """Return what the error means and what to write instead; None: the table does not have it."""
    text = str(error)
    for pattern, words in _MEANINGS:
        found = pattern.search(text)
        if found:
            return words.format(**found.groupdict())
    return None
