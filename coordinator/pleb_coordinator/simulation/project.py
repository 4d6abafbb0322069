"""A project of a thousand numbers, published by the coordinator's own step.

Its version 0, shards and graphs are real blobs; no host ever trains it, so they mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from pleb_coordinator.blobs.parts import stored
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value
from pleb_shared.protocol.messages import PayloadType, PublishRequest, Role
from pleb_shared.protocol.project import (
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    InputSpec,
    ModelSpec,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    SgdMomentum,
    Shard,
    ShardList,
    TensorSpec,
    Training,
    Verification,
)
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.tensors.layout import save_tensors, version_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["PARAMETERS", "SmallProject", "publish_small"]

PARAMETERS: Final = [TensorSpec(name="w", dtype="float32", shape=[48, 20])]
_URL: Final = "http://127.0.0.1"
_FEATURES: Final = 20


@dataclass(frozen=True)
class SmallProject:
    """What differs between small projects."""

    name: str
    round: Round
    verification: Verification = field(
        default_factory=lambda: Verification(tolerance=1e-3, tolerance_ceiling=0.05)
    )
    codec: Codec = field(default_factory=lambda: Codec(up="int4", down="int4", block=64))
    outer: OuterStep = field(default_factory=OuterStep)
    local_steps: int = 100
    lease_seconds: float = 3600.0
    shards: int = 64
    parameters: Sequence[TensorSpec] = field(default_factory=lambda: PARAMETERS)
    lifetime_seconds: int = 86_400
    """Of the delegation to the online key."""


def publish_small(store: Store, deps: Deps, small: SmallProject) -> Project:
    """Return the project, published as a researcher's would be, by a key of its own."""
    root = SigningKey.from_bytes(deps.random_bytes(32))
    metadata = _metadata(deps, small, root)
    now = int(deps.clock())
    with store.write() as tx:
        invite = new_invite(tx, deps, Role.PUBLISHER, lifetime_seconds=60)
    request = PublishRequest(
        protocols=[1],
        project=small.name,
        invite=invite,
        metadata=sign_payload(strict_json.encode(metadata), PayloadType.METADATA, root).decode(),
        blobs=[],
        issued_at=now,
        expires_at=now + 60,
    )
    envelope = sign_payload(strict_json.encode(request), PayloadType.PUBLISH, root)
    publication = open_publication(envelope)
    findings = examine(deps, publication)
    with store.write() as tx:
        publish(tx, deps, publication, findings, _URL)
        return tx.projects.find(small.name)


def _metadata(deps: Deps, small: SmallProject, root: SigningKey) -> ProjectMetadata:
    version = {
        spec.name: np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)
        for spec in small.parameters
    }
    initial = stored(deps.blobs, save_tensors(version))
    parameters = list(small.parameters)
    model = ModelSpec(parameters=parameters, buffers=[], initial=initial, initial_digest="0" * 64)
    model = msgspec.structs.replace(model, initial_digest=version_digest(version, model))
    graph = stored(deps.blobs, _graph(parameters))
    now = int(deps.clock())
    return ProjectMetadata(
        protocol=1,
        project=small.name,
        number=1,
        epoch=0,
        issued_at=now,
        root_key=root.public,
        delegation=Delegation(
            online_key=deps.online_keys.newest().public, expires_at=now + small.lifetime_seconds
        ),
        title=f"Small project {small.name}",
        description="",
        data_licence="CC0",
        contact="",
        model=model,
        training_graph=graph,
        evaluation_graph=graph,
        data=DataSpec(
            kind="rows",
            inputs=[InputSpec(name="x", dtype="float32", shape=[_FEATURES])],
            shards=stored(deps.blobs, _shard_list(deps, small.shards)),
        ),
        training=Training(
            warmup_steps=0,
            optimizer=SgdMomentum(),
            learning_rate=0.1,
            batch_examples=4,
            local_steps=small.local_steps,
            versions=1_000_000,
        ),
        outer=small.outer,
        codec=small.codec,
        round=small.round,
        verification=small.verification,
        calibration=Calibration(steps=3),
        limits=ResourceLimits(memory_bytes=2**30, lease_seconds=small.lease_seconds),
    )


def _shard_list(deps: Deps, count: int) -> bytes:
    shards = []
    for number in range(count):
        blob = stored(deps.blobs, save_tensors({"x": np.full((8, _FEATURES), number, np.float32)}))
        shards.append(Shard.of(blob, examples=8))
    return strict_json.encode(ShardList(train=shards, holdout=[]))


def _graph(parameters: list[TensorSpec]) -> bytes:
    return strict_json.encode(
        Graph(
            format=1,
            parameters=parameters,
            buffers=[],
            inputs=[InputSpec(name="x", dtype="float32", shape=[4, _FEATURES])],
            nodes=[
                Node(
                    op="aten.mean.default",
                    args=[Ref(slot=0)],
                    outputs=[Value(dtype="float32", shape=[])],
                )
            ],
            outputs=[Output(name="loss", slot=2)],
        )
    )
