"""The manifest: the coordinator's statement of one assignment, which the agent obeys."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pleb_shared.protocol.ids import Digest, ProjectName
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Count, Struct, Unit, VersionSource

__all__ = ["Manifest", "Nonce"]

Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class Manifest(Struct, frozen=True):
    """One copy of a unit for one host. It travels inside a signed `WorkReply`."""

    assignment: Count
    nonce: Nonce
    project: ProjectName
    host: Digest
    metadata_number: Annotated[int, msgspec.Meta(ge=1)]
    unit: Unit
    version: VersionSource
    issued_at: Count
    lease_seconds: Annotated[float, msgspec.Meta(gt=0, le=LIMITS.lease_seconds)]
