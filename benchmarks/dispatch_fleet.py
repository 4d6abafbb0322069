"""The hosts of the dispatch benchmark: the same ones in the store and in the load process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from pleb_coordinator.simulation.project import PARAMETERS
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import PayloadType, Runtime, WorkRequest
from pleb_shared.protocol.project import ModelSpec
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.report import Report

AGENT: Final = "pleb-agent 0.1.0"
LIFETIME_SECONDS: Final = 60
RUNTIME: Final = Runtime(
    torch="2.13.0", device="cpu", threads=4, capability="AVX2", system="Linux-x86_64"
)

UP: Final = "int4"
BLOCK: Final = 64


def secret(index: int) -> bytes:
    """Return the key of host number `index`; a benchmark's keys guard nothing."""
    return hashlib.sha256(f"dispatch host {index}".encode()).digest()


class Group(msgspec.Struct, frozen=True):
    """Hosts of one project, and the assignments that each has in hand."""

    project: str
    first: int
    in_hand: list[list[int]]


@dataclass
class LoadHost:
    """One host that asks for work."""

    project: str
    key: SigningKey
    in_hand: list[int]
    path: bytes = field(init=False)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.path = f"/projects/{self.project}/work".encode()

    def request(
        self, now: int, units: int = 1, reports: Sequence[Report] = (), wait_seconds: float = 0
    ) -> bytes:
        """Return the next signed request."""
        self.sequence += 1
        statement = WorkRequest(
            protocols=[1],
            project=self.project,
            host=self.key.fingerprint,
            sequence=self.sequence,
            issued_at=now,
            expires_at=now + LIFETIME_SECONDS,
            agent=AGENT,
            runtime=RUNTIME,
            max_units=units,
            wait_seconds=wait_seconds,
            in_hand=self.in_hand,
            reports=list(reports),
        )
        return sign_payload(strict_json.encode(statement), PayloadType.WORK, self.key)


def hosts_of(group: Group) -> list[LoadHost]:
    """Return the hosts of a group."""
    return [
        LoadHost(group.project, SigningKey.from_bytes(secret(group.first + place)), list(held))
        for place, held in enumerate(group.in_hand)
    ]


def result_of(manifest: Manifest) -> bytes:
    """Return the encoded delta that every honest host finds for a unit."""
    generator = np.random.default_rng(manifest.unit.seed)
    delta: dict[str, np.ndarray[Any, Any]] = {
        spec.name: generator.normal(scale=1e-3, size=spec.shape).astype(np.float32)
        for spec in PARAMETERS
    }
    model = model_spec(Blob(digest="0" * 64, size=0), "0" * 64)
    return DeltaFormat(model, UP, BLOCK).encode(delta)


def model_spec(initial: Blob, digest: str) -> ModelSpec:
    """Return the model, whose version 0 is `initial` with that version digest."""
    return ModelSpec(parameters=PARAMETERS, buffers=[], initial=initial, initial_digest=digest)
