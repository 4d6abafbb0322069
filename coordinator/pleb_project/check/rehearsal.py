"""One step of the researcher's code as it is, before anything is exported.

Most mistakes show themselves here, where Python knows the line, and where torch's own words are
about the researcher's tensors instead of a traced graph's.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
import random  # noqa: TID251 - only to see whether the researcher's code uses it
import re
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from pleb_project.check.meanings import BRANCHES, HIGHER_DERIVATIVES, ROW_CHOICE, sentence
from pleb_project.check.mistakes import explained, is_own, own_line, shown_line
from pleb_project.export.model_tensors import unchanged
from pleb_project.export.source import is_theirs
from pleb_shared.errors import GraphError, InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pleb_project.check.researcher_code import ResearcherCode

__all__ = ["rehearse", "researchers_errors"]

Batch = dict[str, torch.Tensor]

_VALUES: Final = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy"}
"""Functions that turn a tensor's values into Python's."""
_CHOICES: Final = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"}
"""Functions whose results are as long as the values want."""
_LOSSES_WITH_TARGETS: Final = "Using a target size"


class _NamedBatch(dict[str, torch.Tensor]):
    """Copies of inputs [batch, ...] by name, which says what there is when a name is wrong."""

    def __init__(self, batch: Batch) -> None:
        super().__init__({name: tensor.clone() for name, tensor in batch.items()})

    def __missing__(self, key: object) -> torch.Tensor:
        raise _WrongInputError(key, self)


class _MistakeError(Exception):
    """A mistake that torch itself does not mind; its text is the sentence."""


class _WrongInputError(_MistakeError, KeyError):
    def __init__(self, key: object, batch: Mapping[str, torch.Tensor]) -> None:
        folded = {name.casefold(): name for name in batch}
        found = difflib.get_close_matches(str(key).casefold(), folded, n=1, cutoff=0.5)
        near = [folded[name] for name in found]
        there = ", ".join(
            f"{name!r} ({str(t.dtype).removeprefix('torch.')} {list(t.shape[1:])})"
            for name, t in batch.items()
        )
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"the batch has no {key!r}: {hint}there are {there}")

    @override
    def __str__(self) -> str:
        return str(self.args[0])


class _Watch(TorchFunctionMode):
    """Notes the first line that makes Python values, or lengths, of a tensor's values."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.suspects: dict[str, str] = {}
        """Place by the sentence about it, first come first."""

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in {"grad", "backward"} and not isinstance(func, property):
            raise _MistakeError(
                HIGHER_DERIVATIVES
                if name == "grad"
                else "loss() only returns the loss: volunteers take its gradient and step the "
                "optimizer that [training] names; leave out .backward() and .step()"
            )
        if name in _VALUES or (name == "__getitem__" and _has_bound(args[1])):
            self._suspect(BRANCHES)
        elif name in _CHOICES or (name == "__getitem__" and _has_mask(args[1])):
            self._suspect(ROW_CHOICE)
        return func(*args, **(kwargs or {}))

    def _suspect(self, words: str) -> None:
        if words in self.suspects:
            return
        stack = [f for f in traceback.extract_stack() if is_theirs(f.filename)]
        own = [frame for frame in stack if is_own(frame.filename, self._folder)]
        if own:
            innermost = "" if stack[-1] in own else f", in {shown_line(stack[-1])[2:-1]}"
            self.suspects[words] = shown_line(own[-1], innermost)


def rehearse(code: ResearcherCode, batches: Sequence[Batch], folder: Path) -> dict[str, str]:
    """Run loss() with its gradient and evaluate() once for each batch, and check what they give.

    `batches` hold inputs [batch, ...] by name. Lazy layers of the model get their sizes; nothing
    else of it changes.

    Returns:
        What an export may fail for: the place in the code by the sentence about it.

    Raises:
        GraphError: the code cannot be used; the sentence has the line and what to write.
    """
    _check_module(code.model)
    watch = _Watch(folder)
    with researchers_errors("loss()", folder), _no_other_randomness(folder):
        if any(map(is_lazy, [*code.model.parameters(), *code.model.buffers()])):
            with torch.no_grad(), watch:
                code.loss(code.model, _NamedBatch(batches[0]))
    for batch in batches:
        with unchanged(code.model):
            _rehearse(code, batch, folder, watch)
    return watch.suspects


def _rehearse(code: ResearcherCode, batch: Batch, folder: Path, watch: _Watch) -> None:
    """Run and check the code for one batch [batch, ...]; `watch` notes what it does."""
    model = code.model.train()
    with researchers_errors("loss()", folder), _no_other_randomness(folder):
        given = _NamedBatch(batch)
        with watch:
            value = code.loss(model, given)
        _check_loss(value, model)
        value.backward()  # type: ignore[no-untyped-call]
        _check_gradients(value, model, given)
        before = _python_numbers(model)
        with torch.no_grad():
            code.loss(model, _NamedBatch(batch))
        _check_counters(before, _python_numbers(model))
    model = model.eval()
    with researchers_errors("evaluate()", folder), _no_other_randomness(folder), watch:
        _check_metrics(code.evaluate(model, _NamedBatch(batch)))
    fewer = {name: value[: max(1, len(value) - 1)] for name, value in batch.items()}
    with researchers_errors("evaluate() with any batch size", folder), watch:
        code.evaluate(model, _NamedBatch(fewer))


@contextmanager
def researchers_errors(
    what: str, folder: Path, suspects: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Turn what the researcher's code raises into one sentence, without torch's logs.

    Args:
        what: what runs inside, such as `loss()`.
        folder: the project's.
        suspects: what `rehearse` has noted.

    Raises:
        PlebError: the sentence.
    """
    logs = logging.getLogger("torch")
    before = logs.level
    logs.setLevel(logging.CRITICAL)
    try:
        # torch.export prints whole graphs before it fails.
        silent = contextlib.nullcontext() if suspects is None else redirect_stderr(io.StringIO())
        with warnings.catch_warnings(), silent:
            warnings.simplefilter("ignore")  # about the model's insides, such as nn.LSTM's
            warnings.filterwarnings("error", message=_LOSSES_WITH_TARGETS)
            yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except _MistakeError as error:
        raise GraphError(f"{what} cannot be used{own_line(error, folder)}: {error}.") from error
    except PlebError as error:
        cause = error.__cause__
        if isinstance(cause, Exception):
            raise _of_export(cause, error, what, folder, suspects or {}) from error
        if suspects and re.search(
            r"depends? on values", str(error)
        ):  # of the exporter, without a line
            raise _of_export(error, error, what, folder, suspects) from error
        raise
    except Exception as error:  # the researcher's code may raise anything
        raise _of_export(error, None, what, folder, suspects or {}) from error
    finally:
        logs.setLevel(before)


def _of_export(
    error: Exception, said: PlebError | None, what: str, folder: Path, suspects: Mapping[str, str]
) -> PlebError:
    """Return the best sentence: the table's, that about a suspect, what was said, torch's own."""
    if sentence(error) is None or not own_line(error, folder):
        for words, place in suspects.items():
            return GraphError(f"{what} cannot be exported{place}: {words}.")
    if sentence(error) is None and said is not None:
        return said
    return explained(error, what, folder)


@contextmanager
def _no_other_randomness(folder: Path) -> Iterator[None]:
    """Refuse code that draws from Python's or numpy's generators: a graph would keep one draw."""

    def states() -> tuple[object, str, int]:
        state: Any = np.random.get_state()  # noqa: NPY002 - theirs, not ours
        return random.getstate(), state[1].tobytes().hex(), state[2]

    before = states()
    yield
    if states() != before:
        raise GraphError(
            f"The code in {folder} draws from Python's `random` or numpy's generator, of which a "
            "graph would repeat one draw for ever: use torch.rand, torch.randn or torch.randint."
        )


def _check_module(model: nn.Module) -> None:
    wrapper = type(model).__name__
    if wrapper in {"OptimizedModule", "DataParallel", "DistributedDataParallel"}:
        raise InputError(f"model() returned a {wrapper}: return the module that is inside it.")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("model() returned a torch.jit module: return the plain nn.Module.")


def _check_loss(value: object, model: nn.Module) -> None:
    if isinstance(value, (tuple, list, dict)):
        raise GraphError(
            f"loss(model, batch) returned {len(value)} values: a project has one loss and one "
            "optimizer, so networks with losses against each other (a GAN) cannot be trained here; "
            "parts of one loss are added up, as return a + b."
        )
    if value is None:
        raise GraphError("loss(model, batch) returned nothing: end it with `return`.")
    if not isinstance(value, torch.Tensor):
        raise GraphError(
            f"loss(model, batch) returned a {type(value).__name__}: return the tensor itself, "
            "without .item() and float()."
        )
    if value.numel() != 1:
        raise GraphError(
            f"loss(model, batch) returned the shape {list(value.shape)}, not one number: take the "
            "mean, as .mean()."
        )
    if not value.dtype.is_floating_point:
        raise GraphError(
            f"loss(model, batch) returned {value.dtype}: a loss that can be trained is a decimal "
            "number; counts, argmax and comparisons have no gradient."
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise GraphError(
            "No parameter of the model is trained: all have requires_grad = False; leave it True "
            "for those that shall learn."
        )
    if not value.requires_grad:
        raise GraphError(
            "The loss does not depend on any trained parameter: argmax, rounding, comparisons, "
            ".detach(), .item() and torch.no_grad() end the gradient; leave them out of loss()."
        )
    if not math.isfinite(float(value.detach())):
        raise GraphError(
            f"The loss of the first batch is {float(value.detach())}: scale the inputs, and add a "
            "small number inside log, sqrt and divisions."
        )


def _check_gradients(value: torch.Tensor, model: nn.Module, batch: Batch) -> None:
    """Refuse gradients that reach no parameter, or parameters that the model does not know."""
    inputs = {id(tensor) for tensor in batch.values()}
    own = {id(p) for p in model.parameters()}
    seen, queue = set(), [value.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) in inputs:
            raise GraphError(
                "An input of the batch requires a gradient: leave out .requires_grad_(), since "
                "only the parameters of the model are trained."
            )
        if leaf is not None and id(leaf) not in own:
            raise GraphError(
                f"A trained tensor of the shape {list(leaf.shape)} is not a parameter of the "
                "model: keep layers in nn.ModuleList or nn.ModuleDict instead of a list or dict, "
                "and tensors in nn.Parameter."
            )
        queue += [following for following, _ in node.next_functions]
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise GraphError(
                f"The gradient of {name!r} is sparse: leave out sparse=True in nn.Embedding."
            )


def _python_numbers(model: nn.Module) -> dict[str, float]:
    """Return the plain numbers that the modules of a model keep, by their names."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _check_counters(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Refuse numbers that change from call to call: a graph would keep one of their values."""
    for name, value in after.items():
        if value != before.get(name, value):
            raise GraphError(
                f"self.{name} of the model changes from call to call, but a graph would keep one "
                "value of a Python number: write self.register_buffer(name, torch.zeros(())) in "
                "__init__, and change that in place, as self.step.add_(1)."
            )


def _check_metrics(value: object) -> None:
    if not isinstance(value, dict):
        raise GraphError(
            f"evaluate(model, batch) returned a {type(value).__name__}: return a dict, as "
            '{"loss": loss}.'
        )
    for name, metric in value.items():
        if not isinstance(metric, torch.Tensor) and not isinstance(metric, (dict, tuple, list)):
            raise GraphError(
                f"evaluate() returned a {type(metric).__name__} as {name!r}: return a tensor, "
                "without .item(), float() and scikit-learn."
            )


def _has_bound(index: object) -> bool:
    """Whether a slice of an index ends at a tensor's value."""
    parts = index if isinstance(index, tuple) else (index,)
    ends = [end for part in parts if isinstance(part, slice) for end in (part.start, part.stop)]
    return any(isinstance(end, torch.Tensor) for end in ends)


def _has_mask(index: object) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)
