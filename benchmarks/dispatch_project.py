"""A project of a few hundred numbers, published by the coordinator's own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from benchmarks.dispatch_fleet import BLOCK, PARAMETERS, UP, model_spec
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import examine, open_publication, publish
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import Graph, Node, Output, Ref, Value
from pleb_shared.protocol.messages import PayloadType, PublishRequest, Role
from pleb_shared.protocol.project import (
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    InputSpec,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    SgdMomentum,
    Shard,
    ShardList,
    Training,
    Verification,
)
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.layout import save_tensors, version_digest

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

LEASE_SECONDS: Final = 3600.0
SHARDS: Final = 64
_URL: Final = "http://127.0.0.1"


@dataclass(frozen=True)
class RoundSize:
    units: int
    quorum: int


def publish_project(store: Store, deps: Deps, name: str, size: RoundSize) -> Project:
    """Return the project, published as a researcher's would be."""
    root = SigningKey.generate()
    metadata = _metadata(deps, name, size, root)
    now = int(deps.clock())
    with store.write() as tx:
        invite = new_invite(tx, deps, Role.PUBLISHER, lifetime_seconds=60)
    request = PublishRequest(
        protocols=[1],
        project=name,
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
        return tx.projects.find(name)


def _metadata(deps: Deps, name: str, size: RoundSize, root: SigningKey) -> ProjectMetadata:
    version = {
        spec.name: np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)
        for spec in PARAMETERS
    }
    initial = _stored(deps, save_tensors(version))
    model = model_spec(initial, "0" * 64)
    model = msgspec.structs.replace(model, initial_digest=version_digest(version, model))
    graph = _stored(deps, _graph())
    now = int(deps.clock())
    return ProjectMetadata(
        protocol=1,
        project=name,
        number=1,
        epoch=0,
        issued_at=now,
        root_key=root.public,
        delegation=Delegation(online_key=deps.online_keys.newest().public, expires_at=now + 86_400),
        title="Dispatch benchmark",
        description="",
        data_licence="CC0",
        contact="",
        model=model,
        training_graph=graph,
        evaluation_graph=graph,
        data=DataSpec(
            kind="rows",
            inputs=[InputSpec(name="x", dtype="float32", shape=[20])],
            shards=_stored(deps, _shard_list(deps)),
        ),
        training=Training(
            warmup_steps=0,
            optimizer=SgdMomentum(),
            learning_rate=0.1,
            batch_examples=4,
            local_steps=100,
            versions=1_000_000,
        ),
        outer=OuterStep(),
        codec=Codec(up=UP, down="int4", block=BLOCK),
        round=Round(units=size.units, quorum=size.quorum, grace_seconds=0),
        verification=Verification(tolerance=1e-3, tolerance_ceiling=0.05),
        calibration=Calibration(steps=3),
        limits=ResourceLimits(memory_bytes=2**30, lease_seconds=LEASE_SECONDS),
    )


def _shard_list(deps: Deps) -> bytes:
    shards = []
    for number in range(SHARDS):
        blob = _stored(deps, save_tensors({"x": np.full((8, 20), number, np.float32)}))
        shards.append(Shard(digest=blob.digest, size=blob.size, examples=8))
    return strict_json.encode(ShardList(train=shards, holdout=[]))


def _graph() -> bytes:
    return strict_json.encode(
        Graph(
            format=1,
            parameters=PARAMETERS,
            buffers=[],
            inputs=[InputSpec(name="x", dtype="float32", shape=[4, 20])],
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


def _stored(deps: Deps, data: bytes) -> Blob:
    return Blob(digest=deps.blobs.put(data), size=len(data))
