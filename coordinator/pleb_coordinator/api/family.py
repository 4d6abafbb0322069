"""A family's status, from those of its members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.status import FamilyMember, FamilyStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["family_status"]


def family_status(name: str, found: Sequence[ProjectStatus]) -> FamilyStatus:
    """Return the status of the family; `found` are its members' in order.

    Raises:
        Refusal: `unknown_project`: it has none.
    """
    if not found or found[0].family is None:
        message = f"There is no family of projects {name!r} here: check its name."
        raise Refusal(RefusalCode.UNKNOWN_PROJECT, message)
    first, family = found[0], found[0].family
    members = [_member(status, family.number_of(status.project)) for status in found]
    metric = first.target.metric if first.target else "loss"
    sign = -1 if first.target and first.target.direction == "at_least" else 1
    values = {
        member.project: sign * member.best_metrics[metric]
        for member in members
        if metric in member.best_metrics
    }
    return FamilyStatus(
        family=name,
        kind=family.kind,
        title=_title(first),
        description=first.description,
        data_licence=first.data_licence,
        contact=first.contact,
        metric=metric,
        best_member=min(values, key=lambda project: values[project], default=""),
        members=members,
        planned_members=len(family.members),
        attach_link=first.attach_link,
        pleb_link=first.pleb_link,
        updated_at=max(status.updated_at for status in found),
    )


def _title(status: ProjectStatus) -> str:
    """Return the family's title: the member's without its number."""
    return status.title.rpartition(", ")[0] or status.title


def _member(status: ProjectStatus, number: int) -> FamilyMember:
    best = next((p for p in status.series if p.version == status.best_version), None)
    return FamilyMember(
        project=status.project,
        number=number,
        state=status.state,
        version=status.version,
        versions_planned=status.versions_planned,
        settings=status.family.settings if status.family else {},
        best_version=status.best_version,
        best_metrics=best.metrics if best else {},
        train_loss=status.train_loss,
        metrics=status.metrics,
        metrics_version=status.metrics_version,
        waiting=status.waiting,
        counts=status.counts,
        series=status.series,
    )
