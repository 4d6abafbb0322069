"""Named arrays: their order and form, the digest that names a version, safetensors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.project import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pleb_shared.protocol.project import Dtype, ModelSpec

__all__ = [
    "NUMPY_DTYPES",
    "Tensors",
    "check_tensors",
    "check_version",
    "little_endian",
    "load_tensors",
    "model_tensors",
    "read_header",
    "save_tensors",
    "version_digest",
]

Tensors = dict[str, NDArray[Any]]
"""Arrays by name. Of a version: every parameter and buffer of its `ModelSpec`, no more."""

NUMPY_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
"""The little-endian numpy dtype of every dtype that a `TensorSpec` may name."""

_SAFETENSORS: Final[Mapping[str, Dtype]] = {
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
_HEADER_BYTES: Final = 64 * 1024
"""Ample for the few arrays of a shard."""


def model_tensors(model: ModelSpec) -> list[TensorSpec]:
    """Return the specs of all tensors of a version in the order of every layout."""
    return [*model.parameters, *model.buffers]


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` [...] in C order and little-endian; itself where it already is."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def version_digest(tensors: Tensors, model: ModelSpec) -> str:
    """Return the name of a version: SHA-256 over the bytes of its tensors, hexadecimal.

    `tensors` have the shapes of the model's specs. The bytes are those of the parameters and then
    of the buffers in the order of `model`, each in C order and little-endian, with nothing before,
    between or after them.

    Raises:
        EncodingError: as `check_tensors`.
    """
    check_version(tensors, model)
    digest = hashlib.sha256()
    for spec in model_tensors(model):
        digest.update(little_endian(tensors[spec.name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_version(tensors: Tensors, model: ModelSpec) -> None:
    """Raise as `check_tensors` unless `tensors` has the names, dtypes and shapes of a version."""
    check_tensors(tensors, model_tensors(model))


def check_tensors(tensors: Tensors, specs: Iterable[TensorSpec]) -> None:
    """Check that `tensors` has exactly the names, dtypes and shapes of `specs`.

    Raises:
        EncodingError: `wrong_shape` (also a name too many or missing) or `wrong_dtype`.
    """
    expected = {spec.name: spec for spec in specs}
    if tensors.keys() != expected.keys():
        name = min(tensors.keys() ^ expected.keys())
        state = "is missing" if name in expected else "does not belong here"
        raise EncodingError(RefusalCode.WRONG_SHAPE, f"Tensor {name!r} {state}.")
    for name, spec in expected.items():
        array = tensors[name]
        if list(array.shape) != spec.shape:
            message = f"Tensor {name!r} has shape {list(array.shape)}, not {spec.shape}."
            raise EncodingError(RefusalCode.WRONG_SHAPE, message)
        if array.dtype.newbyteorder("<") != NUMPY_DTYPES[spec.dtype]:
            message = f"Tensor {name!r} has dtype {array.dtype}, not {spec.dtype}."
            raise EncodingError(RefusalCode.WRONG_DTYPE, message)


def read_header(read: Callable[[int], bytes]) -> dict[str, TensorSpec]:
    """Return what a safetensors blob holds, by name; its numbers are not read.

    `read(n)` returns the blob's next n bytes.

    Raises:
        EncodingError: `malformed`: the header is not one, is too long, or has another dtype.
    """
    size = int.from_bytes(read(8), "little")
    if not 0 < size <= _HEADER_BYTES:
        message = f"The header of the tensors has {size} bytes; at most {_HEADER_BYTES} are read."
        raise EncodingError(RefusalCode.MALFORMED, message)
    try:
        entries = msgspec.json.decode(read(size), type=dict[str, dict[str, Any]])
        entries.pop("__metadata__", None)
        return {
            name: msgspec.convert(
                {"name": name, "dtype": _SAFETENSORS[entry["dtype"]], "shape": entry["shape"]},
                TensorSpec,
            )
            for name, entry in entries.items()
        }
    except (msgspec.DecodeError, KeyError, ValueError, TypeError, RecursionError) as error:
        message = f"The header of the tensors cannot be read: {error}."
        raise EncodingError(RefusalCode.MALFORMED, message) from error


def save_tensors(tensors: Tensors) -> bytes:
    """Return `tensors`, of any shapes, as safetensors; equal arrays give equal bytes."""
    return save({name: little_endian(array) for name, array in tensors.items()})


def load_tensors(data: bytes) -> Tensors:
    """Return the arrays of a safetensors blob.

    Raises:
        EncodingError: `malformed`: this is no safetensors blob.
    """
    try:
        return dict(load(data))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        message = f"The tensors cannot be read as safetensors: {error}."
        raise EncodingError(RefusalCode.MALFORMED, message) from error
