"""A `data.py` of the researcher: functions that yield examples."""

from __future__ import annotations

import itertools
import runpy
import traceback
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pleb_project.readers.spool import Rows

__all__ = ["code_failed", "load_functions", "read_python"]

_CHUNK_EXAMPLES: Final = 256


def load_functions(path: Path) -> dict[str, Callable[[], Iterable[Any]]]:
    """Return `examples`, or `train` and `holdout`, from the researcher's file.

    Raises:
        InputError: there is no such file, it fails, or has neither.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}: write it with `def examples(): yield {{...}}`.")
    try:
        names = runpy.run_path(str(path), run_name="pleb_data")
    except Exception as error:  # the researcher's code may raise anything
        raise code_failed(path, error) from error
    found = {n: names[n] for n in ("examples", "train", "holdout") if callable(names.get(n))}
    if found.keys() not in ({"examples"}, {"train", "holdout"}):
        raise InputError(
            f"{path} must define `examples()`, or `train()` and `holdout()`, which yield dicts "
            "of arrays or tuples."
        )
    return found


def read_python(path: Path, function: Callable[[], Iterable[Any]]) -> Iterator[tuple[Rows, str]]:
    """Yield chunks of examples. A tuple's parts are named x, y, then x2, x3, ...

    Raises:
        InputError: the code fails, or yields something else; the message has the example's number.
    """
    iterator = iter(_guarded(path, function))
    for number in itertools.count(0, _CHUNK_EXAMPLES):
        chunk = [_named(path, e) for e in itertools.islice(iterator, _CHUNK_EXAMPLES)]
        if not chunk:
            return
        place = f"{path}, examples {number + 1} to {number + len(chunk)}"
        if any(example.keys() != chunk[0].keys() for example in chunk):
            raise InputError(f"{place}: not all examples have the inputs {', '.join(chunk[0])}.")
        try:
            yield {name: np.stack([example[name] for example in chunk]) for name in chunk[0]}, place
        except ValueError as error:
            raise InputError(
                f"{place}: the arrays of one input must all have the same shape ({error})."
            ) from error


def _guarded(path: Path, function: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    try:
        yield from function()
    except InputError:
        raise
    except Exception as error:  # the researcher's code may raise anything
        raise code_failed(path, error) from error


def _named(path: Path, example: Any) -> Rows:
    if isinstance(example, tuple):
        names = ["x", "y", *(f"x{number}" for number in range(2, len(example)))]
        example = dict(zip(names, example, strict=False))
    if not isinstance(example, dict) or not example:
        raise InputError(
            f"{path} yielded a {type(example).__name__}; an example is a dict of arrays such as "
            '{"x": ..., "y": ...}, or a tuple (x, y).'
        )
    arrays = {str(name): np.asarray(value) for name, value in example.items()}
    return {  # plain Python floats and float64 become float32
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def code_failed(path: Path, error: Exception) -> InputError:
    """Return what to report when the researcher's file raised `error`, with the line in it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    where = f"{path}:{line}" if line else str(path)
    return InputError(f"{where} failed: {type(error).__name__}: {error}")
