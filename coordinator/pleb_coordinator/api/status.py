"""`GET /projects/P/status`: what a project's page shows, as JSON for programs that watch.

The structs below are that JSON, field by field; new fields may be added, the ones that are
there keep their meaning. Times are seconds since 1970 on the coordinator's clock (floats),
credit is in FLOPs. What would tell hosts which of their units are audited is not in it:
open assignments appear only as a count.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pleb_coordinator.core.records import ProjectState
from pleb_shared.protocol.project import Target
from pleb_shared.protocol.unit import VersionSource

__all__ = [
    "ContributorStatus",
    "Counts",
    "HostState",
    "HostStatus",
    "ProjectStatus",
    "ResultStatus",
    "RoundStatus",
    "StatusChange",
    "UnitStatus",
    "VersionPoint",
    "change_between",
]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is shown."""


class VersionPoint(Status, frozen=True):
    """One version: a point of the plots."""

    version: int
    made_at: float
    train_loss: float | None
    """Mean of the losses at the end of the units that made it; null for version 0."""
    metrics: dict[str, float]
    """Means over the holdout, `loss` among them; empty until it was evaluated."""


class HostState(StrEnum):
    """How a host stands."""

    ACTIVE = "active"
    PROBATION = "probation"
    """New: each result needs a second one."""
    CALIBRATING = "calibrating"
    AWAY = "away"
    """Not heard of for ten minutes."""
    BANNED = "banned"


class HostStatus(Status, frozen=True):
    """One host."""

    host: str
    """Fingerprint of its key."""
    name: str
    """What its owner calls it; empty for anonymous ones."""
    role: str
    state: HostState
    determinism_class: str
    """Hosts with the same one agree to the bit; empty: not known yet. The digest's beginning."""
    verified: int
    refused: int
    credit: float
    last_seen_at: float
    agent: str


class ResultStatus(Status, frozen=True):
    """What became of one host's result of a unit."""

    assignment: int
    host: str
    name: str
    verdict: str
    """`valid`, `invalid` or `late`."""
    credit: float
    reason: str


class UnitStatus(Status, frozen=True):
    """A unit that was decided lately."""

    unit: int
    kind: str
    version: int
    """The version it starts from."""
    position: int
    state: str
    """`valid`, `applied`, `late`, `credited`, `disproved`, `open` (again) or `cancelled`."""
    reason: str
    """Why, in a sentence."""
    at: float
    results: list[ResultStatus]


class RoundStatus(Status, frozen=True):
    """The making of the next version."""

    units: int
    quorum: int
    valid: int
    opened_at: float
    quorum_at: float | None
    """Since when enough is verified; the grace window runs from here."""


class Counts(Status, frozen=True):
    """The fleet in numbers."""

    hosts: int
    accounts: int
    verified: int
    refused: int
    in_flight: int
    credit: float


class ContributorStatus(Status, frozen=True):
    """An account; `name` is empty for anonymous ones."""

    name: str
    hosts: int
    verified: int
    credit: float


class ProjectStatus(Status, frozen=True):
    """The whole answer."""

    project: str
    title: str
    description: str
    data_licence: str
    contact: str
    state: ProjectState
    epoch: int
    version: int
    """The newest version."""
    versions_planned: int
    target: Target | None
    target_reached_at_version: int | None
    """The first version that reached it; null: none has, or there is no target."""
    metrics: dict[str, float]
    """Those of the newest version that was evaluated."""
    metrics_version: int | None
    train_loss: float | None
    """That of the newest version."""
    series: list[VersionPoint]
    """Oldest first; long histories are thinned out to about 2,000 points."""
    round: RoundStatus | None
    hosts: list[HostStatus]
    """Most recently seen first, at most 200."""
    units: list[UnitStatus]
    """Most recent first, at most 25."""
    contributors: list[ContributorStatus]
    """Most credit first, at most 50."""
    counts: Counts
    parameters: int
    """Numbers in the model."""
    created_at: float
    updated_at: float
    attach_link: str
    pleb_link: str
    source: VersionSource | None = None
    """How the newest version is put together; researchers download the model by it."""


class StatusChange(Status, frozen=True):
    """Data of an `event: status` in `/projects/P/events`: what the page changes at once.

    `series` holds only points that are new or differ since the last event to this listener;
    the first event has all. Lists of hosts and units are fetched with `/projects/P/status`.
    """

    project: str
    state: ProjectState
    epoch: int
    version: int
    versions_planned: int
    target_reached_at_version: int | None
    metrics: dict[str, float]
    metrics_version: int | None
    train_loss: float | None
    series: list[VersionPoint]
    round: RoundStatus | None
    counts: Counts
    updated_at: float


def change_between(before: ProjectStatus | None, now: ProjectStatus) -> StatusChange | None:
    """Return what a listener who saw `before` must learn; None: nothing has changed."""
    if before is not None and _same(before, now):
        return None
    known = [] if before is None or before.epoch != now.epoch else before.series
    seen = {point.version: point for point in known}
    return StatusChange(
        project=now.project,
        state=now.state,
        epoch=now.epoch,
        version=now.version,
        versions_planned=now.versions_planned,
        target_reached_at_version=now.target_reached_at_version,
        metrics=now.metrics,
        metrics_version=now.metrics_version,
        train_loss=now.train_loss,
        series=[point for point in now.series if seen.get(point.version) != point],
        round=now.round,
        counts=now.counts,
        updated_at=now.updated_at,
    )


def _same(before: ProjectStatus, now: ProjectStatus) -> bool:
    return before == msgspec.structs.replace(now, updated_at=before.updated_at)
