"""Metadata of a project that nobody trains."""

from __future__ import annotations

from pleb_shared.protocol.project import (
    AdamW,
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
    TensorSpec,
    Training,
    Verification,
)
from pleb_shared.protocol.unit import Blob


def example_metadata(root_key: str) -> ProjectMetadata:
    blob = Blob(digest="0" * 64, size=1)
    return ProjectMetadata(
        protocol=1,
        project="tiny",
        number=1,
        epoch=0,
        issued_at=0,
        root_key=root_key,
        delegation=Delegation(online_key=root_key, expires_at=1),
        title="",
        description="",
        data_licence="",
        contact="",
        model=ModelSpec(
            parameters=[TensorSpec(name="w", dtype="float32", shape=[2])],
            buffers=[],
            initial=blob,
            initial_digest="0" * 64,
        ),
        training_graph=blob,
        evaluation_graph=blob,
        data=DataSpec(
            kind="rows", inputs=[InputSpec(name="x", dtype="float32", shape=[2])], shards=blob
        ),
        training=Training(
            warmup_steps=0,
            optimizer=AdamW(),
            learning_rate=0.1,
            batch_examples=4,
            local_steps=5,
            versions=9,
        ),
        outer=OuterStep(),
        codec=Codec(),
        round=Round(),
        verification=Verification(tolerance=1e-3, tolerance_ceiling=1e-2),
        calibration=Calibration(),
        limits=ResourceLimits(memory_bytes=2**30),
    )
