"""What a researcher publishes: a signed statement, and blobs that hold what it says.

A fault is found here and refused to the researcher: hosts would meet it only in their units.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import UNSET

from pleb_coordinator.core.records import Facts
from pleb_coordinator.steps.access import blobs_to_publish, check_mark, open_keys
from pleb_coordinator.steps.fleet_records import find_records
from pleb_coordinator.steps.take_over import read_history
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.flops import (
    flops_of_holdout,
    flops_of_showcase,
    flops_per_evaluation,
    flops_per_step,
)
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType, PublishRequest
from pleb_shared.protocol.project import (
    DataSpec,
    ModelSpec,
    ProjectMetadata,
    Shard,
    ShardList,
    TensorSpec,
    showcase_blobs,
    tensor_bytes,
)
from pleb_shared.protocol.roots import root_path
from pleb_shared.protocol.showcase import Card, affordable_flops
from pleb_shared.protocol.signing import open_envelope, peek_payload
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.layout import (
    BASE_HEADER_BYTES,
    check_specs,
    load_tensors,
    read_header,
    version_digest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import BroughtKeys, ProjectBlobs
    from pleb_coordinator.steps.files import BlobsSeen
    from pleb_coordinator.steps.fleet_records import FoundRecords
    from pleb_coordinator.steps.take_over import Brought
    from pleb_shared.protocol.unit import Blob

__all__ = ["NO_KEYS", "Findings", "Publication", "examine", "open_metadata", "open_publication"]


NO_KEYS: Final[BroughtKeys] = MappingProxyType({})


@dataclass(frozen=True)
class Publication:
    """Metadata whose signature holds, and the request that brought them, if it is one's."""

    metadata: ProjectMetadata
    envelope: bytes
    """The metadata as they were signed."""
    root_path: tuple[str, ...]
    """The project's root keys; the last one signed both the request and the metadata."""
    request: PublishRequest | None = None
    """None: a host hands in metadata that a restored coordinator lacks."""

    @property
    def blobs(self) -> Sequence[Blob]:
        """Blobs that the request names beside those of the metadata."""
        return self.request.blobs if self.request else []

    @property
    def invite(self) -> str:
        """The invite that came along, or an empty text."""
        return (self.request.invite if self.request else None) or ""


@dataclass(frozen=True)
class Findings:
    """What the blobs say: which are missing, or what they hold."""

    missing: tuple[Blob, ...]
    facts: Facts | None
    named: tuple[Blob, ...] = ()
    """All blobs that the metadata name, once none is missing."""
    brought: Brought | None = None
    """The history of a project that goes on here."""
    records: FoundRecords | None = None
    """What the coordinator before says of hosts; its signature is checked by what is in force."""
    keys: BroughtKeys = field(default_factory=dict)
    """Of a private project that goes on here: those that it had before."""
    seen: BlobsSeen | None = None
    """When they were looked for; None: they are looked for again when the metadata get in force."""


def open_publication(envelope: bytes) -> Publication:
    """Return the request and the metadata, both signed by the root key that the metadata names.

    Raises:
        Refusal: `malformed`, `bad_signature` (also of a change of the root key), `too_large`.
    """
    most = LIMITS.metadata_bytes
    payload = peek_payload(envelope, PayloadType.PUBLISH, most_bytes=most)
    opened = open_metadata(
        strict_json.decode(payload, PublishRequest, most_bytes=most).metadata.encode()
    )
    metadata = opened.metadata
    request = open_envelope(
        envelope, PayloadType.PUBLISH, PublishRequest, metadata.root_key, most_bytes=most
    )
    if metadata.project != request.project:
        message = f"The metadata is of project {metadata.project!r}, not {request.project!r}."
        raise Refusal(RefusalCode.MALFORMED, message)
    return replace(opened, request=request)


def open_metadata(envelope: bytes) -> Publication:
    """Return metadata that are signed by the root key which they name.

    Raises:
        Refusal: as `open_publication`.
    """
    most = LIMITS.metadata_bytes
    payload = peek_payload(envelope, PayloadType.METADATA, most_bytes=most)
    root_key = strict_json.decode(payload, ProjectMetadata, most_bytes=most).root_key
    metadata = open_envelope(
        envelope, PayloadType.METADATA, ProjectMetadata, root_key, most_bytes=most
    )
    return Publication(metadata, envelope, root_path(metadata))


def examine(
    deps: Deps,
    publication: Publication,
    seen: BlobsSeen | None = None,
    keys: BroughtKeys = NO_KEYS,
) -> Findings:
    """Return which blobs are missing; once none is, read and check what they hold.

    `seen` is what `look_at_tombstones` returned right before; `keys` are those that the project has
    brought, if it is here already.

    Raises:
        Refusal: `malformed`: a graph, the shard list, a shard or version 0 is not what it must
            be; the sentence says which and why. Or as `take_over.read_history` and
            `fleet_records.find_records`.
        EncodingError: the tensors of version 0 do not fit the model.
    """
    metadata, request = publication.metadata, publication.request
    came = NO_KEYS
    if request is not None and request.keys is not None and metadata.access == "invited":
        root = fingerprint_of(metadata.root_key)
        came = open_keys(deps, metadata.project, root, request.keys)
        if metadata.sealed_with not in came:
            message = f"Key {metadata.sealed_with}, which the metadata name, was not brought."
            raise Refusal(RefusalCode.MALFORMED, message)
    keys = keys or came
    history = request.history if request else None
    records = request.records if request else None
    files = [] if history is None else [history.versions, history.entries, history.metadata]
    files += [] if records is None else [records.lines]
    missing = _missing(deps, [*_named(metadata), *publication.blobs, *files])
    if missing:
        return Findings(missing, None)
    for digest in {blob.digest for blob in _named(metadata)}:
        check_mark(deps, metadata, keys, digest)
    sealed = blobs_to_publish(deps, metadata, keys)
    raw = sealed.get(metadata.data.shards.digest)
    shards = strict_json.decode(raw, ShardList, most_bytes=LIMITS.shard_list_bytes)
    every = [*shards.train, *shards.holdout]
    blobs = [found.blob for found in every]
    missing = _missing(deps, blobs)
    if missing:
        return Findings(missing, None)
    for shard in every:
        check_mark(deps, metadata, keys, shard.digest)
        _check_shard(sealed, shard, metadata.data)
    _check_initial(sealed, metadata)
    _check_base(sealed, metadata.model)
    _check_showcase(sealed, metadata, shards.holdout)
    facts = Facts(
        flops_per_step=_check_graphs(sealed, metadata),
        chunk_flops=_check_chunks(sealed, metadata),
        train_shards=len(shards.train),
        holdout_shards=len(shards.holdout),
        holdout_examples=sum(found.examples for found in shards.holdout),
    )
    named = tuple(dict.fromkeys([*_named(metadata), *blobs]))
    brought = None if history is None else read_history(deps, sealed, metadata, history)
    found = None if records is None else find_records(sealed, records)
    return Findings((), facts, named, brought, found, came, seen)


def _named(metadata: ProjectMetadata) -> list[Blob]:
    return [
        metadata.model.initial,
        *([metadata.model.base.blob] if metadata.model.base else []),
        metadata.training_graph,
        *(chunk.training_graph for chunk in metadata.chunks),
        metadata.evaluation_graph,
        *showcase_blobs(metadata),
        metadata.data.shards,
    ]


def _missing(deps: Deps, blobs: list[Blob]) -> tuple[Blob, ...]:
    """Return the blobs that are not here, each once.

    Raises:
        Refusal: `wrong_size`: one that is here has another size; agents would refuse it.
    """
    missing = {}
    sizes = deps.blobs.sizes({blob.digest for blob in blobs})
    for blob in dict.fromkeys(blobs):
        size = sizes.get(blob.digest)
        if size is None:
            missing[blob.digest] = blob
        elif size != blob.size:
            message = f"Blob {blob.digest[:12]}... has {size} bytes, not {blob.size}."
            raise Refusal(RefusalCode.WRONG_SIZE, message)
    return tuple(missing.values())


def _check_graphs(blobs: ProjectBlobs, metadata: ProjectMetadata) -> int:
    """Return the FLOPs of one training step; both graphs must parse and be allowed."""
    try:
        flops_per_evaluation(parse_graph(blobs.get(metadata.evaluation_graph.digest)))
        return flops_per_step(parse_graph(blobs.get(metadata.training_graph.digest)))
    except InputError as error:
        message = f"A graph cannot be used: {error}"
        raise Refusal(RefusalCode.MALFORMED, message) from error


def _check_showcase(blobs: ProjectBlobs, metadata: ProjectMetadata, holdout: list[Shard]) -> None:
    """Check that a showcase can be made and shown: every evaluation would meet the fault.

    Raises:
        Refusal: `malformed`, or `too_large`.
    """
    showcase = metadata.showcase
    if showcase is UNSET:
        return
    size = blobs.size(showcase.card.digest)
    if size > LIMITS.card_bytes:
        message = f"The showcase's card has {size} bytes; at most {LIMITS.card_bytes} are read."
        raise Refusal(RefusalCode.TOO_LARGE, message)
    data = blobs.get(showcase.card.digest)
    card = strict_json.decode(data, Card, most_bytes=LIMITS.card_bytes)
    try:
        graph = parse_graph(blobs.get(showcase.graph.digest))
        evaluation = parse_graph(blobs.get(metadata.evaluation_graph.digest))
        cost = flops_of_showcase(showcase, graph)
        whole = flops_of_holdout(evaluation, metadata.data, holdout)
    except InputError as error:
        message = f"The showcase's graph cannot be used: {error}"
        raise Refusal(RefusalCode.MALFORMED, message) from error
    wrong = ""
    if len(card.examples) != len(showcase.examples):
        wrong = f"has {len(card.examples)} examples on its card, not {len(showcase.examples)}"
    elif card.classes and len(card.classes) != showcase.width:
        wrong = f"names {len(card.classes)} classes, not {showcase.width}"
    elif showcase.examples and not (holdout and max(showcase.examples) < holdout[0].examples):
        wrong = f"names example {max(showcase.examples)}, which the first shard does not have"
    elif cost > affordable_flops(whole):
        wrong = "costs too much beside an evaluation"
    if wrong:
        message = f"The showcase {wrong}: publish again with `pleb-project publish`."
        raise Refusal(RefusalCode.MALFORMED, message)


def _check_chunks(blobs: ProjectBlobs, metadata: ProjectMetadata) -> dict[str, int]:
    """Return by chunk the FLOPs of one training step; its graph must have the chunk's tensors."""
    found = {}
    for chunk in metadata.chunks:
        view = chunk_view(metadata, chunk.name)
        try:
            graph = parse_graph(blobs.get(chunk.training_graph.digest))
            found[chunk.name] = flops_per_step(graph)
        except InputError as error:
            message = f"The graph of chunk {chunk.name!r} cannot be used: {error}"
            raise Refusal(RefusalCode.MALFORMED, message) from error
        tensors = (graph.parameters, graph.buffers, graph.base)
        if tensors != (view.model.parameters, view.buffers, view.base_tensors):
            message = f"The graph of chunk {chunk.name!r} has other tensors than the chunk."
            raise Refusal(RefusalCode.MALFORMED, message)
    return found


def _check_shard(blobs: ProjectBlobs, shard: Shard, data: DataSpec) -> None:
    """Check that a shard has the inputs and as many examples as the list says.

    Evaluations are sized and weighted by it, and agents would find a fault only in the unit.
    """
    found = read_header(partial(blobs.read, shard.digest))
    wanted = {
        spec.name: TensorSpec(name=spec.name, dtype=spec.dtype, shape=[shard.examples, *spec.shape])
        for spec in data.inputs
    }
    if data.kind == "windows":
        # One array of any dtype, of which `examples` windows and the value after each can be cut.
        name = data.inputs[0].name
        dtype = found[name].dtype if name in found else data.inputs[0].dtype
        wanted = {name: TensorSpec(name=name, dtype=dtype, shape=[shard.examples + data.window])}
    if any(found.get(name) != spec for name, spec in wanted.items()):
        message = (
            f"Shard {shard.digest[:12]}... holds {_shown(found)}; the shard list and the inputs "
            f"ask for {_shown(wanted)}."
        )
        raise Refusal(RefusalCode.MALFORMED, message)


def _shown(specs: dict[str, TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs.values())


def _check_initial(blobs: ProjectBlobs, metadata: ProjectMetadata) -> None:
    model = metadata.model
    tensors = load_tensors(blobs.get(model.initial.digest))
    found = version_digest(tensors, model)
    if found != model.initial_digest:
        message = f"Version 0 has digest {found[:12]}..., not {model.initial_digest[:12]}..."
        raise Refusal(RefusalCode.WRONG_DIGEST, message)
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            message = f"Tensor {name!r} of version 0 holds numbers that are not finite."
            raise Refusal(RefusalCode.NOT_FINITE, message)


def _check_base(blobs: ProjectBlobs, model: ModelSpec) -> None:
    """Check that the base holds the tensors that the metadata names; its numbers are not read.

    They may be infinite, as those of a mask; and no version is computed from them here.

    Raises:
        EncodingError: it holds others.
        Refusal: `wrong_size`.
    """
    if model.base is None:
        return
    blob = model.base.blob
    read = partial(blobs.read, blob.digest)
    check_specs(read_header(read, BASE_HEADER_BYTES), model.base.tensors)
    size = 8 + int.from_bytes(read(0, 8), "little") + tensor_bytes(model.base.tensors)
    if blobs.size(blob.digest) != size:
        message = f"The model's base has {blobs.size(blob.digest)} bytes; its tensors make {size}."
        raise Refusal(RefusalCode.WRONG_SIZE, message)
