"""A `data.py` of the researcher: functions that yield examples."""

from __future__ import annotations

import contextlib
import itertools
import runpy
import traceback
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_project.readers.code_folder import CodeFolder
from pleb_project.readers.padding import padded, stacked
from pleb_shared.errors import InputError
from pleb_system.reading.source import START, Chunk, Part, Position, Rows, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["code_failed", "python_source"]

_CHUNK_EXAMPLES: Final = 256
_CHUNK_BYTES: Final = 8 * 2**20


def python_source(data: DataSection, folder: Path) -> Source:
    """Return what the functions of the researcher's file yield.

    Nothing says which files they read, so they are called again each time.

    Raises:
        InputError: there is no such file, it fails, or it has no such function.
    """
    path = folder / (data.files[0] if data.files else "data.py")
    place = CodeFolder(path.parent)
    counts: dict[str, int] = {}
    parts = {
        name: [Part(str(path), _Examples(path, function, place, data, counts).chunks)]
        for name, function in _load(path, place).items()
    }
    train = parts.get("examples") or parts["train"]
    return Source(train, parts.get("holdout"), counts=counts)


def _load(path: Path, place: CodeFolder) -> dict[str, Callable[[], Iterable[Any]]]:
    """Return `examples`, or `train` and `holdout`, from the researcher's file."""
    if not path.is_file():
        raise InputError(f"There is no {path}: write it with `def examples(): yield {{...}}`.")
    file = path.resolve()
    try:
        with place:
            names = runpy.run_path(str(file), run_name="pleb_data")
    except Exception as error:  # the researcher's code may raise anything
        raise code_failed(file, error) from error
    found = {n: names[n] for n in ("examples", "train", "holdout") if callable(names.get(n))}
    if found.keys() not in ({"examples"}, {"train", "holdout"}):
        raise InputError(
            f"{path} must define `examples()`, or `train()` and `holdout()`, which yield dicts "
            "of arrays or tuples."
        )
    return found


class _Examples:
    """What a function yields, in chunks. A tuple's parts are named x, y, then x2, x3, ..."""

    def __init__(
        self,
        path: Path,
        function: Callable[[], Iterable[Any]],
        place: CodeFolder,
        data: DataSection,
        counts: dict[str, int],
    ) -> None:
        self._path, self._function, self._place = path, function, place
        self._data, self._counts = data, counts

    def chunks(self, _: Position) -> Iterator[Chunk]:
        """Yield all examples.

        Raises:
            InputError: the code fails, or yields something else; the message has the example's
                number.
        """
        with self._guarded():
            iterator = iter(self._function())
        number = 0
        while chunk := self._next(iterator):
            place = f"{self._path}, examples {number + 1} to {number + len(chunk)}"
            number += len(chunk)
            if any(example.keys() != chunk[0].keys() for example in chunk):
                raise InputError(
                    f"{place}: not all examples have the inputs {', '.join(chunk[0])}."
                )
            yield Chunk(self._stacked(chunk, place), place, START)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run the researcher's code in its place."""
        try:
            with self._place:
                yield
        except InputError:
            raise
        except Exception as error:  # the researcher's code may raise anything
            raise code_failed(self._path.resolve(), error) from error

    def _next(self, iterator: Iterator[Any]) -> list[Rows]:
        found: list[Rows] = []
        size = 0
        with self._guarded():
            for example in itertools.islice(iterator, _CHUNK_EXAMPLES):
                found.append(self._named(example))
                size += sum(array.nbytes for array in found[-1].values())
                if size > _CHUNK_BYTES:
                    break
        return found

    def _stacked(self, chunk: list[Rows], place: str) -> Rows:
        rows: Rows = {}
        for name in chunk[0]:
            arrays = [example[name] for example in chunk]
            if name in self._data.pad:
                rows |= padded(name, arrays, self._data, self._counts, place)
                continue
            rows[name] = stacked(name, arrays, place)
        return rows

    def _named(self, example: Any) -> Rows:
        if isinstance(example, tuple):
            names = ["x", "y", *(f"x{number}" for number in range(2, len(example)))]
            example = dict(zip(names, example, strict=False))
        if not isinstance(example, dict) or not example:
            raise InputError(
                f"{self._path} yielded a {type(example).__name__}; an example is a dict of arrays "
                'such as {"x": ..., "y": ...}, or a tuple (x, y).'
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
    advice = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        advice = f": install it, as with `pip install {error.name.partition('.')[0]}`."
    return InputError(f"{where} failed: {type(error).__name__}: {error}{advice}")
