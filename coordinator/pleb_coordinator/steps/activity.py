"""activity: what moves a project between active, finished, paused and archived.

Everything that may end or continue a project (a version, an evaluation, a step back, new metadata)
calls `settle` in its own transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.ending import best_version, ending
from pleb_coordinator.core.halving import Trial, halved
from pleb_coordinator.core.holdout import points_of
from pleb_coordinator.core.project_state import PROJECT_MOVES, ProjectEvent
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.steps.family import family_members
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.core.holdout import Point
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import Activity, ProjectMetadata

__all__ = ["best_of", "follow_researcher", "move_project", "points", "settle"]

_ASKED_FOR: Final[Mapping[Activity, tuple[ProjectEvent, ReasonCode | None]]] = {
    "active": (ProjectEvent.RESUMED, None),
    "finishing": (ProjectEvent.RESUMED, None),
    "paused": (ProjectEvent.PAUSED, ReasonCode.RESEARCHER_PAUSED),
    "archived": (ProjectEvent.ARCHIVED, ReasonCode.RESEARCHER_ARCHIVED),
}
_NO_NOTE: Final = "no reason was given"


def move_project(
    tx: Transaction, project: Project, event: ProjectEvent, why: Reason | None, now: float
) -> bool:
    """Change the project's state; False: the event changes nothing in the one that it has.

    `why` is what hosts and people read while it is not active.
    """
    moved = _move(tx, project, event, why, now)
    if moved:
        settle(tx, project.id, now)
    return moved


def _move(
    tx: Transaction, project: Project, event: ProjectEvent, why: Reason | None, now: float
) -> bool:
    state = PROJECT_MOVES.get((project.state, event))
    if state is None or not tx.projects.set_state(project.id, project.state, state, why):
        return False
    tx.events.add(project.id, now, str(event), why=why, version=project.version)
    return True


def settle(tx: Transaction, project_id: int, now: float) -> None:
    """End an active project whose training is over; continue a finished one whose is not.

    The open round stays as it is: no unit of it is handed out while the project is finished, and
    training goes on with it if the project is continued. What one trial of a sweep has reached may
    end or continue the others.
    """
    project = tx.projects.get(project_id)
    trials = _trials(tx, project)
    _settle(tx, project, trials, now)
    for trial in trials:
        if trial.project != project.name:
            _settle(tx, tx.projects.find(trial.project), trials, now)


def _settle(tx: Transaction, project: Project, trials: Sequence[Trial], now: float) -> None:
    if project.state not in {ProjectState.ACTIVE, ProjectState.FINISHED}:
        return
    measured = points(tx, project)
    why = ending(project.metadata, project.version, measured, extended=project.extended)
    if why is None and trials and project.metadata.family is not None:
        why = halved(project.metadata.family, project.name, trials)
    if why is None and project.state is ProjectState.FINISHED:
        _move(tx, project, ProjectEvent.CONTINUED, None, now)
    elif why is not None and project.state is ProjectState.ACTIVE:
        _move(tx, project, ProjectEvent.ENDED, why, now)
    elif why != project.stopped_for:
        tx.projects.set_state(project.id, project.state, project.state, why)


def _trials(tx: Transaction, project: Project) -> list[Trial]:
    """Return the trials of the project's sweep, if what it has come to may matter to any of them.

    Empty: it is in no sweep whose trials are compared, or is still training for its first rung.
    """
    family = project.metadata.family
    if family is None or not family.rungs:
        return []
    if project.state is ProjectState.ACTIVE and project.version < family.rungs[0].version:
        return []
    found = []
    for member in family_members(tx, family.name):
        if member.state in {ProjectState.ACTIVE, ProjectState.FINISHED}:
            known = points(tx, member)
            why = ending(member.metadata, member.version, known, extended=member.extended)
            found.append(Trial(member.name, member.version, why is not None, known))
    return found


def follow_researcher(
    tx: Transaction, before: Project, metadata: ProjectMetadata, now: float
) -> None:
    """Pause, resume or archive the project if new metadata ask for something else than before.

    A renewal of what was asked for before changes nothing, so the operator's word stays.
    """
    if metadata.activity == before.metadata.activity:
        return
    event, code = _ASKED_FOR[metadata.activity]
    why = None if code is None else because(code, text=metadata.activity_note or _NO_NOTE)
    move_project(tx, tx.projects.get(before.id), event, why, now)


def best_of(tx: Transaction, project: Project, epoch: int) -> int | None:
    """Return the best version of an epoch; None: none was evaluated."""
    return best_version(points(tx, project, epoch))


def points(tx: Transaction, project: Project, epoch: int | None = None) -> list[Point]:
    """Return the evaluations that the epoch's newest version descends from, oldest first.

    None: the epoch that the project is in.
    """
    place = (project.id, project.epoch if epoch is None else epoch)
    evaluations, restores = tx.projects.evaluations(*place), tx.versions.restores(*place)
    return points_of(evaluations, restores, project.metadata.target)
