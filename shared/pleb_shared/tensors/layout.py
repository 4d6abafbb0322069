"""Named arrays: their order and form, the digest that names a version, safetensors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import TensorSpec, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pleb_shared.protocol.project import ArrayDtype, BaseDtype, ModelSpec

__all__ = [
    "BASE_HEADER_BYTES",
    "BFLOAT16_BITS",
    "NUMPY_DTYPES",
    "Tensors",
    "check_specs",
    "check_tensors",
    "check_version",
    "little_endian",
    "load_tensors",
    "model_tensors",
    "read_header",
    "read_tensors",
    "save_tensors",
    "version_digest",
]

Tensors = dict[str, NDArray[Any]]
"""Arrays by name. Of a version: every parameter and buffer of its `ModelSpec`, no more."""

BFLOAT16_BITS: Final = np.dtype("V2")
"""numpy has no bfloat16: two bytes without a meaning, which nothing here computes with."""

NUMPY_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "float16": np.dtype("<f2"),
    "bfloat16": BFLOAT16_BITS,
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "uint16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
"""The little-endian numpy dtype of every dtype that a `TensorSpec` may name."""

_SAFETENSORS: Final[Mapping[str, ArrayDtype]] = {
    "I64": "int64",
    "F64": "float64",
    "F32": "float32",
    "I32": "int32",
    "BF16": "bfloat16",
    "F16": "float16",
    "I16": "int16",
    "U16": "uint16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""In the order in which a file has them: large numbers first, so that all are aligned."""
_NAMES: Final = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
_TAGS: Final = {NUMPY_DTYPES[name]: tag for tag, name in _SAFETENSORS.items()}
_HEADER_BYTES: Final = 64 * 1024
"""Ample for the few arrays of a shard."""
BASE_HEADER_BYTES: Final = 64 * 1024**2
"""Ample for as many tensors as a model may have."""
_Offset = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.model_bytes)]


def model_tensors(model: ModelSpec) -> list[TensorSpec]:
    """Return the specs of a version's tensors in every layout's order, without the base."""
    return [*model.parameters, *model.buffers]


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` [...] in C order and little-endian; itself where it already is."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def version_digest(tensors: Tensors, model: ModelSpec) -> str:
    """Return the name of a version: SHA-256 over the bytes of its tensors, hexadecimal.

    `tensors` have the shapes of the model's specs. The bytes are those of the parameters and then
    of the buffers in the order of `model`, each in C order and little-endian, with nothing before,
    between or after them. The base has a digest of its own, that of its blob.

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
        EncodingError: as `check_specs`.
    """
    found = {}
    for name, array in tensors.items():
        known = _NAMES.get(array.dtype.newbyteorder("<"))
        dtype = cast("BaseDtype", known or str(array.dtype))
        found[name] = TensorSpec(name=name, dtype=dtype, shape=list(array.shape))
    check_specs(found, specs)


def check_specs(found: Mapping[str, TensorSpec], specs: Iterable[TensorSpec]) -> None:
    """Check that the tensors `found`, by name, are exactly those of `specs`.

    Raises:
        EncodingError: `wrong_shape` (also a name too many or missing) or `wrong_dtype`.
    """
    expected = {spec.name: spec for spec in specs}
    if found.keys() != expected.keys():
        name = min(found.keys() ^ expected.keys())
        state = "is missing" if name in expected else "does not belong here"
        raise EncodingError(RefusalCode.WRONG_SHAPE, f"Tensor {name!r} {state}.")
    for name, spec in expected.items():
        if found[name].shape != spec.shape:
            message = f"Tensor {name!r} has shape {found[name].shape}, not {spec.shape}."
            raise EncodingError(RefusalCode.WRONG_SHAPE, message)
        if found[name].dtype != spec.dtype:
            message = f"Tensor {name!r} has dtype {found[name].dtype}, not {spec.dtype}."
            raise EncodingError(RefusalCode.WRONG_DTYPE, message)


def read_header(
    read: Callable[[int, int], bytes], most_bytes: int = _HEADER_BYTES
) -> dict[str, TensorSpec]:
    """Return what a safetensors blob holds, by name; its numbers are not read.

    `read(start, stop)` returns these bytes of the blob; a header of more than `most_bytes` is
    refused.

    Raises:
        EncodingError: `malformed`: the header is not one, is too long, or has another dtype.
    """
    return {name: spec for name, (spec, _) in _entries(read, most_bytes).items()}


def read_tensors(
    read: Callable[[int, int], bytes], specs: Sequence[TensorSpec]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of a safetensors blob in the order of `specs`, which are all that it holds.

    `read(start, stop)` returns these bytes of the blob, of one array at a time.

    Raises:
        EncodingError: `malformed`: this is no safetensors blob; `wrong_shape` or `wrong_dtype`: it
            holds other arrays.
    """
    entries = _entries(read, BASE_HEADER_BYTES)
    check_specs({name: spec for name, (spec, _) in entries.items()}, specs)
    for spec in specs:
        start = entries[spec.name][1]
        data = read(start, start + tensor_bytes([spec]))
        if len(data) != tensor_bytes([spec]):
            message = f"The numbers of tensor {spec.name!r} are not all there."
            raise EncodingError(RefusalCode.MALFORMED, message)
        yield spec.name, np.frombuffer(data, NUMPY_DTYPES[spec.dtype]).reshape(spec.shape)


def _entries(
    read: Callable[[int, int], bytes], most_bytes: int
) -> dict[str, tuple[TensorSpec, int]]:
    """Return the spec of every array of a safetensors blob, and the place of its first byte."""
    size = int.from_bytes(read(0, 8), "little")
    if not 0 < size <= most_bytes:
        message = f"The header of the tensors has {size} bytes; at most {most_bytes} are read."
        raise EncodingError(RefusalCode.MALFORMED, message)
    try:
        entries = msgspec.json.decode(read(8, 8 + size), type=dict[str, dict[str, Any]])
        entries.pop("__metadata__", None)
        found = {}
        for name, entry in entries.items():
            fields = {"name": name, "dtype": _SAFETENSORS[entry["dtype"]], "shape": entry["shape"]}
            start, stop = msgspec.convert(entry["data_offsets"], tuple[_Offset, _Offset])
            spec = msgspec.convert(fields, TensorSpec)
            found[name] = spec, 8 + size + start, stop - start
    except (msgspec.DecodeError, KeyError, ValueError, TypeError, RecursionError) as error:
        message = f"The header of the tensors cannot be read: {error}."
        raise EncodingError(RefusalCode.MALFORMED, message) from error
    for name, (spec, _, length) in found.items():
        if length != tensor_bytes([spec]):
            message = f"Tensor {name!r} does not fit its place among the tensors."
            raise EncodingError(RefusalCode.MALFORMED, message)
    return {name: (spec, start) for name, (spec, start, _) in found.items()}


def save_tensors(tensors: Tensors) -> bytes:
    """Return `tensors`, of any shapes, as safetensors; equal arrays give equal bytes.

    The header is JSON, filled up with blanks to whole 8 bytes; the arrays follow in the order of
    `_SAFETENSORS`, then by name.

    Raises:
        KeyError: an array has a dtype that no `TensorSpec` may name.
    """
    arrays = {name: little_endian(array) for name, array in tensors.items()}
    tags = {name: _TAGS[array.dtype] for name, array in arrays.items()}
    order = {tag: place for place, tag in enumerate(_SAFETENSORS)}
    entries: dict[str, object] = {}
    end = 0
    for name in sorted(arrays, key=lambda name: (order[tags[name]], name)):
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        entries[name] = {"dtype": tags[name], "shape": shape, "data_offsets": [start, end]}
    header = msgspec.json.encode(entries)
    header += b" " * (-len(header) % 8)
    numbers = (arrays[name].reshape(-1).view(np.uint8).data for name in entries)
    return b"".join([len(header).to_bytes(8, "little"), header, *numbers])


def load_tensors(data: bytes) -> Tensors:
    """Return the arrays of a safetensors blob.

    Raises:
        EncodingError: `malformed`: this is no safetensors blob.
    """
    try:
        return {
            name: np.frombuffer(found["data"], NUMPY_DTYPES[_SAFETENSORS[found["dtype"]]]).reshape(
                found["shape"]
            )
            for name, found in deserialize(data)  # type: ignore[no-untyped-call]
        }
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        message = f"The tensors cannot be read as safetensors: {error}."
        raise EncodingError(RefusalCode.MALFORMED, message) from error
