"""torch.export of loss and evaluation, with its errors in one sentence."""

from __future__ import annotations

import builtins
import sys
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental import _config as symbolic_shapes
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_unflatten
from typing_extensions import override

from pleb_project.export.replacements import replaced
from pleb_shared.errors import GraphError
from pleb_shared.protocol.graph import OutputKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized
    from types import ModuleType

__all__ = ["Named", "trace_evaluation", "trace_showcase", "trace_training"]

Batch = dict[str, torch.Tensor]
"""Inputs [batch, ...] by name."""
Named = tuple[str, OutputKind]
"""What a graph's output is: its name and kind."""
_PREDICTIONS: Final[dict[str, OutputKind]] = {
    "predictions": "predictions",
    "targets": "targets",
}


class _Function(nn.Module):
    """A function of the model and a batch as a module; `check` raises unless its value is right."""

    def __init__(
        self,
        model: nn.Module,
        function: Callable[[nn.Module, Batch], Any],
        names: list[str],
        check: Callable[[object], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._function = function
        self._names = names
        self._check = check

    @override
    def forward(self, *batch: torch.Tensor) -> Any:
        """Return the function's value for inputs [batch, ...] in the order of the names."""
        value = self._function(self.model, dict(zip(self._names, batch, strict=True)))
        self._check(value)
        return value


def _check_loss(value: object) -> None:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise GraphError("loss(model, batch) must return one number as a tensor: take a mean.")


def _check_metrics(value: object) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("loss"), torch.Tensor):
        raise GraphError('evaluate(model, batch) must return a dict of means with a "loss".')
    if len(_PREDICTIONS.keys() & value.keys()) == 1:
        raise GraphError('evaluate() must return both "predictions" and "targets", or neither.')
    for name, one in value.items():
        is_share = isinstance(one, tuple) and len(one) == 2 and name not in _PREDICTIONS
        for tensor in one if is_share else [one]:
            if not isinstance(tensor, torch.Tensor):
                raise GraphError(
                    f"evaluate() returns a {type(tensor).__name__} as {name!r}: return a tensor "
                    "with the mean over the batch, or (sum, count), which are added up over all "
                    "batches."
                )
            if name in _PREDICTIONS:
                if not tensor.ndim:
                    raise GraphError(f"evaluate() must return {name!r} as [batch, ...].")
            elif tensor.numel() != 1:
                raise GraphError(
                    f"evaluate() returns {list(tensor.shape)} numbers as {name!r}: return their "
                    'mean, or, for metrics of the whole holdout, "predictions" and "targets".'
                )


def _check_shown(value: object) -> None:
    if not isinstance(value, torch.Tensor) or not value.ndim:
        raise GraphError(
            "showcase(model, batch) must return one tensor [batch, ...]: the scores of classes, or "
            "numbers."
        )


def trace_training(
    model: nn.Module, loss: Callable[[nn.Module, Batch], torch.Tensor], batch: Batch
) -> ExportedProgram:
    """Return the training IR of `loss` in training mode, for inputs of exactly these shapes.

    Raises:
        GraphError: torch.export cannot trace it.
    """
    with _mode(model, training=True), _one_sentence("loss"):
        return export(_Function(model, loss, list(batch), _check_loss), tuple(batch.values()))


def trace_evaluation(
    model: nn.Module,
    evaluate: Callable[[nn.Module, Batch], dict[str, Any]],
    batch: Batch,
) -> tuple[ExportedProgram, list[Named]]:
    """Return the training IR of `evaluate` in evaluation mode, and what its outputs are.

    It is traced for inputs [batch, ...] with any first dimension. Whether it is right for each is
    for `parity.check_evaluation` to find out.

    Raises:
        GraphError: torch.export cannot trace it, or it works for one batch size only.
    """
    module = _Function(model, evaluate, list(batch), _check_metrics)
    values = tuple(t if len(t) > 1 else torch.cat([t, t]) for t in batch.values())
    with (
        _mode(model, training=False),
        _one_sentence("evaluate"),
        _symbolic_lengths(model, evaluate),
    ):
        program = _for_any_batch(module, values)
    shape = program.call_spec.out_spec
    if shape is None:
        raise GraphError("evaluate() returns nothing.")
    places: dict[str, int | tuple[int, int]] = tree_unflatten(list(range(shape.num_leaves)), shape)
    outputs: dict[int, Named] = {}
    for name, place in places.items():
        if isinstance(place, tuple):
            outputs |= {place[0]: (name, "sum"), place[1]: (name, "count")}
        else:
            kind: OutputKind = _PREDICTIONS.get(name, "mean")
            outputs[place] = (name, kind)
    return program, [outputs[place] for place in sorted(outputs)]


def trace_showcase(
    model: nn.Module, showcase: Callable[[nn.Module, Batch], torch.Tensor], batch: Batch
) -> ExportedProgram:
    """Return the training IR of `showcase` in evaluation mode, for inputs [batch, ...] of any size.

    Raises:
        GraphError: torch.export cannot trace it, or it works for one batch size only.
    """
    module = _Function(model, showcase, list(batch), _check_shown)
    values = tuple(t if len(t) > 1 else torch.cat([t, t]) for t in batch.values())
    with (
        _mode(model, training=False),
        _one_sentence("showcase"),
        _symbolic_lengths(model, showcase),
    ):
        return _for_any_batch(module, values)


def _for_any_batch(module: nn.Module, values: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """Return the program of `module` for `values` [batch, ...] with any first dimension.

    torch chooses some kernels by their sizes (`cdist` another one beyond 25 rows), and takes a
    size of 1 for one that is broadcast. Where that contradicts any size, it is traced once more
    for the way that this batch takes, without regard to 1.
    """
    size = Dim("batch", min=1)
    try:
        return export(module, values, dynamic_shapes={"batch": tuple({0: size} for _ in values)})
    except GraphError:
        raise
    except Exception as error:  # noqa: BLE001 - torch has no type for it
        free = tuple({0: Dim.DYNAMIC(min=1)} for _ in values)
        try:
            with symbolic_shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
                return export(module, values, dynamic_shapes={"batch": free})
        except Exception:  # noqa: BLE001 - the first one says more
            raise error from None


@contextmanager
def _symbolic_lengths(model: nn.Module, function: Callable[..., object]) -> Iterator[None]:
    """Let `len` of a tensor be its size in the code of `function` and of the model's layers.

    Python's own makes a plain number of it, which would hold for one batch size only.
    """

    def length(value: Sized) -> Any:
        if isinstance(value, torch.Tensor) and value.dim() > 0:
            return value.shape[0]
        return builtins.len(value)

    with ExitStack() as stack:
        for module in _code_of(model, function):
            if "len" not in vars(module):
                stack.enter_context(patch.dict(vars(module), {"len": length}))
        yield


def _code_of(model: nn.Module, function: Callable[..., object]) -> list[ModuleType]:
    """Return the Python modules of the model's layers, of `function` and of what it imports.

    Those are the files beside its own, and the modules of what its own has by name.
    """
    own = sys.modules.get(getattr(function, "__module__", None) or "")
    folder = Path(str(getattr(own, "__file__", None) or "")).parent
    names = {type(one).__module__ for one in model.modules()}
    for one in list(vars(own).values()) if own is not None else []:
        names.add(str(getattr(one, "__module__", None) or getattr(one, "__name__", "")))
    return [
        module
        for name, module in list(sys.modules.items())
        if module is own
        or (name in names and name.partition(".")[0] != "torch")
        or ((path := getattr(module, "__file__", None)) and Path(path).parent == folder)
    ]


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put every submodule into a mode, and back into the one it was in.

    Tensors that hooks compute and keep as attributes are put back, too.
    """
    before = [
        (module, module.training, {k: v for k, v in vars(module).items() if _is_tensor(v)})
        for module in model.modules()
    ]
    model.train(training)
    try:
        with replaced(), _SureDraws():
            yield
    finally:
        for module, was, computed in before:
            module.training = was
            vars(module).update(computed)


class _SureDraws(TorchFunctionMode):
    """Lets code branch on whether one uniform number is above 0, which it is.

    So a rate of 0 is asked for, as in `if torch.rand(1) > module_dropout`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn: list[torch.Tensor] = []
        self._sure: list[torch.Tensor] = []

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__bool__" and any(args[0] is one for one in self._sure):
            return True
        found = func(*args, **(kwargs or {}))
        if name == "rand" and isinstance(found, torch.Tensor) and found.numel() == 1:
            self._drawn.append(found)
        above = name in {"gt", "__gt__"} and any(args[0] is one for one in self._drawn)
        if above and isinstance(args[1], (int, float)) and args[1] <= 0:
            self._sure.append(found)
        return found


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


_FIXED_SIZE: Final = (
    "{}() must work for any batch size, but Python makes a plain number of it, as float(), "
    "math.sqrt(), max(), range() and a fixed shape do: take sizes from x.shape[0], and make a "
    "tensor of what is computed from them, as torch.tensor(x.shape[0]).sqrt()."
)


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Report in one sentence why torch.export failed, whatever it raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the model's insides, such as nn.LSTM's
            yield
    except GraphError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if name != "loss" and "Constraints violated" in str(error):
            raise GraphError(_FIXED_SIZE.format(name)) from None
        reason = lines[0] if lines else type(error).__name__
        advice = "Shapes and control flow must not depend on the tensors' values"
        if name != "loss":
            advice += (
                f", and {name}() must work for any batch size: take it from x.shape[0], and do "
                "not loop over the examples"
            )
        raise GraphError(f"{name}() cannot be exported: {reason} ({advice}.)") from error
