"""Versions from differences: bit-identical on every platform, named by their digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import (
    NUMPY_DTYPES,
    Tensors,
    load_tensors,
    read_tensors,
    version_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import ModelSpec, ProjectMetadata
    from pleb_shared.protocol.unit import VersionSource

__all__ = [
    "apply_difference",
    "load_base",
    "read_version",
    "rebuild_version",
    "subtract_versions",
    "whole_model",
]


def apply_difference(version: Tensors, difference: Tensors, model: ModelSpec) -> Tensors:
    """Return the next version: version + difference, as new arrays of the specs' shapes.

    Parameters and float buffers are added by one IEEE operation per number in their own
    dtype; the decoded difference is already the rounded product of code and scale, so nothing
    is fused. Buffers of whole numbers are added exactly (modulo 2^64) and booleans are the
    sum's lowest bit, which undoes `subtract_versions` for every value.
    """
    return {
        spec.name: _add(version[spec.name], difference[spec.name], NUMPY_DTYPES[spec.dtype])
        for spec in [*model.parameters, *model.buffers]
    }


def subtract_versions(a: Tensors, b: Tensors, model: ModelSpec) -> Tensors:
    """Return a - b in the form that `DeltaFormat.encode` takes: int64 for buffers of whole numbers.

    `subtract_versions(version, local)` is a delta, `subtract_versions(next, previous)` the
    difference that `apply_difference` adds.
    """
    return {
        spec.name: _subtract(a[spec.name], b[spec.name])
        for spec in [*model.parameters, *model.buffers]
    }


def read_version(
    source: VersionSource, metadata: ProjectMetadata, blob: Callable[[str], bytes]
) -> Tensors:
    """Return the tensors of a version, in the shapes of the model's specs; the digest is checked.

    `blob` reads a blob by its digest.

    Raises:
        EncodingError: as `rebuild_version`; a difference has another size.
        Refusal: as `blob`.
    """
    encoding = difference_format(metadata)
    snapshot = load_tensors(blob(source.snapshot.digest))
    differences = (
        encoding.decode(encoding.unpack(blob(part.digest))) for part in source.differences
    )
    return rebuild_version(snapshot, differences, metadata.model, source.digest)


def whole_model(
    version: Tensors,
    model: ModelSpec,
    blob: Callable[[str], bytes],
    *,
    checked: bool = False,
) -> Tensors:
    """Return the version and the base together: all that the model's state_dict needs.

    `version` has the shapes of the model's specs; `blob` and `checked` are as in `load_base`.

    Raises:
        EncodingError: as `load_base`.
        Refusal: as `blob`.
    """
    return version | load_base(model, blob, checked=checked)


def load_base(model: ModelSpec, blob: Callable[[str], bytes], *, checked: bool = False) -> Tensors:
    """Return the tensors of the model's base, in the shapes of its specs, none without a base.

    `checked`: `blob` has hashed what it read; what it returns is what was sealed inside.

    Raises:
        EncodingError: `wrong_digest`: the blob is another one; or as `read_tensors`.
        Refusal: as `blob`, which reads a blob by its digest.
    """
    if model.base is None:
        return {}
    data = blob(model.base.blob.digest)
    if not checked and digest_of(data) != model.base.blob.digest:
        message = "The model's base is not the one that its researcher signed: fetch it again."
        raise EncodingError(RefusalCode.WRONG_DIGEST, message)
    return dict(read_tensors(lambda start, stop: data[start:stop], model.base.tensors))


def rebuild_version(
    snapshot: Tensors, differences: Iterable[Tensors], model: ModelSpec, digest: str
) -> Tensors:
    """Return the version that decoded `differences`, in order, make of `snapshot`.

    All have the shapes of the model's specs.

    Raises:
        EncodingError: `wrong_digest`: the outcome is not the version that `digest` names; or
            as `check_tensors`.
    """
    version = snapshot
    for difference in differences:
        version = apply_difference(version, difference, model)
    found = version_digest(version, model)
    if found != digest:
        message = (
            f"The rebuilt version has digest {found[:12]}..., not {digest[:12]}...: "
            "fetch the snapshot again."
        )
        raise EncodingError(RefusalCode.WRONG_DIGEST, message)
    return version


def _add(value: NDArray[Any], change: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return value + change, both of one shape, as `dtype`."""
    if dtype.kind == "f":
        return np.asarray(np.add(value, change, dtype=dtype))
    total = np.asarray(value.astype(np.int64) + change.astype(np.int64))
    return (total & 1).astype(dtype) if dtype.kind == "b" else total.astype(dtype)


def _subtract(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return a - b, both of one shape: in their dtype for floats, else as int64."""
    if a.dtype.kind == "f":
        return np.asarray(np.subtract(a, b))
    return np.asarray(a.astype(np.int64) - b.astype(np.int64))
