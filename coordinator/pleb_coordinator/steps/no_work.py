"""no_work: why a host gets no unit, and when to ask again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.chunks import best_chunk, link_of
from pleb_coordinator.core.records import Purpose
from pleb_coordinator.steps.fit import nothing_fits, window_is_over
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.messages import NoWork
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.steps import RequestContext

__all__ = ["no_work", "not_comparable", "paced"]

_ASK_AGAIN_SECONDS: Final = (15.0, 300.0)
_ASKING_A_SECOND: Final = 50.0
"""Hosts of a project without work ask again so often, all together: a small fleet soon notices
that its project goes on, and a large one does not load the coordinator."""


def no_work(context: RequestContext, found: int) -> NoWork:
    """Return why there is no more, and when to ask again."""
    project = context.project
    if project.stopped_for is not None:
        hosts = project.new_hosts + project.proven_hosts
        least, most = _ASK_AGAIN_SECONDS
        seconds = min(most, max(least, hosts / _ASKING_A_SECOND))
        return NoWork(reason=project.stopped_for, retry_after_seconds=seconds)
    if not context.host.trusted and _is_warm_start(context):
        reason = because(ReasonCode.WARM_START, version=project.version + 1)
        return NoWork(reason=reason, retry_after_seconds=30)
    if not context.host.trusted and not context.host.proven:
        return NoWork(reason=because(ReasonCode.EXAMS_FULL), retry_after_seconds=10)
    if not found and window_is_over(context):
        seconds = math.floor(context.free_seconds or 0.0)
        reason = because(ReasonCode.WINDOW_ENDS, seconds=seconds)
        return NoWork(reason=reason, retry_after_seconds=60)
    if not found and nothing_fits(context):
        reason = because(ReasonCode.ROUND_ENDS, version=project.version + 1)
        return NoWork(reason=reason, retry_after_seconds=10)
    best = best_chunk(
        project.metadata, context.host.memory_bytes, link_of(context.host, project.facts)
    )
    unsent = not found and Purpose.PRIMARY in context.tx.assignments.unsent_purposes(project.id)
    if unsent and best is not None and best.name != FULL:
        reason = because(ReasonCode.CHUNKS_GIVEN, version=project.version)
        return NoWork(reason=reason, retry_after_seconds=10)
    if unsent:
        return NoWork(reason=because(ReasonCode.ACCOUNT_SHARE_USED), retry_after_seconds=10)
    reason = because(ReasonCode.ALL_ASSIGNED, version=project.version)
    return NoWork(reason=reason, retry_after_seconds=10)


def paced(context: RequestContext) -> NoWork:
    """Return how long a host waits that would get work faster than it computes it."""
    seconds = context.host.paced_until - context.now
    reason = because(ReasonCode.PACED, seconds=math.ceil(seconds))
    return NoWork(reason=reason, retry_after_seconds=seconds)


def not_comparable(context: RequestContext) -> NoWork | None:
    """Return why a host gets nothing if no other can confirm its results; see core.calibration."""
    found = context.tx.calibrations.find_class(context.project.id, context.host.determinism_class)
    if found is None or not found.isolated or found.vouched:
        return None
    return NoWork(reason=because(ReasonCode.NOT_COMPARABLE), retry_after_seconds=60)


def _is_warm_start(context: RequestContext) -> bool:
    """Whether only trusted hosts train the newest version; one look-up while that may be."""
    tx, project = context.tx, context.project
    if project.version >= project.metadata.training.warm_start_versions:
        return False
    return tx.units.warm_start(project.id, project.epoch, project.version) is not None
