"""The coordinator's answer to `GET /projects/P/status`, as far as this side uses it.

Fields that are not named here are left out of account, so that coordinators may add some.
"""

from __future__ import annotations

import msgspec

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.project import Target

__all__ = ["HostStatus", "ProjectStatus", "decode_status", "status_lines"]


class VersionPoint(msgspec.Struct, frozen=True):
    """A version, the mean loss of the units that made it, and its metrics on the holdout."""

    version: int
    train_loss: float | None = None
    metrics: dict[str, float] = {}


class HostStatus(msgspec.Struct, frozen=True):
    """A host and what became of its results."""

    host: str
    name: str
    role: str
    state: str
    verified: int
    refused: int


class RoundStatus(msgspec.Struct, frozen=True):
    """The making of the next version."""

    units: int
    quorum: int
    valid: int


class Counts(msgspec.Struct, frozen=True):
    """The fleet in numbers."""

    hosts: int
    verified: int
    refused: int
    in_flight: int


class ProjectStatus(msgspec.Struct, frozen=True):
    """How a project is doing."""

    project: str
    state: str
    version: int
    versions_planned: int
    target: Target | None
    target_reached_at_version: int | None
    metrics: dict[str, float]
    metrics_version: int | None
    series: list[VersionPoint]
    round: RoundStatus | None
    hosts: list[HostStatus]
    counts: Counts

    @property
    def finished(self) -> bool:
        """Whether the last version was made and measured, or the project ended otherwise."""
        if self.state == "archived":
            return True
        return self.version >= self.versions_planned and self.metrics_version == self.version


def decode_status(data: bytes) -> ProjectStatus:
    """Return the status that the coordinator sent.

    Raises:
        Refusal: `malformed`: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=ProjectStatus)
    except msgspec.DecodeError as error:
        message = f"The coordinator's status cannot be read ({error}): update Pleb-Cluster."
        raise Refusal(RefusalCode.MALFORMED, message) from error


def status_lines(status: ProjectStatus) -> list[str]:
    """Return the status as lines for people."""
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in sorted(status.metrics.items()))
    measured = f" (version {status.metrics_version}: {metrics})" if metrics else ""
    lines = [
        (
            f"{status.project}: {status.state}, version {status.version} of "
            f"{status.versions_planned}{measured}"
        )
    ]
    if status.target:
        reached = status.target_reached_at_version
        sign = ">=" if status.target.direction == "at_least" else "<="
        aim = f"{status.target.metric} {sign} {status.target.value:g}"
        told = "not reached yet" if reached is None else f"reached at version {reached}"
        lines.append(f"  target {aim}: {told}")
    if status.round:
        lines.append(
            f"  next version: {status.round.valid} of {status.round.units} units verified, "
            f"{status.round.quorum} needed"
        )
    counts = status.counts
    lines.append(
        f"  {counts.hosts} hosts, {counts.in_flight} units in flight, "
        f"{counts.verified} results verified, {counts.refused} refused"
    )
    return lines
