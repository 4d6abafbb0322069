"""The report: a host's statement about its result, which commits it to exact bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pleb_shared.protocol.ids import Digest
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Nonce
from pleb_shared.protocol.showcase import Shown
from pleb_shared.protocol.unit import Count, Struct

__all__ = ["DeltaResult", "EvaluationResult", "FailureResult", "Report", "Result"]


class DeltaResult(Struct, tag="delta", tag_field="kind", kw_only=True, frozen=True):
    """A trained or calibrated unit: the encoded delta's digest, and its size on the way.

    The digest is of the delta itself, so equal results have equal digests; `size` is that of the
    packed delta, which is sent. `attached`: it follows the envelope in the body of this request.
    """

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.model_bytes)]
    attached: bool = False
    loss_first: float
    loss_last: float


class EvaluationResult(Struct, tag="evaluation", tag_field="kind", frozen=True):
    """Metrics of the unit's examples, by name (`loss` is always there)."""

    metrics: Annotated[dict[str, float], msgspec.Meta(max_length=LIMITS.metric_values)]
    examples: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    showcase: Shown | msgspec.UnsetType = msgspec.UNSET
    """What the version says or sees, if the project has a showcase and the host could make it."""


class FailureResult(Struct, tag="failure", tag_field="kind", frozen=True):
    """The host could not do the unit and gives it back, with one sentence that says why."""

    reason: Annotated[str, msgspec.Meta(max_length=500)]


Result = DeltaResult | EvaluationResult | FailureResult


class Report(Struct, frozen=True):
    """What came of an assignment. It travels inside a signed `WorkRequest`."""

    assignment: Count
    nonce: Nonce
    epoch: Count
    version: Count
    result: Result
    compute_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
